"""The columns that one feature takes in an encoded row, by feature type."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol
from zlib import crc32

import numpy as np

from matchloop.entities import Categorical, Embedding, Numeric, Text, discrete_values
from matchloop.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from matchloop.entities import FeatureValue
    from matchloop.features.text import TextEmbedder

CLIP = 5.0
"""Standardised numbers are clipped to this many standard deviations."""


class Columns(Protocol):
    """Adjacent columns of an encoded row that hold one feature; the last one says that it is missing."""

    @property
    def width(self) -> int:
        """How many columns."""
        ...

    def fill(self, out: NDArray[np.float32], values: Sequence[FeatureValue | None]) -> None:
        """Write the values of n entities to `out`, zeros of shape (n, width)."""
        ...

    def to_state(self) -> dict[str, Any]:
        """Return what was fitted, as JSON can hold it."""
        ...


class DiscreteColumns:
    """Categorical and multi: a column by known value, then hash buckets for the others, then missing.

    An entity's values share a unit of length: k different values have 1/√k each.

    Parameters
    ----------
    vocabulary
        Known values, each with a column, in column order.
    buckets
        Columns that all other values are hashed to, 1 or more.
    """

    def __init__(self, vocabulary: Sequence[str], buckets: int) -> None:
        self.vocabulary = tuple(vocabulary)
        self.buckets = buckets
        self._column = {value: column for column, value in enumerate(self.vocabulary)}

    @classmethod
    def fit(
        cls, values: Sequence[FeatureValue | None], *, max_values: int, min_count: int, buckets: int
    ) -> DiscreteColumns:
        """Keep the `max_values` most frequent values that at least `min_count` entities have."""
        counts = Counter(v for value in values for v in set(discrete_values(value)) if v)
        kept = [value for value, count in counts.items() if count >= min_count]
        kept.sort(key=lambda value: (-counts[value], value))
        return cls(kept[:max_values], buckets)

    @property
    def width(self) -> int:
        """Vocabulary, buckets and the missing column."""
        return len(self.vocabulary) + self.buckets + 1

    def fill(self, out: NDArray[np.float32], values: Sequence[FeatureValue | None]) -> None:
        """Write unit multi-hot rows."""
        rows: list[int] = []
        columns: list[int] = []
        sizes: list[float] = []
        for row, value in enumerate(values):
            if isinstance(value, Categorical) and value.value:
                rows.append(row)
                columns.append(self._column_of(value.value))
                sizes.append(1.0)
                continue
            held = [v for v in dict.fromkeys(discrete_values(value)) if v]
            if not held:
                out[row, -1] = 1.0
                continue
            rows += [row] * len(held)
            columns += map(self._column_of, held)
            sizes += [1.0 / math.sqrt(len(held))] * len(held)
        if rows:
            np.add.at(out, (np.asarray(rows), np.asarray(columns)), np.asarray(sizes, dtype=np.float32))

    def _column_of(self, value: str) -> int:
        known = self._column.get(value)
        return len(self.vocabulary) + crc32(value.encode()) % self.buckets if known is None else known

    def to_state(self) -> dict[str, Any]:
        """Return vocabulary and buckets."""
        return {"vocabulary": list(self.vocabulary), "buckets": self.buckets}


class NumericColumns:
    """A number in standard deviations from the mean, clipped at ±5, then missing."""

    width = 2

    def __init__(self, mean: float, deviation: float) -> None:
        if not (math.isfinite(mean) and math.isfinite(deviation) and deviation > 0.0):
            raise InvalidInput(f"mean {mean} and deviation {deviation} must be finite, deviation over 0")
        self.mean = mean
        self.deviation = deviation

    @classmethod
    def fit(cls, values: Sequence[FeatureValue | None]) -> NumericColumns:
        """Measure mean and deviation; a deviation of zero counts as one."""
        numbers = np.asarray([v.value for v in values if isinstance(v, Numeric)], dtype=np.float64)
        return cls(float(numbers.mean()), float(numbers.std()) or 1.0)

    def fill(self, out: NDArray[np.float32], values: Sequence[FeatureValue | None]) -> None:
        """Write the standardised numbers."""
        numbers = np.asarray([v.value if isinstance(v, Numeric) else np.nan for v in values])
        missing = np.isnan(numbers)
        out[:, 0] = np.where(missing, 0.0, np.clip((numbers - self.mean) / self.deviation, -CLIP, CLIP))
        out[:, 1] = missing

    def to_state(self) -> dict[str, Any]:
        """Return mean and deviation."""
        return {"mean": self.mean, "deviation": self.deviation}


class TextColumns:
    """The text's embedding as it is, then missing."""

    def __init__(self, embedder: TextEmbedder) -> None:
        self._embedder = embedder

    @property
    def width(self) -> int:
        """The embedder's width and the missing column."""
        return self._embedder.width + 1

    def fill(self, out: NDArray[np.float32], values: Sequence[FeatureValue | None]) -> None:
        """Write the embeddings; an empty text is a missing one."""
        texts = [v.value if isinstance(v, Text) else "" for v in values]
        out[:, :-1] = self._embedder.embed(texts)
        out[:, -1] = ~out[:, :-1].any(axis=1)

    def to_state(self) -> dict[str, Any]:
        """Return nothing: the embedder is named once for the whole encoder."""
        return {}


class EmbeddingColumns:
    """The client's vector, scaled to unit length, then missing; a zero vector is a missing one."""

    def __init__(self, length: int) -> None:
        self._length = length

    @property
    def width(self) -> int:
        """The vector's length and the missing column."""
        return self._length + 1

    def fill(self, out: NDArray[np.float32], values: Sequence[FeatureValue | None]) -> None:
        """Write the unit vectors."""
        for row, value in enumerate(values):
            if isinstance(value, Embedding):
                out[row, :-1] = unit(np.asarray(value.vector, dtype=np.float64))
        out[:, -1] = ~out[:, :-1].any(axis=1)

    def to_state(self) -> dict[str, Any]:
        """Return nothing: the width is named once for the whole encoder."""
        return {}


def unit(vector: NDArray[Any]) -> NDArray[np.float32]:
    """Return `vector` at unit length as float32; a zero vector stays zero."""
    size = float(np.sqrt((vector.astype(np.float64) ** 2).sum()))
    return (vector / size if size > 0.0 else vector).astype(np.float32)
