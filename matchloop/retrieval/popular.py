"""Popular items: time-decayed weighted counts, and how they differ among subjects like this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import InvalidInput
from matchloop.retrieval.boosted import Base, Boosted
from matchloop.retrieval.part_files import read_array, read_ids, read_json, refusing, write_array, write_json
from matchloop.retrieval.scored import Hit, rows_of
from matchloop.retrieval.segment_counts import (
    SegmentColumn,
    SegmentCounts,
    check_counts,
    check_segment,
    decayed,
    segment_counts,
    sums,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from matchloop.entities import EntityId

SMOOTHING = 100.0
"""Decayed weight at which a segment's own counts speak as loud as what was expected without them."""


class PopularModel:
    """Ranks items by the share of reactions that goes to them, among subjects like this one.

    With p(i) the share of item i overall and p(i|v) its share within the value v of a segment f, smoothed
    towards p (Dirichlet prior of mass m: p(i|v) = (c_v(i) + m p(i)) / (C_v + m)), the score is

        p(i) prod_f (p(i|v_f) / p(i))^a_f, normed to sum 1,

    over the segments of which the subject has a known value; of several values of one segment the counts are
    summed. With all a_f = 1 that is naive Bayes; smaller ones make up for what segments say twice. An item
    that had no count at the build has the ratio 1: nothing is known of where it is liked.

    Since (C_v + m) is the same for all items, only those with a count in a segment of the subject's are
    raised, p(i) (1 + c_v(i) / (m p(i)))^a, and all others keep their place (`Boosted`).

    The ratios are of counts of their own, decayed with a half-life of their own, so the overall counts may be
    replaced by live ones. Everything decays alike, so shares hold until the next build.

    Parameters
    ----------
    item_ids
        Distinct, one per count.
    overall
        float64, shape (n_items,), 0 or more: decayed weighted counts.
    segments
        Counts by segment.
    reference
        float64, shape (n_items,): what the ratios compare segments with, decayed as they are; over 0 where a
        segment counts anything. None: `overall`.
    smoothing
        m, over 0, in decayed event weight.
    exponents
        a_f by segment, 0 or more; 1 where none is given.

    Raises
    ------
    InvalidInput
        If shapes disagree, an id stands twice, or a number is negative or not finite.
    """

    def __init__(
        self,
        item_ids: Sequence[EntityId],
        overall: NDArray[np.float64],
        segments: Mapping[str, SegmentCounts],
        *,
        reference: NDArray[np.float64] | None = None,
        smoothing: float = SMOOTHING,
        exponents: Mapping[str, float] | None = None,
    ) -> None:
        reference = overall if reference is None else reference
        if overall.shape != (len(item_ids),) or len(set(item_ids)) != len(item_ids):
            raise InvalidInput(f"{len(item_ids)} item ids, overall {overall.shape}; ids must be distinct")
        if reference.shape != overall.shape:
            raise InvalidInput(f"reference {reference.shape}, overall {overall.shape}")
        if not (np.isfinite(smoothing) and smoothing > 0.0):
            raise InvalidInput(f"smoothing is {smoothing}, must be over 0")
        check_counts("overall", overall)
        check_counts("reference", reference)
        for name, segment in segments.items():
            check_segment(name, segment, reference)
        self.exponents = {name: float((exponents or {}).get(name, 1.0)) for name in segments}
        for name, exponent in self.exponents.items():
            if not (np.isfinite(exponent) and exponent >= 0.0):
                raise InvalidInput(f"segment `{name}`: exponent is {exponent}, must be 0 or more")
        self.item_ids = list(item_ids)
        self.overall = np.asarray(overall, dtype=np.float64)
        self.reference = np.asarray(reference, dtype=np.float64)
        self.segments = dict(segments)
        self.smoothing = smoothing
        self._row = {id_: row for row, id_ in enumerate(self.item_ids)}
        self._base = Base.of(self.overall)
        self._prior = smoothing * self.reference / (float(self.reference.sum()) or 1.0)  # (n_items,): m p(i)
        self._place = {
            name: {value: place for place, value in enumerate(segment.values)}
            for name, segment in self.segments.items()
        }
        self._gain = {
            name: self.exponents[name] * np.log1p(segment.count / self._prior[segment.item])
            for name, segment in self.segments.items()
        }
        self._unheard = np.flatnonzero((self.reference <= 0.0) & (self.overall > 0.0))

    @classmethod
    def build(
        cls,
        item_ids: Sequence[EntityId],
        item_rows: NDArray[np.int64],
        age_days: NDArray[np.floating],
        weights: NDArray[np.floating],
        segments: Mapping[str, SegmentColumn | Sequence[tuple[str, ...]]],
        *,
        half_life_days: float,
        ratio_half_life_days: float | None = None,
        smoothing: float = SMOOTHING,
        exponents: Mapping[str, float] | None = None,
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
            By name, the values that each event's subject had, n entries; () where it had none.
        half_life_days
            After this many days an event counts half; over 0.
        ratio_half_life_days
            The same for the ratios; None: alike.
        smoothing, exponents
            See the class.
        """
        items = len(item_ids)
        rows, counts = decayed(item_rows, age_days, weights, items, half_life_days)
        overall = sums(rows, counts, items)
        if ratio_half_life_days is not None:
            rows, counts = decayed(item_rows, age_days, weights, items, ratio_half_life_days)
        counted = {
            name: segment_counts(
                values if isinstance(values, SegmentColumn) else SegmentColumn.of(values), rows, counts, items
            )
            for name, values in segments.items()
        }
        reference = sums(rows, counts, items)
        return cls(item_ids, overall, counted, reference=reference, smoothing=smoothing, exponents=exponents)

    def tuned(self, *, smoothing: float, exponents: Mapping[str, float]) -> PopularModel:
        """Return a model over the same counts with other settings; see the class."""
        return PopularModel(
            self.item_ids,
            self.overall,
            self.segments,
            reference=self.reference,
            smoothing=smoothing,
            exponents=exponents,
        )

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
        return PopularModel(
            ids,
            overall,
            self.segments,
            reference=np.concatenate([self.reference, np.zeros(len(new))]),
            smoothing=self.smoothing,
            exponents=self.exponents,
        )

    def boosts(
        self, segment_values: Mapping[str, Sequence[str]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
        """Return by how much a subject's values raise which items.

        Returns
        -------
        rows
            int64 (b,), ascending: items with a count in a segment of the subject's.
        factor
            float64 (b,), 1 or more: what their overall share is multiplied by.
        unheard
            The factor of items without any count at the build, 1 or more; all others keep their share.
        """
        raised = np.zeros(len(self.item_ids))
        unheard = 0.0
        for name in sorted(segment_values):
            known = self._place.get(name, {})
            places = sorted({known[value] for value in segment_values[name] if value in known})
            if not places or not self.exponents[name]:
                continue
            segment = self.segments[name]
            spans = [slice(segment.start[place], segment.start[place + 1]) for place in places]
            if len(spans) == 1:
                raised[segment.item[spans[0]]] += self._gain[name][spans[0]]
            else:
                item = np.concatenate([segment.item[span] for span in spans])
                count = np.concatenate([segment.count[span] for span in spans])
                rows, at = np.unique(item, return_inverse=True)
                lift = np.bincount(at, count) / self._prior[rows]
                raised[rows] += self.exponents[name] * np.log1p(lift)
            mass = sum(float(segment.count[span].sum()) for span in spans)
            unheard += self.exponents[name] * float(np.log1p(mass / self.smoothing))
        rows = np.flatnonzero(raised > 0.0)
        return rows, np.exp(raised[rows]), float(np.exp(unheard))

    def boosted(self, segment_values: Mapping[str, Sequence[str]]) -> Boosted:
        """Return the shares for a subject with these values."""
        rows, factor, unheard = self.boosts(segment_values)
        if unheard > 1.0 and len(self._unheard):
            rows = np.concatenate([rows, self._unheard])
            factor = np.concatenate([factor, np.full(len(self._unheard), unheard)])
        return Boosted(self._base, rows, self._base.share[rows] * factor)

    def scores(self, segment_values: Mapping[str, Sequence[str]]) -> NDArray[np.float64]:
        """Return the score of every item, shape (n_items,), in [0, 1], together 1; all 0 without counts."""
        return self.boosted(segment_values).scores()

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
            The subject's values by segment; unknown segments and values are passed over; {} for the overall
            order (trending).
        k
            0 or more.
        exclude
            Ids to leave out; unknown ones are ignored.
        allow
            Only items for which this is true, if given.
        """
        if k < 0:
            raise InvalidInput(f"k is {k}, must be 0 or more")
        boosted = self.boosted(segment_values)
        allowed = np.ones(len(self.item_ids), dtype=np.bool_)
        allowed[rows_of(exclude, self._row)] = False
        if allow is None:
            return boosted.best(k, allowed).hits(self.item_ids)
        fetch = 2 * k + 32
        while True:
            found = boosted.best(fetch, allowed)
            hits = [hit for hit in found.hits(self.item_ids) if allow(hit.item)]
            if len(hits) >= k or len(found) < fetch:
                return hits[:k]
            fetch *= 4

    def save(self, folder: Path) -> None:
        """Write popular.json, item_ids.json, overall.npy, reference.npy and three arrays per segment."""
        names = list(self.segments)
        settings = {
            "smoothing": self.smoothing,
            "segments": [
                {
                    "name": name,
                    "values": self.segments[name].values,
                    "exponent": self.exponents[name],
                }
                for name in names
            ],
        }
        write_json(folder, "popular", settings)
        write_json(folder, "item_ids", self.item_ids)
        write_array(folder, "overall", self.overall)
        write_array(folder, "reference", self.reference)
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
        reference = read_array(folder, "reference", shape=(len(ids),), dtype=np.float64)
        with refusing(f"{folder.name}/popular.json"):
            segments = {}
            for at, declared in enumerate(settings["segments"]):
                values = [str(value) for value in declared["values"]]
                start = read_array(folder, f"segment{at}_start", shape=(len(values) + 1,), dtype=np.int64)
                item = read_array(folder, f"segment{at}_item", shape=(None,), dtype=np.int64)
                count = read_array(folder, f"segment{at}_count", shape=(len(item),), dtype=np.float64)
                segments[str(declared["name"])] = SegmentCounts(values, start, item, count)
            return cls(
                ids,
                overall,
                segments,
                reference=reference,
                smoothing=float(settings["smoothing"]),
                exponents={str(each["name"]): float(each["exponent"]) for each in settings["segments"]},
            )
