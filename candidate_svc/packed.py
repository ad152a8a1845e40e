"""Features of an item in a few bytes, for a million of them in memory."""

from __future__ import annotations

import marshal
import sys
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from matchloop.entities import Categorical, Embedding, EntityId, FeatureValue, Multi, Numeric, Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray


class FeaturePacker:
    """Features to bytes and back; feature names and discrete values are kept once for all items.

    Vectors that were derived from an item's texts are left out: the texts say it all. Others keep single
    precision. With one packer, the same features give the same bytes. One writer packs; any number of readers
    unpack what is published to them.

    Parameters
    ----------
    words
        Of the packer that packed what is to be unpacked.
    """

    def __init__(self, words: Sequence[str] = ()) -> None:
        self._words = list(words)
        self._code = {word: code for code, word in enumerate(self._words)}
        self._single: dict[int, Categorical] = {}
        self._alone: dict[int, tuple[str]] = {}

    @property
    def words(self) -> Sequence[str]:
        """Every name and value there was, by code; not to be changed."""
        return self._words

    def pack(self, features: Mapping[str, FeatureValue]) -> bytes:
        """Return bytes that `unpack` makes the features of again."""
        packed: list[Any] = []
        for name in sorted(features):
            value = features[name]
            if isinstance(value, Embedding) and value.embedder:
                continue
            packed += (self._coded(name), self._packed(value))
        return marshal.dumps(tuple(packed), 2)  # version 2: no references, equal values give equal bytes

    def _packed(self, value: FeatureValue) -> object:
        match value:
            case Categorical(word):
                return self._coded(word)
            case Multi(words):
                return tuple([self._coded(word) for word in words])
            case Numeric(number):
                return float(number)
            case Text(text):
                return text
            case Embedding(vector):
                return np.asarray(vector, dtype=np.float32).tobytes()

    def _coded(self, word: str) -> int:
        code = self._code.get(word)
        if code is None:
            code = len(self._words)
            self._words.append(word)
            self._code[word] = code
        return code

    def unpack(self, packed: bytes) -> Mapping[str, FeatureValue]:
        """Return the features that were packed."""
        parts = marshal.loads(packed)  # noqa: S302 - of `pack`, never from outside
        pairs = zip(parts[::2], parts[1::2], strict=True)
        return MappingProxyType({self._words[name]: self._unpacked(value) for name, value in pairs})

    def discrete(self, packed: bytes) -> dict[str, tuple[str, ...]]:
        """Return `discrete_features` of the features that were packed, without making all of them."""
        words, parts = self._words, marshal.loads(packed)  # noqa: S302 - of `pack`, never from outside
        found: dict[str, tuple[str, ...]] = {}
        for name, value in zip(parts[::2], parts[1::2], strict=True):
            if isinstance(value, int):
                found[words[name]] = self._alone.get(value) or self._alone.setdefault(value, (words[value],))
            elif isinstance(value, tuple) and value:
                found[words[name]] = tuple([words[code] for code in value])
        return found

    def _unpacked(self, value: object) -> FeatureValue:
        if isinstance(value, int):
            return self._single.get(value) or self._single.setdefault(value, Categorical(self._words[value]))
        if isinstance(value, tuple):
            return Multi(tuple([self._words[code] for code in value]))
        if isinstance(value, float):
            return Numeric(value)
        if isinstance(value, str):
            return Text(value)
        assert isinstance(value, bytes)
        return Embedding(tuple(np.frombuffer(value, dtype=np.float32).tolist()))


NO_FEATURES = FeaturePacker().pack({})
"""What every packer makes of an item without features."""


def join(parts: Iterable[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return byte strings as one array, and where each ends."""
    whole = list(parts)
    ends = np.cumsum(np.fromiter(map(len, whole), dtype=np.int64, count=len(whole)), dtype=np.int64)
    return np.frombuffer(b"".join(whole), dtype=np.uint8), ends


def split(data: NDArray[np.uint8], ends: NDArray[np.int64]) -> list[bytes]:
    """Return what `join` joined."""
    whole, bounds = data.tobytes(), [0, *ends.tolist()]
    return [whole[start:end] for start, end in pairwise(bounds)]


def join_texts(texts: Iterable[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return texts as one array of UTF-8, and where each ends."""
    return join(text.encode("utf-8", "surrogatepass") for text in texts)


def split_ids(data: NDArray[np.uint8], ends: NDArray[np.int64]) -> list[EntityId]:
    """Return ids that `join_texts` joined; an id that stands elsewhere too takes no memory of its own."""
    return [EntityId(sys.intern(text)) for text in split_texts(data, ends)]


def split_texts(data: NDArray[np.uint8], ends: NDArray[np.int64]) -> list[str]:
    """Return what `join_texts` joined."""
    return [part.decode("utf-8", "surrogatepass") for part in split(data, ends)]
