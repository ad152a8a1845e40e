"""Live popularity: the store's decayed counts, raised by what a release knows of subjects like this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matchloop.retrieval.boosted import Base, Boosted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from candidate_svc.counts import ItemCounts
    from candidate_svc.row_map import RowMap
    from matchloop.retrieval.popular import PopularModel


@dataclass(frozen=True, slots=True)
class PopularPart:
    """A release's popular model, and where its items stand in the mirror."""

    model: PopularModel
    places: RowMap


@dataclass(frozen=True, slots=True)
class _Shares:
    """Overall shares as of one state of the counts, and the rows with one that the release never counted."""

    part: PopularPart | None
    version: int
    base: Base
    unheard: NDArray[np.int64]


class LivePopularity:
    """Popularity of one use case's items.

    Overall counts are live: a view counts as soon as the mirror has it. How they differ among subjects (say,
    of a country) is the release's knowledge: the live share of an item is multiplied by the release's ratio
    for the subject's values, and the whole normed to sum 1; see `PopularModel`. An item without any count
    when the release was made has ratio 1.
    """

    def __init__(self, counts: ItemCounts) -> None:
        self._counts = counts
        self._known: _Shares | None = None

    def boosted(
        self,
        part: PopularPart | None,
        segment_values: Mapping[str, Sequence[str]],
        count: int,
        now: datetime,
    ) -> Boosted:
        """Return the shares of the first `count` rows for a subject with these values.

        Parameters
        ----------
        part
            The release's; None: live counts alone. Its overall counts stand in while none are live.
        segment_values
            The subject's values by segment; {}: the overall order.
        """
        shares = self._shares(part, count, now)
        base = shares.base
        if part is None or not segment_values:
            return Boosted(base, np.zeros(0, dtype=np.int64), np.zeros(0))
        at, factor, unheard = part.model.boosts(segment_values)
        rows = part.places.rows(count)[at]
        here = rows >= 0
        rows, factor = rows[here], factor[here]
        if unheard > 1.0 and len(shares.unheard):
            rows = np.concatenate([rows, shares.unheard])
            factor = np.concatenate([factor, np.full(len(shares.unheard), unheard)])
        return Boosted(base, rows, base.share[rows] * factor)

    def _shares(self, part: PopularPart | None, count: int, now: datetime) -> _Shares:
        """Return the shares; all counts decay alike, so they hold until a count changes."""
        known, version = self._known, self._counts.version
        if (
            known is not None
            and known.part is part
            and known.version == version
            and len(known.base.share) == count
        ):
            return known
        live = self._counts.decayed(count, now)
        unheard = live > 0.0
        if part is not None:
            rows = part.places.rows(count)
            here = rows >= 0
            if not live.any():
                live = np.zeros(count)
                live[rows[here]] = part.model.overall[here]
            unheard[rows[here & (part.model.reference > 0.0)]] = False
        self._known = _Shares(part, version, Base.of(live), np.flatnonzero(unheard))
        return self._known
