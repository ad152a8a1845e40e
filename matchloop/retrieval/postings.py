"""Which rows hold a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEWEST_PENDING = 256


class Posting:
    """Rows that hold one value, with the value's share of the row's feature.

    Eight bytes a row: changes wait beside the arrays until these are asked for, or are many.

    Parameters
    ----------
    code
        Of the value; anything the owner likes.
    """

    __slots__ = ("_added", "_dropped", "_end", "_held", "_rows", "_start", "code")

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self._rows, self._held = _NO_ROWS, _NO_SHARES  # from _start to _end; others may have the rest
        self._start = self._end = 0
        self._added: dict[int, float] | None = None
        self._dropped: set[int] | None = None  # all of them in _rows

    def __len__(self) -> int:
        return self._end - self._start - len(self._dropped or ()) + len(self._added or ())

    def put(self, row: int, held: float) -> None:
        """Add a row that is not in; `held` is 1/√n for one of n values."""
        if self._added is None:
            self._added = {}
        self._added[row] = held
        if len(self._added) > max(_FEWEST_PENDING, (self._end - self._start) // 4):
            self._settle()

    def drop(self, row: int) -> None:
        """Take a row out that is in."""
        if self._added is not None and row in self._added:
            del self._added[row]
            return
        if self._dropped is None:
            self._dropped = set()
        self._dropped.add(row)
        if len(self._dropped) > max(_FEWEST_PENDING, (self._end - self._start) // 4):
            self._settle()

    @property
    def arrays(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the rows, int32, and what each holds, float32; valid until the next change."""
        if self._added or self._dropped:
            self._settle()
        return self._rows[self._start : self._end], self._held[self._start : self._end]

    @classmethod
    def of(
        cls, rows: NDArray[np.int32], held: NDArray[np.float32], start: int, end: int, code: int
    ) -> Posting:
        """Return the posting of a part of these arrays, which are kept: a view of each would take more."""
        posting = cls(code)
        posting._rows, posting._held, posting._start, posting._end = rows, held, start, end
        return posting

    def _settle(self) -> None:
        rows, held = self._rows[self._start : self._end], self._held[self._start : self._end]
        if self._dropped:
            kept = ~np.isin(rows, np.fromiter(self._dropped, dtype=np.int32, count=len(self._dropped)))
            rows, held = rows[kept], held[kept]
        if self._added:
            count = len(self._added)
            rows = np.concatenate([rows, np.fromiter(self._added.keys(), dtype=np.int32, count=count)])
            held = np.concatenate([held, np.fromiter(self._added.values(), dtype=np.float32, count=count)])
        self._rows, self._held, self._start, self._end = rows, held, 0, len(rows)
        self._added = self._dropped = None


_NO_ROWS = np.empty(0, dtype=np.int32)
_NO_SHARES = np.empty(0, dtype=np.float32)
