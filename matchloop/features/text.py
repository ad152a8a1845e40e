"""Text to a fixed vector, by an embedder that needs no download."""

from __future__ import annotations

import math
import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol
from zlib import crc32

import numpy as np

from matchloop.errors import InvalidInput
from matchloop.features.sentence import SentenceEmbedder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
_CHUNK = 2048
_WORDS = 4096  # that are kept hashed: few words make up most of all texts
_SIGN = 0x80000000


class TextEmbedder(Protocol):
    """What turns texts into vectors that are near when the texts are alike.

    Attributes
    ----------
    name
        Names the embedder and all that its output depends on; a release made with another name is refused.
    width
        Length of a vector.
    """

    @property
    def name(self) -> str:
        """Name of the embedder and of what its output depends on."""
        ...

    @property
    def width(self) -> int:
        """Length of a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        Returns
        -------
        ndarray of float32, shape (len(texts), width)
            Unit rows; a zero row for a text with no words.
        """
        ...


class HashingEmbedder:
    """Words and their character n-grams, hashed with a sign (Weinberger et al. 2009, feature hashing).

    A word weighs 1 and its n-grams together weigh 1, so texts that share words, or words that share
    stems, are near. Case and compatibility forms are folded. The same text gives the same vector on every
    machine, whatever else is in the batch.

    Parameters
    ----------
    width
        Length of a vector, 8 or more.
    ngram
        Length of the character n-grams, 2 or more.
    """

    def __init__(self, width: int = 384, *, ngram: int = 3) -> None:
        if width < 8 or ngram < 2:
            raise InvalidInput(f"width {width} must be 8 or more, ngram {ngram} 2 or more")
        self._width = width
        self._ngram = ngram

    @property
    def name(self) -> str:
        """Name with all that the output depends on."""
        return f"hashing-{self._width}-w1-c{self._ngram}"

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self._width

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts; shape (len(texts), width), unit rows, zero rows for texts with no words."""
        out = np.zeros((len(texts), self._width), dtype=np.float32)
        for start in range(0, len(texts), _CHUNK):
            out[start : start + _CHUNK] = self._embed_chunk(texts[start : start + _CHUNK])
        return out

    def _embed_chunk(self, texts: Sequence[str]) -> NDArray[np.float32]:
        buckets: list[int] = []
        weights: list[float] = []
        for row, text in enumerate(texts):
            offset = row * self._width
            for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
                own, signed = _hashed(word, self._ngram, self._width)
                buckets += [offset + bucket for bucket in own]
                weights += signed
        flat = np.bincount(
            np.asarray(buckets, dtype=np.int64), np.asarray(weights), minlength=len(texts) * self._width
        )
        rows = flat.reshape(len(texts), self._width)
        norms = np.sqrt((rows * rows).sum(axis=1, keepdims=True))  # (n, 1)
        return (rows / np.where(norms > 0.0, norms, 1.0)).astype(np.float32)


@lru_cache(maxsize=_WORDS)
def _hashed(word: str, ngram: int, width: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the buckets of a word and of its n-grams, and their signed weights."""
    padded = f"<{word}>"
    grams = [padded[i : i + ngram] for i in range(max(len(padded) - ngram + 1, 1))]
    share = 1.0 / math.sqrt(len(grams))
    hashes = [crc32(f"w{word}".encode()), *[crc32(f"c{gram}".encode()) for gram in grams]]
    sizes = [1.0] + [share] * len(grams)
    return (
        tuple([(h & ~_SIGN) % width for h in hashes]),
        tuple([-size if h & _SIGN else size for h, size in zip(hashes, sizes, strict=True)]),
    )


def forget_words() -> None:
    """Let go of the words that are kept hashed: some may be of texts that have to be forgotten."""
    _hashed.cache_clear()


def load_embedder(path: Path | None, width: int = 384) -> TextEmbedder:
    """Return the embedder to use: the default when `path` is None, else the sentence-transformer there.

    Raises
    ------
    InvalidInput
        If there is no sentence-transformer at `path`, it cannot be run here, or it is not `width` wide.
    """
    return HashingEmbedder(width) if path is None else SentenceEmbedder(path, width)
