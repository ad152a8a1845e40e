"""Text to a vector by a sentence-transformer at a local path; the optional extra ``sentence``."""

from __future__ import annotations

import hashlib
import importlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from matchloop.errors import InvalidInput, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LIBRARY = "sentence_transformers"
_BATCH = 64
_BLOCK = 1 << 20


class SentenceModel(Protocol):
    """What is used of ``sentence_transformers.SentenceTransformer``."""

    def encode(self, sentences: list[str], **options: Any) -> NDArray[np.float32]:
        """Return a row a sentence."""
        ...

    def get_sentence_embedding_dimension(self) -> int | None:
        """Return the length of a row."""
        ...


def open_model(folder: Path) -> SentenceModel:
    """Open a sentence-transformer; never downloads.

    Raises
    ------
    InvalidInput
        When the library is not installed, or does not take what is in the folder.
    """
    try:
        library = importlib.import_module(LIBRARY)
    except ImportError as error:
        raise _refused(f"needs {LIBRARY} ({error}): install matchloop[sentence]") from error
    try:
        model: SentenceModel = library.SentenceTransformer(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _refused(f"{folder} holds no sentence-transformer: {error}") from error
    return model


class SentenceEmbedder:
    """A `TextEmbedder` over a sentence-transformer.

    A row may differ in its last digits with what else is in the batch: the library pads texts to the longest.

    Parameters
    ----------
    folder
        Of the model's files, all of which its name depends on.
    width
        What its vectors have to be wide.
    open_model
        Opens the model in a folder.
    """

    def __init__(
        self, folder: Path, width: int, *, open_model: Callable[[Path], SentenceModel] = open_model
    ) -> None:
        if not folder.is_dir():
            raise _refused(f"{folder} is no folder")
        self._model = open_model(folder)
        found = self._model.get_sentence_embedding_dimension()
        if found != width:
            raise _refused(f"{folder} makes vectors {found} wide, the use case says {width}")
        self._width = width
        self._name = f"sentence-{width}-{_digest(folder)}"

    @property
    def name(self) -> str:
        """Name with a digest of the model's files."""
        return self._name

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self._width

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts; shape (len(texts), width), unit rows, zero rows for blank texts."""
        out = np.zeros((len(texts), self._width), dtype=np.float32)
        rows = [row for row, text in enumerate(texts) if text.strip()]
        if rows:
            found = self._model.encode(
                [texts[row] for row in rows],
                batch_size=_BATCH,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
            vectors = np.asarray(found, dtype=np.float32)  # (len(rows), width)
            sizes = np.linalg.norm(vectors, axis=1, keepdims=True)
            out[rows] = vectors / np.where(sizes > 0.0, sizes, 1.0)
        return out


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()[:16]


def _refused(description: str) -> InvalidInput:
    return InvalidInput.of([Violation("embedder", description)])
