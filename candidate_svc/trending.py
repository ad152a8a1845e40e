"""Listing items by popularity, page by page, in an order that any process can go on with."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray

    from candidate_svc.counts import ItemCounts
    from candidate_svc.popularity import PopularPart
    from candidate_svc.rows import ItemRows

STEPS = 2.0**20
"""Levels a halving of weight: weights closer than this are equal, whatever rounding made of them."""

NEVER = np.int64(-(2**62))
"""Level of an item that nobody reacted to."""


class Position(NamedTuple):
    """Where a page ended: the last item's level, and its tie break among items of that level."""

    level: int
    tie: int


@dataclass(frozen=True, slots=True)
class TrendingPage:
    """Rows and shares, best first, and where to go on; None: that was all."""

    rows: NDArray[np.int64]
    share: NDArray[np.float64]
    end: Position | None


class Trending:
    """Items of one use case by time-decayed weight.

    The order is by level, and among equals by a hash of the id. The level is the logarithm of the weight as
    of a fixed time: decay does not move it, a reaction raises it. So it means the same in every process and
    over restarts; and going on from a position gives no item twice, since what was given can only rise.
    """

    def __init__(self, rows: ItemRows, counts: ItemCounts) -> None:
        self._rows = rows
        self._counts = counts
        self._lock = threading.Lock()
        self._ties: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def page(
        self,
        part: PopularPart | None,
        allowed: NDArray[np.bool_],
        size: int,
        after: Position | None,
        now: datetime,
    ) -> TrendingPage:
        """Return the next `size` rows of those allowed, (count,) bool, after a position.

        Parameters
        ----------
        part
            The release's; its overall counts stand in while nothing is counted live.
        size
            1 or more.
        after
            Of the page before; None: the first page.
        now
            Shares are as of then; they do not change the order.
        """
        count = len(allowed)
        weight, level = self._weights(part, count, now)
        ties = self._tie_breaks(count)
        mask = allowed
        if after is not None:
            mask = allowed & ((level < after.level) | ((level == after.level) & (ties > after.tie)))
        rows = _best(np.flatnonzero(mask), level, ties, size + 1)
        page = rows[:size]
        last = page[-1] if len(rows) > size else None
        end = None if last is None else Position(int(level[last]), int(ties[last]))
        return TrendingPage(page, weight[page] / (float(weight.sum()) or 1.0), end)

    def _weights(
        self, part: PopularPart | None, count: int, now: datetime
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        weight, logarithm = self._counts.decayed(count, now), self._counts.logarithms(count)
        if part is not None and not weight.any():
            rows = part.places.rows(count)
            weight = np.zeros(count)
            weight[rows[rows >= 0]] = part.model.overall[rows >= 0]
            with np.errstate(divide="ignore"):
                logarithm = np.log2(weight)
        level = np.full(count, NEVER)
        counted = np.isfinite(logarithm)
        level[counted] = np.rint(logarithm[counted] * STEPS)
        return weight, level

    def _tie_breaks(self, count: int) -> NDArray[np.int64]:
        """Return a hash of each row's id, (count,); worked out once a row."""
        with self._lock:
            known = len(self._ties)
            if known < count:
                fresh = [_hash(self._rows.id(row)) for row in range(known, count)]
                self._ties = np.concatenate([self._ties, np.asarray(fresh, dtype=np.int64)])
            return self._ties[:count]


def _best(
    rows: NDArray[np.int64], level: NDArray[np.int64], ties: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """Return the `k` first of `rows` by level, the highest first, then by tie break, the lowest first."""
    if len(rows) > k:
        own = level[rows]
        least = np.partition(own, len(own) - k)[len(own) - k]
        above, equal = rows[own > least], rows[own == least]
        missing = k - len(above)
        if len(equal) > missing:
            equal = equal[np.argpartition(ties[equal], missing - 1)[:missing]]
        rows = np.concatenate([above, equal])
    return rows[np.lexsort((ties[rows], -level[rows]))]


def _hash(item_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "big", signed=True)
