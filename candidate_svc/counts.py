"""What is counted of each item in one use case, by the rows of its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from candidate_svc.columns import Column
from matchloop.days import SECONDS_A_DAY
from matchloop.rerank.features import popularity_count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from numpy.typing import NDArray

    from candidate_svc.rows import ItemRows
    from matchloop.entities import EntityId

MOST_HALF_LIVES = 500.0
"""Weights older or younger than this many half-lives before or after the reference are cut there."""


@dataclass(frozen=True, slots=True)
class ItemStats:
    """The store's counts of one item.

    Parameters
    ----------
    views, interactions
        0 or more.
    decayed_weight
        Sum of positive event weights, decayed to `decay_time`.
    decay_time
        Aware UTC; None when nothing was counted.
    """

    item_id: EntityId
    views: int
    interactions: int
    decayed_weight: float
    decay_time: datetime | None
    change_sequence: int


class ItemCounts:
    """Counts by row; one writer, any number of readers, as for `ItemRows`.

    All items decay alike, so their order does not change with time: weights are kept as of one reference
    time, and one factor brings them all to now.

    Parameters
    ----------
    rows
        The items of the use case's item kind.
    half_life_days
        After this many days an event counts half.
    reference
        Any time near those of the events, aware UTC.
    """

    def __init__(self, rows: ItemRows, *, half_life_days: float, reference: datetime) -> None:
        self._rows = rows
        self._half_life = half_life_days * SECONDS_A_DAY
        self._reference = reference.timestamp()
        self._views = Column(np.float64, fill=0.0)
        self._interactions = Column(np.float64, fill=0.0)
        self._weight = Column(np.float64, fill=0.0)
        self._maximum = 0.0
        self._version = 0

    @property
    def version(self) -> int:
        """A number that is another one after every change of the counts."""
        return self._version

    def apply(self, stats: Iterable[ItemStats]) -> None:
        """Put counts in their rows; an item not listed yet gets a row that is inactive until it is."""
        for each in stats:
            row = self._rows.claim(each.item_id)
            self._views.set(row, max(each.views, 0))
            self._interactions.set(row, max(each.interactions, 0))
            self._weight.set(row, self._at_reference(each))
        count = self._rows.count
        if count:
            totals = popularity_count(self._views.upto(count), self._interactions.upto(count))
            self._maximum = float(totals.max())
        self._version += 1

    def clear(self, row: int) -> None:
        """Forget what was counted of the row's item; by the writer only."""
        for column in (self._views, self._interactions, self._weight):
            column.set(row, 0.0)

    def clear_others(self, listed: Collection[EntityId]) -> None:
        """Set the counts of every item that is not listed to zero."""
        kept = set(self._rows.rows(listed, self._rows.count).tolist())
        for row in range(self._rows.count):
            if row not in kept:
                self.clear(row)
        self.apply(())

    def _at_reference(self, stats: ItemStats) -> float:
        if stats.decay_time is None or not stats.decayed_weight > 0.0:
            return 0.0
        half_lives = (stats.decay_time.timestamp() - self._reference) / self._half_life
        weight = stats.decayed_weight * 2.0 ** min(max(half_lives, -MOST_HALF_LIVES), MOST_HALF_LIVES)
        return float(weight) if np.isfinite(weight) else 0.0

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all as arrays, for `restore`; by the writer only."""
        count = self._rows.count
        return {
            "views": self._views.upto(count),
            "interactions": self._interactions.upto(count),
            "weight": self._weight.upto(count),
            "reference": np.asarray([self._reference]),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what `arrays` gave, for rows that were restored too."""
        self._views.fill(arrays["views"])
        self._interactions.fill(arrays["interactions"])
        self._weight.fill(arrays["weight"])
        self._reference = float(arrays["reference"][0])
        self.apply(())

    @property
    def maximum(self) -> float:
        """Largest views + 3 × interactions of the catalogue."""
        return self._maximum

    def views(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the views of these rows, same shape."""
        return np.asarray(self._views.upto(self._rows.count)[rows])

    def interactions(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the interactions of these rows, same shape."""
        return np.asarray(self._interactions.upto(self._rows.count)[rows])

    def logarithms(self, count: int) -> NDArray[np.float64]:
        """Return the binary logarithm of the first `count` rows' weights as of 1970, (count,); −inf for 0.

        Whatever the reference of this process is.
        """
        with np.errstate(divide="ignore"):
            weights = np.log2(self._weight.upto(count))
        return np.asarray(weights + self._reference / self._half_life)

    def decayed(self, count: int, now: datetime) -> NDArray[np.float64]:
        """Return the weights of the first `count` rows decayed to `now`, (count,), 0 or more, finite."""
        half_lives = (self._reference - now.timestamp()) / self._half_life
        factor = 2.0 ** min(max(half_lives, -MOST_HALF_LIVES), MOST_HALF_LIVES)
        return np.asarray(self._weight.upto(count) * factor)
