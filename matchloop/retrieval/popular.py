"""Popular items: time-decayed weighted counts, overall and within the subject's segments."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import InvalidInput
from matchloop.retrieval.part_files import read_array, read_ids, read_json, refusing, write_array, write_json
from matchloop.retrieval.scored import Hit, best_allowed, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from matchloop.entities import EntityId

SMOOTHING = 50.0
"""Decayed weight at which a segment value's own counts speak as loud as what was expected without them."""


@dataclass(frozen=True, slots=True)
class SegmentCounts:
    """Counts within the values of one subject feature, as sparse rows.

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


class PopularModel:
    """Ranks items by the share of reactions that goes to them, among subjects like this one.

    With p(i) the overall share of item i, the share within a segment is smoothed towards it,
    p_s(i) = (c_s(i) + m p(i)) / (C_s + m), where c_s sums the counts within the values that the subject has
    for that feature. The score is the mean of p_s over the segments of which the subject has values, or
    p(i) if there are none. Everything decays alike, so shares hold until the next build.

    Parameters
    ----------
    item_ids
        Distinct, one per count.
    overall
        float64, shape (n_items,), 0 or more: decayed weighted counts.
    segments
        Counts by subject feature name.
    smoothing
        m, over 0, in decayed event weight.

    Raises
    ------
    InvalidInput
        If shapes disagree, an id stands twice, or a count is negative or not finite.
    """

    def __init__(
        self,
        item_ids: Sequence[EntityId],
        overall: NDArray[np.float64],
        segments: Mapping[str, SegmentCounts],
        *,
        smoothing: float = SMOOTHING,
    ) -> None:
        if overall.shape != (len(item_ids),) or len(set(item_ids)) != len(item_ids):
            raise InvalidInput(f"{len(item_ids)} item ids, overall {overall.shape}; ids must be distinct")
        if not (np.isfinite(smoothing) and smoothing > 0.0):
            raise InvalidInput(f"smoothing is {smoothing}, must be over 0")
        _check_counts("overall", overall)
        for name, segment in segments.items():
            _check_segment(name, segment, len(item_ids))
        self.item_ids = list(item_ids)
        self.overall = np.asarray(overall, dtype=np.float64)
        self.segments = dict(segments)
        self.smoothing = smoothing
        self._row = {id_: row for row, id_ in enumerate(self.item_ids)}
        self._share = self.overall / (self.overall.sum() or 1.0)  # (n_items,)
        self._place = {
            name: {value: place for place, value in enumerate(segment.values)}
            for name, segment in self.segments.items()
        }

    @classmethod
    def build(
        cls,
        item_ids: Sequence[EntityId],
        item_rows: NDArray[np.int64],
        age_days: NDArray[np.floating],
        weights: NDArray[np.floating],
        segments: Mapping[str, Sequence[tuple[str, ...]]],
        *,
        half_life_days: float,
        smoothing: float = SMOOTHING,
    ) -> PopularModel:
        """Count events.

        Parameters
        ----------
        item_ids
            The catalogue, distinct; items without events count 0.
        item_rows
            Item of each event as a row of `item_ids`, shape (n,).
        age_days
            Days from the event until the build, shape (n,), finite; negative ones count as 0.
        weights
            Event weights, shape (n,), finite; events of 0 and less are left out.
        segments
            By subject feature, the values that each event's subject has, n entries; () where it has none.
        half_life_days
            After this many days an event counts half; over 0.
        smoothing
            See the class.
        """
        rows, counts = _decayed(item_rows, age_days, weights, len(item_ids), half_life_days)
        overall = _sums(rows, counts, len(item_ids))
        counted = {
            name: _segment_counts(values, rows, counts, len(item_ids)) for name, values in segments.items()
        }
        return cls(item_ids, overall, counted, smoothing=smoothing)

    def with_overall(self, counts: Mapping[EntityId, float]) -> PopularModel:
        """Return a model in which the overall counts of these items are replaced, e.g. by live ones.

        Items the model did not know are added; the counts within segments stay as built. `counts` must be
        decayed and weighted as the model's own are.
        """
        new = [id_ for id_ in counts if id_ not in self._row]
        overall = np.concatenate([self.overall, np.zeros(len(new))])
        ids = [*self.item_ids, *new]
        row = {**self._row, **{id_: len(self._row) + at for at, id_ in enumerate(new)}}
        overall[[row[id_] for id_ in counts]] = list(counts.values())
        return PopularModel(ids, overall, self.segments, smoothing=self.smoothing)

    def scores(self, segment_values: Mapping[str, Sequence[str]]) -> NDArray[np.float64]:
        """Return the score of every item, shape (n_items,), each in [0, 1], together 1 or less."""
        total = np.zeros(len(self.item_ids))
        used = 0
        for name, values in segment_values.items():
            places = [self._place[name][v] for v in dict.fromkeys(values) if v in self._place.get(name, {})]
            if not places:
                continue
            segment = self.segments[name]
            within = self.smoothing * self._share
            mass = self.smoothing
            for place in places:
                span = slice(segment.start[place], segment.start[place + 1])
                within[segment.item[span]] += segment.count[span]
                mass += float(segment.count[span].sum())
            total += within / mass
            used += 1
        return total / used if used else self._share

    def search(
        self,
        segment_values: Mapping[str, Sequence[str]],
        k: int,
        *,
        exclude: Collection[EntityId] = (),
        allow: Callable[[EntityId], bool] | None = None,
    ) -> list[Hit]:
        """Return the `k` most popular items, best first, fewer only if no more are left.

        Parameters
        ----------
        segment_values
            The subject's values by feature name; unknown features and values are passed over; {} for the
            overall order (trending).
        k
            0 or more.
        exclude
            Ids to leave out; unknown ones are ignored.
        allow
            Only items for which this is true, if given.
        """
        rows = rows_of(exclude, self._row)
        return best_allowed(self.scores(segment_values), k, self.item_ids, exclude=rows, allow=allow)

    def save(self, folder: Path) -> None:
        """Write the part: popular.json, item_ids.json, overall.npy and three arrays per segment."""
        names = list(self.segments)
        settings = {
            "smoothing": self.smoothing,
            "segments": [{"name": name, "values": self.segments[name].values} for name in names],
        }
        write_json(folder, "popular", settings)
        write_json(folder, "item_ids", self.item_ids)
        write_array(folder, "overall", self.overall)
        for at, name in enumerate(names):
            write_array(folder, f"segment{at}_start", self.segments[name].start)
            write_array(folder, f"segment{at}_item", self.segments[name].item)
            write_array(folder, f"segment{at}_count", self.segments[name].count)

    @classmethod
    def load(cls, folder: Path) -> PopularModel:
        """Read what `save` wrote.

        Raises
        ------
        ReleaseRefused
            If a file is missing, corrupt, or does not fit the others.
        """
        settings = read_json(folder, "popular")
        ids = read_ids(folder, "item_ids")
        overall = read_array(folder, "overall", shape=(len(ids),), dtype=np.float64)
        with refusing(f"{folder.name}/popular.json"):
            segments = {}
            for at, declared in enumerate(settings["segments"]):
                values = [str(value) for value in declared["values"]]
                start = read_array(folder, f"segment{at}_start", shape=(len(values) + 1,), dtype=np.int64)
                item = read_array(folder, f"segment{at}_item", shape=(None,), dtype=np.int64)
                count = read_array(folder, f"segment{at}_count", shape=(len(item),), dtype=np.float64)
                segments[str(declared["name"])] = SegmentCounts(values, start, item, count)
            return cls(ids, overall, segments, smoothing=float(settings["smoothing"]))


def _decayed(
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


def _sums(place: NDArray[np.int64], amounts: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    return np.bincount(place, amounts, minlength=length).astype(np.float64)


def _segment_counts(
    values: Sequence[tuple[str, ...]], rows: NDArray[np.int64], counts: NDArray[np.float64], items: int
) -> SegmentCounts:
    if len(values) != len(rows):
        raise InvalidInput(f"{len(values)} entries of segment values, {len(rows)} events")
    held = np.fromiter((len(entry) for entry in values), dtype=np.int64, count=len(values))
    names = sorted(set(chain.from_iterable(values)))
    place = {name: at for at, name in enumerate(names)}
    flat = np.fromiter((place[v] for v in chain.from_iterable(values)), dtype=np.int64, count=int(held.sum()))
    pair = flat * items + np.repeat(rows, held)
    distinct, at = np.unique(pair, return_inverse=True)
    total = _sums(at, np.repeat(counts, held), len(distinct))
    kept, total = distinct[total > 0.0], total[total > 0.0]
    of_value, of_item = np.divmod(kept, max(items, 1))
    start = np.searchsorted(of_value, np.arange(len(names) + 1)).astype(np.int64)
    return SegmentCounts(names, start, of_item.astype(np.int64), total)


def _check_counts(what: str, counts: NDArray[np.float64]) -> None:
    if not np.isfinite(counts).all() or (len(counts) and counts.min() < 0.0):
        raise InvalidInput(f"{what}: a count is negative or not finite")


def _check_segment(name: str, segment: SegmentCounts, items: int) -> None:
    start, item = segment.start, segment.item
    whole = start.shape == (len(segment.values) + 1,) and item.shape == segment.count.shape
    if not whole or start[0] != 0 or start[-1] != len(item) or (np.diff(start) < 0).any():
        raise InvalidInput(f"segment `{name}`: the arrays do not fit together")
    if len(item) and (item.min() < 0 or item.max() >= items):
        raise InvalidInput(f"segment `{name}`: an item row is outside 0 to {items - 1}")
    _check_counts(f"segment `{name}`", segment.count)
