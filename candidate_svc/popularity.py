"""Live popularity: the store's decayed counts, mixed with what a release knows of the subject's segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from candidate_svc.counts import ItemCounts
    from candidate_svc.rows import RowMap
    from matchloop.retrieval.popular import PopularModel


@dataclass(frozen=True, slots=True)
class PopularPart:
    """A release's popular model, and where its items stand in the mirror."""

    model: PopularModel
    places: RowMap


class LivePopularity:
    """Popularity of one use case's items.

    Counts are live: a view counts as soon as the mirror has it. How they differ within a segment (say, a
    country) is the release's knowledge: with live share p(i), and the release's count c_v(i) of item i within
    the values v that the subject has of one feature, the share there is (Σ c_v(i) + m p(i)) / (Σ C_v + m), m
    the release's smoothing. The score is the mean of these over the features of which the subject has a value
    that the release knows, p(i) when there is none.
    """

    def __init__(self, counts: ItemCounts) -> None:
        self._counts = counts

    def scores(
        self,
        part: PopularPart | None,
        segment_values: Mapping[str, Sequence[str]],
        count: int,
        now: datetime,
    ) -> NDArray[np.float64]:
        """Return the score of the first `count` rows, (count,), each in [0, 1].

        Parameters
        ----------
        part
            The release's; None: live counts alone. Its overall counts stand in while none are live.
        segment_values
            The subject's values by feature name; {}: the overall order.
        """
        share = self._share(part, count, now)
        if part is None:
            return share
        found = [_within(part, name, values, share) for name, values in segment_values.items()]
        known = [within for within in found if within is not None]
        return np.asarray(sum(known) / len(known)) if known else share

    def _share(self, part: PopularPart | None, count: int, now: datetime) -> NDArray[np.float64]:
        share = self._counts.decayed(count, now)
        if not share.any() and part is not None:
            share = np.zeros(count)
            rows = part.places.rows(count)
            share[rows[rows >= 0]] = part.model.overall[rows >= 0]
        return share / (float(share.sum()) or 1.0)


def _within(
    part: PopularPart, name: str, values: Sequence[str], share: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    segment = part.model.segments.get(name)
    held = () if segment is None else [value for value in dict.fromkeys(values) if value in segment.values]
    if segment is None or not held:
        return None
    within = part.model.smoothing * share
    mass = part.model.smoothing
    places = part.places.rows(len(share))
    for value in held:
        at = segment.values.index(value)
        span = slice(segment.start[at], segment.start[at + 1])
        rows = places[segment.item[span]]
        within[rows[rows >= 0]] += segment.count[span][rows >= 0]
        mass += float(segment.count[span].sum())
    return within / mass
