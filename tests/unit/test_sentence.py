"""The sentence-transformer adapter, over a model of our own."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchloop.errors import InvalidInput
from matchloop.features import load_embedder
from matchloop.features.sentence import LIBRARY, SentenceEmbedder


class Model:
    """Rows of (length, 1, 0, ...); remembers what it was asked."""

    def __init__(self, width: int = 8) -> None:
        self.width = width
        self.asked: list[list[str]] = []

    def get_sentence_embedding_dimension(self) -> int:
        return self.width

    def encode(self, sentences: list[str], **options: Any) -> NDArray[np.float32]:
        self.asked.append(sentences)
        out = np.zeros((len(sentences), self.width), dtype=np.float32)
        out[:, 0], out[:, 1] = [len(sentence) for sentence in sentences], 1.0
        return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "sub" / "weights").write_bytes(b"123")
    return tmp_path


def test_rows_are_unit_in_order_and_blank_texts_are_zero(folder: Path) -> None:
    model = Model()
    embedder = SentenceEmbedder(folder, 8, open_model=lambda _: model)
    rows = embedder.embed(["abc", "", "a", " \n"])
    assert rows.shape == (4, 8)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1.0, 0.0, 1.0, 0.0])
    assert rows[0, 0] / rows[0, 1] == pytest.approx(3.0)
    assert model.asked == [["abc", "a"]]
    assert embedder.embed([]).shape == (0, 8)
    assert embedder.embed([""]).tolist() == [[0.0] * 8]
    assert len(model.asked) == 1


def test_its_name_depends_on_every_file_and_on_no_path(folder: Path, tmp_path_factory: Any) -> None:
    def name() -> str:
        return SentenceEmbedder(folder, 8, open_model=lambda _: Model()).name

    first = name()
    copy = tmp_path_factory.mktemp("copy")
    (copy / "sub").mkdir()
    for part in ("config.json", "sub/weights"):
        (copy / part).write_bytes((folder / part).read_bytes())
    assert SentenceEmbedder(copy, 8, open_model=lambda _: Model()).name == first
    (folder / "sub" / "weights").write_bytes(b"124")
    assert name() != first


def test_another_width_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="384 wide, the use case says 8"):
        SentenceEmbedder(folder, 8, open_model=lambda _: Model(384))


def test_no_folder_no_library_and_no_model_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="is no folder"):
        load_embedder(folder / "none", 8)
    monkeypatch.setitem(sys.modules, LIBRARY, None)
    with pytest.raises(InvalidInput, match=r"install matchloop\[sentence\]"):
        load_embedder(folder, 8)
    library = ModuleType(LIBRARY)

    def refuse(path: str, *, local_files_only: bool) -> Model:
        assert local_files_only
        raise OSError("no modules.json")

    library.SentenceTransformer = refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, LIBRARY, library)
    with pytest.raises(InvalidInput, match=r"holds no sentence-transformer: no modules\.json"):
        load_embedder(folder, 8)
    library.SentenceTransformer = lambda path, *, local_files_only: Model()  # type: ignore[attr-defined]
    assert load_embedder(folder, 8).width == 8
