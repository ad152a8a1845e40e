"""Vectors of content retrieval by row: exact while they are few, a byte a number when they are many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FIRST_CAPACITY = 64
LEVELS = 127.0
_BLOCK = 16_384


class ContentVectors:
    """Unit vectors by row; a row without one is zero. Not safe for several threads by itself.

    Under `exact_below` rows they are kept as they are. From there on each number is a byte, times a scale of
    the row's own: a cosine is off by less than 0.01, and a million vectors of 384 take 0.4 GB instead of 1.5.

    Parameters
    ----------
    width
        Length of a vector.
    exact_below
        Where bytes begin; it stays with them.
    """

    def __init__(self, width: int, *, exact_below: int) -> None:
        self.width = width
        self._exact_below = exact_below
        self._values: NDArray[Any] = np.zeros((0, width), dtype=np.float32)
        self._scale: NDArray[np.float32] | None = None  # of bytes

    @property
    def exact(self) -> bool:
        """Whether vectors are kept as they are."""
        return self._scale is None

    def grow(self, rows: int) -> None:
        """Make place for this many rows."""
        if rows <= len(self._values):
            return
        capacity = max(FIRST_CAPACITY, rows, len(self._values) + len(self._values) // 2)
        if self._scale is None and rows >= self._exact_below:
            values = np.zeros((capacity, self.width), dtype=np.int8)
            scale = np.zeros(capacity, dtype=np.float32)
            used = len(self._values)
            values[:used], scale[:used] = _bytes(self._values)
            self._values, self._scale = values, scale
            return
        grown = np.zeros((capacity, self.width), dtype=self._values.dtype)
        grown[: len(self._values)] = self._values
        if self._scale is not None:
            self._scale = np.concatenate([self._scale, np.zeros(capacity - len(self._scale), np.float32)])
        self._values = grown

    def put(self, rows: Sequence[int], vectors: Sequence[NDArray[np.float32] | None]) -> None:
        """Set the vectors of rows that there is place for; the last wins if a row stands twice."""
        if not rows:
            return
        nothing = np.zeros(self.width, dtype=np.float32)
        given = np.stack([nothing if vector is None else vector for vector in vectors])
        if self._scale is None:
            self._values[rows] = given
        else:
            self._values[rows], self._scale[rows] = _bytes(given)

    def get(self, row: int) -> NDArray[np.float32] | None:
        """Return a copy of a row's vector, (width,); None if it has none."""
        if self._scale is None:
            vector: NDArray[np.float32] = self._values[row].copy()
            return vector if vector.any() else None
        scale = self._scale[row]
        return None if scale == 0.0 else self._values[row].astype(np.float32) * scale

    def dot(self, vector: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """Return the inner products of the first `count` rows with `vector`, (count,)."""
        if self._scale is None:
            found: NDArray[np.float32] = self._values[:count] @ vector
            return found
        parts = [
            self._values[start : min(start + _BLOCK, count)].astype(np.float32) @ vector
            for start in range(0, count, _BLOCK)
        ]
        return np.concatenate(parts) * self._scale[:count]

    def dot_rows(self, vector: NDArray[np.float32], rows: NDArray[Any]) -> NDArray[np.float32]:
        """Return the inner products of these rows with `vector`, (len(rows),)."""
        found: NDArray[np.float32] = self._values[rows].astype(np.float32, copy=False) @ vector
        return found if self._scale is None else found * self._scale[rows]

    def arrays(self, count: int) -> dict[str, NDArray[Any]]:
        """Return the first `count` rows as arrays, for `restore`."""
        found: dict[str, NDArray[Any]] = {"vectors": self._values[:count]}
        return found if self._scale is None else found | {"scales": self._scale[:count]}

    def restore(self, vectors: NDArray[Any], scales: NDArray[np.float32] | None) -> None:
        """Take what `arrays` gave; the arrays are kept."""
        if vectors.shape[1:] != (self.width,) or (scales is not None and len(scales) != len(vectors)):
            raise ValueError(f"vectors of shape {vectors.shape}, {self.width} wide are kept")
        self._values, self._scale = vectors, scales


def _bytes(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return vectors, (n, width), as bytes, and the scale of each row, (n,)."""
    largest = np.abs(vectors).max(axis=1, initial=0.0)
    scale = (largest / LEVELS).astype(np.float32)
    values = np.rint(vectors / np.where(scale > 0.0, scale, 1.0)[:, None])
    return values.astype(np.int8), scale
