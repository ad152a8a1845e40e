"""Decayed counts of events, overall and within the values of a segment."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SegmentColumn:
    """The values of one segment that each of n events has: `entries[entry[event]]`.

    Parameters
    ----------
    entries
        Distinct values, () for none.
    entry
        int64 (n,).
    """

    entries: Sequence[tuple[str, ...]]
    entry: NDArray[np.int64]

    @classmethod
    def of(cls, values: Sequence[tuple[str, ...]]) -> SegmentColumn:
        """Take an entry per event."""
        return cls(values, np.arange(len(values)))


@dataclass(frozen=True, slots=True)
class SegmentCounts:
    """Counts within the values of one segment, as sparse rows.

    Parameters
    ----------
    values
        Distinct feature values, one per row.
    start
        int64, shape (len(values) + 1,): row v is `item[start[v]:start[v + 1]]`.
    item
        int64: item rows.
    count
        float64, same shape: decayed weighted counts, over 0.
    """

    values: list[str]
    start: NDArray[np.int64]
    item: NDArray[np.int64]
    count: NDArray[np.float64]


def decayed(
    item_rows: NDArray[np.int64],
    age_days: NDArray[np.floating],
    weights: NDArray[np.floating],
    items: int,
    half_life_days: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the events' item rows and decayed weights, 0 for those that do not count."""
    rows = np.asarray(item_rows, dtype=np.int64)
    if not (rows.shape == age_days.shape == weights.shape and rows.ndim == 1):
        raise InvalidInput(f"item rows {rows.shape}, ages {age_days.shape}, weights {weights.shape}")
    if not (np.isfinite(age_days).all() and np.isfinite(weights).all() and half_life_days > 0.0):
        raise InvalidInput("ages and weights must be finite, half_life_days over 0")
    if len(rows) and (rows.min() < 0 or rows.max() >= items):
        raise InvalidInput(f"an item row is outside 0 to {items - 1}")
    decay = 0.5 ** (np.clip(age_days, 0.0, None).astype(np.float64) / half_life_days)
    return rows, np.clip(weights, 0.0, None) * decay


def sums(place: NDArray[np.int64], amounts: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Return the sum of `amounts` by place, float64 (length,)."""
    return np.bincount(place, amounts, minlength=length).astype(np.float64)


def segment_counts(
    column: SegmentColumn, rows: NDArray[np.int64], counts: NDArray[np.float64], items: int
) -> SegmentCounts:
    """Sum the counts of events (n,) on items `rows` (n,) within each value of `column`."""
    if len(column.entry) != len(rows):
        raise InvalidInput(f"{len(column.entry)} entries of segment values, {len(rows)} events")
    names = sorted(set(chain.from_iterable(column.entries)))
    place = {name: at for at, name in enumerate(names)}
    # Sums by (entry, item) first: entries are few, events many.
    pair, at = np.unique(column.entry * items + rows, return_inverse=True)
    total = sums(at, counts, len(pair))
    of_entry, of_item = np.divmod(pair, max(items, 1))
    held = np.array([len(set(entry)) for entry in column.entries], dtype=np.int64)
    flat = np.array([place[v] for entry in column.entries for v in dict.fromkeys(entry)], dtype=np.int64)
    begin = np.concatenate([[0], np.cumsum(held)])
    of = held[of_entry] if len(held) else np.zeros(0, np.int64)
    within = np.arange(int(of.sum())) - np.repeat(np.cumsum(of) - of, of)
    value = flat[np.repeat(begin[of_entry], of) + within]
    pair, at = np.unique(value * items + np.repeat(of_item, of), return_inverse=True)
    total = sums(at, np.repeat(total, of), len(pair))
    kept, total = pair[total > 0.0], total[total > 0.0]
    of_value, of_item = np.divmod(kept, max(items, 1))
    start = np.searchsorted(of_value, np.arange(len(names) + 1)).astype(np.int64)
    return SegmentCounts(names, start, of_item.astype(np.int64), total)


def check_counts(what: str, counts: NDArray[np.float64]) -> None:
    """Raise InvalidInput unless all counts are finite and 0 or more."""
    if not np.isfinite(counts).all() or (len(counts) and counts.min() < 0.0):
        raise InvalidInput(f"{what}: a count is negative or not finite")


def check_segment(name: str, segment: SegmentCounts, reference: NDArray[np.float64]) -> None:
    """Raise InvalidInput unless the arrays fit and count only what the reference (n_items,) does."""
    start, item, items = segment.start, segment.item, len(reference)
    whole = start.shape == (len(segment.values) + 1,) and item.shape == segment.count.shape
    if not whole or start[0] != 0 or start[-1] != len(item) or (np.diff(start) < 0).any():
        raise InvalidInput(f"segment `{name}`: the arrays do not fit together")
    if len(item) and (item.min() < 0 or item.max() >= items):
        raise InvalidInput(f"segment `{name}`: an item row is outside 0 to {items - 1}")
    check_counts(f"segment `{name}`", segment.count)
    if (reference[item] <= 0.0).any():
        raise InvalidInput(f"segment `{name}`: counts an item that the reference does not")
