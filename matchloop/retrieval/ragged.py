"""Arrays that grow, and lines of different lengths in one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_LEAST_WASTE = 65_536


class Grown:
    """An array that is appended to; keeps the one it is given until that is full."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._kept, self._used = values, len(values)

    def __len__(self) -> int:
        return self._used

    @property
    def values(self) -> NDArray[Any]:
        """What is in it: a view, valid until the next `extend`."""
        return self._kept[: self._used]

    def extend(self, more: NDArray[Any] | Sequence[float]) -> None:
        """Append."""
        total = self._used + len(more)
        if total > len(self._kept):
            kept = np.empty(total + total // 2, dtype=self._kept.dtype)
            kept[: self._used] = self.values
            self._kept = kept
        self._kept[self._used : total] = more
        self._used = total


class Ragged:
    """Numbers line by line, four bytes each; a line that is replaced leaves a gap until gaps are many."""

    def __init__(self) -> None:
        self.restore(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self._start)

    def add(self) -> None:
        """Append an empty line."""
        self._start.extend([0])
        self._count.extend([0])

    def put(self, line: int, numbers: Sequence[int]) -> None:
        """Replace a line."""
        self._wasted += int(self._count.values[line])
        self._start.values[line], self._count.values[line] = len(self._numbers), len(numbers)
        self._numbers.extend(numbers)
        if self._wasted > _LEAST_WASTE + len(self._numbers) // 2:
            self.restore(*self.all())

    def get(self, line: int) -> NDArray[np.int32]:
        """Return a line; valid until the next change."""
        start = self._start.values[line]
        found: NDArray[np.int32] = self._numbers.values[start : start + self._count.values[line]]
        return found

    def of(self, lines: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the numbers of these lines, one after the other, and how many each has."""
        counts = self._count.values[lines]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        at = np.arange(total) + np.repeat(self._start.values[lines] - (ends - counts), counts)
        return self._numbers.values[at], counts

    def all(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the numbers of all lines, and how many each has."""
        return self.of(np.arange(len(self)))

    def restore(self, numbers: NDArray[np.int32], counts: NDArray[np.int64]) -> None:
        """Take what `all` gave, in place of what there is; the arrays are kept."""
        self._numbers, self._count = Grown(numbers), Grown(counts)
        self._start = Grown(np.cumsum(counts) - counts)
        self._wasted = 0
