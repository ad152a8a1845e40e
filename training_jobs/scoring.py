"""What models would give each validation subject: their best items, method by method, and routed by tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from matchloop.retrieval.segments import segment_values
from matchloop.retrieval.tower import PastItems
from matchloop.usecase import Method, Tier
from training_jobs.evaluate.ranking import BLOCK, Truth, top_by_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from matchloop.retrieval.als import AlsModel
    from matchloop.retrieval.popular import PopularModel
    from matchloop.retrieval.two_tower import TwoTowerModel
    from matchloop.usecase import UseCase
    from training_jobs.material import Encoded, Events, Material

HISTORY = 50
"""Latest positive events that the subject tower is given."""

LAST = 1e30
"""A score that nothing reaches."""

STATE_EVENTS = 500
"""Latest events of a subject that serving is told; see `feedback_svc`'s subject state."""


@dataclass(frozen=True, slots=True)
class Known:
    """A subject's events before the validation part, by subject row."""

    by_subject: Mapping[int, NDArray[np.int64]]
    events: Events

    @classmethod
    def of(cls, events: Events) -> Known:
        """Group event numbers by subject, oldest first."""
        order = np.argsort(events.subject, kind="stable")
        rows, start = np.unique(events.subject[order], return_index=True)
        parts = np.split(order, start[1:]) if len(rows) else []
        return cls(dict(zip(rows.tolist(), parts, strict=True)), events)

    def positive(self, subject: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return item rows and weights of a subject's events of positive weight, oldest first."""
        at = self.by_subject.get(subject)
        if at is None:
            return np.zeros(0, np.int64), np.zeros(0)
        at = at[self.events.weight[at] > 0.0]
        return self.events.item[at], self.events.weight[at]

    def latest_of(self, subject: int, count: int) -> NDArray[np.int64]:
        """Return the numbers of a subject's latest events, at most `count`, oldest first."""
        return self.by_subject.get(subject, np.zeros(0, np.int64))[-count:]

    def count(self, subject: int) -> int:
        """Return how many events a subject has."""
        return len(self.by_subject.get(subject, ()))

    def age_days(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how old these events were at the latest of all, in days."""
        day = np.timedelta64(1, "D")
        ages: NDArray[np.float64] = (self.events.time[-1] - self.events.time[numbers]) / day
        return ages

    @property
    def latest(self) -> datetime:
        """When the last event was, aware UTC; 1970 if there is none."""
        last = self.events.time.max() if len(self.events) else np.datetime64(0, "us")
        found: datetime = last.astype("datetime64[us]").item()
        return found.replace(tzinfo=UTC)

    def counts(self, subjects: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many events each subject has: what its tier depends on."""
        none = np.zeros(0, np.int64)
        return np.array([len(self.by_subject.get(row, none)) for row in subjects.tolist()], dtype=np.int64)


def als_top(
    model: AlsModel,
    material: Material,
    known: Known,
    truth: Truth,
    k: int,
    *,
    watermark: int | None = None,
) -> NDArray[np.int64]:
    """Return what ALS finds for each subject, were it served now: by `AlsModel.serving_vector`.

    Parameters
    ----------
    watermark
        Events the store received after this one are newer than the model; None: it was trained on all.
    """
    place = {id_: row for row, id_ in enumerate(material.item_ids)}
    rows = np.array([place.get(str(id_), -1) for id_ in model.item_ids], dtype=np.int64)
    of_item = np.full(len(material.items), -1, dtype=np.int64)
    of_item[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    unknown = of_item < 0
    # A column more, so that items it was not trained on come last, not between good and bad ones.
    factors = np.zeros((len(material.items), model.width + 1), dtype=np.float32)
    factors[rows[rows >= 0], :-1] = model.item_factors[rows >= 0]
    factors[unknown, -1] = -LAST
    vectors = np.zeros((len(truth), model.width + 1), dtype=np.float32)
    for at, subject in enumerate(truth.subjects.tolist()):
        numbers = known.latest_of(subject, STATE_EVENTS)
        events = known.events
        trained = numbers[of_item[events.item[numbers]] >= 0]
        vector = model.serving_vector(
            material.subjects[subject].key.id,
            of_item[events.item[trained]],
            events.weight[trained],
            known.age_days(trained),
            whole=0 < known.count(subject) <= STATE_EVENTS,
            newer=watermark is not None and bool((events.sequence[numbers] > watermark).any()),
        )
        if vector is not None and vector.any():
            vectors[at, :-1], vectors[at, -1] = vector, 1.0
    top = top_by_vectors(vectors, factors, truth, k)
    top[(top >= 0) & unknown[top]] = -1  # items it was not trained on were not found by it
    return top


def two_tower_top(
    model: TwoTowerModel,
    material: Material,
    known: Known,
    truth: Truth,
    k: int,
    encoded: Encoded | None = None,
) -> NDArray[np.int64]:
    """Return what the Two-Tower finds, every item embedded from its features, history as it is served.

    Parameters
    ----------
    encoded
        All entities as the model's own encoders encode them; None: they are encoded here.
    """
    if encoded is None:
        items = model.item_encoder.encode(material.items)
        subjects = model.subject_encoder.encode([material.subjects[row] for row in truth.subjects.tolist()])
    else:
        items, subjects = encoded.items, encoded.subjects[truth.subjects]
    ids = [material.subject_ids[row] for row in truth.subjects.tolist()]
    past = served_past(items, material.item_ids, known, truth.subjects)
    vectors = model.subject_vectors(subjects, ids, past)
    told = np.array(
        [bool(material.subjects[row].features) for row in truth.subjects.tolist()], dtype=np.bool_
    )
    if model.uses_history:
        told[past.subject] = True
    vectors[~told] = 0.0  # served, it would say that it knows nothing
    return top_by_vectors(vectors, model.item_vectors(items, material.item_ids), truth, k)


def served_past(
    item_rows: NDArray[np.float32], item_ids: Sequence[str], known: Known, subjects: NDArray[np.int64]
) -> PastItems:
    """Return each subject's latest positive events, as serving gives them to the model."""
    latest = [tuple(column[-HISTORY:] for column in known.positive(row)) for row in subjects.tolist()]
    items = np.concatenate([items for items, _ in latest]) if latest else np.zeros(0, np.int64)
    weights = np.concatenate([weights for _, weights in latest]) if latest else np.zeros(0)
    line = np.repeat(np.arange(len(latest)), [len(items) for items, _ in latest])
    return PastItems(item_rows[items], [item_ids[row] for row in items.tolist()], line, weights)


def popular_top(
    model: PopularModel, material: Material, known: Known, truth: Truth, k: int
) -> NDArray[np.int64]:
    """Return what is popular among subjects like each subject, as it would be after the last known event."""
    place = {id_: row for row, id_ in enumerate(material.item_ids)}
    rows = np.array([place.get(str(id_), -1) for id_ in model.item_ids], dtype=np.int64)
    now, held = known.latest, rows >= 0
    earlier = known.counts(truth.subjects)
    top = np.full((len(truth), k), -1, dtype=np.int64)
    for at in range(0, len(truth), BLOCK):
        block = truth.subjects[at : at + BLOCK].tolist()
        scores = np.full((len(block), len(material.items)), -np.inf, dtype=np.float32)
        for line, subject in enumerate(block):
            features = material.subjects[subject].features
            values = segment_values(
                material.use_case.popularity, features, now=now, earlier=int(earlier[at + line])
            )
            scores[line, rows[held]] = model.scores(values)[held]
        scores[scores <= 0.0] = -np.inf  # nobody ever reacted to it
        top[at : at + BLOCK] = truth.best(scores, slice(at, at + BLOCK), k)
    return top


def filled(tops: Sequence[NDArray[np.int64]], k: int) -> NDArray[np.int64]:
    """Join lists row by row: the first, then what the next adds, each item once, until `k` are found."""
    found = tops[0][:, :k].copy()
    if found.shape[1] < k:
        found = np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=-1)
    for more in tops[1:]:
        for row in np.flatnonzero((found < 0).any(axis=1)).tolist():
            kept = dict.fromkeys(item for item in (*found[row].tolist(), *more[row].tolist()) if item >= 0)
            joined = list(kept)[:k]
            found[row, : len(joined)] = joined
    return found


def routed_top(
    tops: Mapping[Method, NDArray[np.int64]],
    orders: Mapping[Tier, Sequence[Method]],
    tiers: NDArray[np.str_],
    k: int,
) -> NDArray[np.int64]:
    """Return what each subject would be given: its tier's methods in order, each filling what is missing."""
    routed = np.full((len(tiers), k), -1, dtype=np.int64)
    for tier, order in orders.items():
        rows = tiers == tier.value
        present = [tops[method][rows] for method in order if method in tops]
        if rows.any() and present:
            routed[rows] = filled(present, k)
    return routed


def tiers_of(use_case: UseCase, counts: NDArray[np.int64]) -> NDArray[np.str_]:
    """Return each subject's tier from its number of interactions."""
    return np.array([use_case.tiers.of(count).value for count in counts.tolist()], dtype=np.str_)
