"""Columns over rows: one writer appends and replaces, any number of readers look without a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from candidate_svc.packed import join_texts, split_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

FIRST_CAPACITY = 1024


class Column:
    """A growing array of one value a row; what was never set holds `fill`."""

    def __init__(self, dtype: DTypeLike, fill: float) -> None:
        self._fill = fill
        self._values: NDArray[Any] = np.full(FIRST_CAPACITY, fill, dtype=dtype)

    def set(self, row: int, value: float) -> None:
        """Set the value of a row, 0 or more; by the writer only."""
        if row >= len(self._values):
            grown = np.full(max(row + 1, 2 * len(self._values)), self._fill, dtype=self._values.dtype)
            grown[: len(self._values)] = self._values
            self._values = grown
        self._values[row] = value

    def fill(self, values: NDArray[Any]) -> None:
        """Set the first rows to `values`; by the writer only."""
        whole = np.full(max(FIRST_CAPACITY, len(values)), self._fill, dtype=self._values.dtype)
        whole[: len(values)] = values
        self._values = whole

    def get(self, row: int) -> Any:
        """Return the value of a row as a plain number."""
        values = self._values
        return values[row].item() if row < len(values) else self._fill

    def upto(self, count: int) -> NDArray[Any]:
        """Return the first `count` rows, (count,); not to be written to."""
        values = self._values
        if len(values) < count:
            padded = np.full(count, self._fill, dtype=values.dtype)
            padded[: len(values)] = values
            return padded
        return values[:count]


class Postings:
    """The rows that hold each value of one categorical or multi feature."""

    def __init__(self) -> None:
        # By value an array and how much of it is in use: added rows go behind that, where no reader looks.
        self._rows: dict[str, tuple[NDArray[np.int32], int]] = {}

    def update(self, changes: Iterable[tuple[int, Sequence[str], Sequence[str]]]) -> None:
        """Apply (row, values before, values now) changes, no row twice."""
        added: dict[str, list[int]] = {}
        removed: dict[str, list[int]] = {}
        for row, before, now in changes:
            for value in set(now).difference(before):
                added.setdefault(value, []).append(row)
            for value in set(before).difference(now):
                removed.setdefault(value, []).append(row)
        for value in added.keys() | removed.keys():
            self._replace(value, added.get(value, []), removed.get(value, []))

    def _replace(self, value: str, added: list[int], removed: list[int]) -> None:
        rows, used = self._rows.get(value, (np.empty(0, dtype=np.int32), 0))
        if removed:
            rows = rows[:used][~np.isin(rows[:used], removed)]
            used = len(rows)
        total = used + len(added)
        if total > len(rows):
            grown = np.empty(total + used // 2, dtype=np.int32)
            grown[:used] = rows[:used]
            rows = grown
        rows[used:total] = added
        if total:
            self._rows[value] = (rows, total)
        else:
            self._rows.pop(value, None)

    def rows(self, value: str, count: int) -> NDArray[np.int32]:
        """Return the rows under `count` that hold the value, in no order."""
        held, used = self._rows.get(value, (np.empty(0, dtype=np.int32), 0))
        rows = held[:used]
        return rows[rows < count]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all as arrays, for `restore`."""
        texts, ends = join_texts(self._rows)
        parts = [rows[:used] for rows, used in self._rows.values()]
        return {
            "values": texts,
            "value_ends": ends,
            "used": np.asarray([len(part) for part in parts], dtype=np.int64),
            "rows": np.concatenate(parts) if parts else np.empty(0, dtype=np.int32),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what `arrays` gave."""
        values = split_texts(arrays["values"], arrays["value_ends"])
        parts = np.split(arrays["rows"].astype(np.int32), np.cumsum(arrays["used"])[:-1])
        self._rows = {value: (part, len(part)) for value, part in zip(values, parts, strict=False)}
