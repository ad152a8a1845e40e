"""Which rows hold a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Posting:
    """Rows that hold one value, with the value's share of the row's feature."""

    def __init__(self) -> None:
        self._held: dict[int, float] = {}
        self._arrays: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None

    def __len__(self) -> int:
        return len(self._held)

    def put(self, row: int, held: float) -> None:
        """Add a row, or change what it holds; `held` is 1/√n for one of n values."""
        self._held[row] = held
        self._arrays = None

    def drop(self, row: int) -> None:
        """Take a row out that is in."""
        del self._held[row]
        self._arrays = None

    @property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the rows, int64, and what each holds, float32; valid until the next change."""
        if self._arrays is None:
            rows = np.fromiter(self._held.keys(), dtype=np.int64, count=len(self._held))
            held = np.fromiter(self._held.values(), dtype=np.float32, count=len(self._held))
            self._arrays = rows, held
        return self._arrays
