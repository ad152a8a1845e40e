"""The methods of retrieval: from one query to the items of one method, best first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from candidate_svc.explain import contributions_of
from candidate_svc.released import SNAPSHOT_AGE, embed_each
from matchloop.entities import Entity, EntityKey, Kind
from matchloop.observe import tracing
from matchloop.observe.logs import get_logger
from matchloop.retrieval.content import ContentIndex
from matchloop.retrieval.encoded import History
from matchloop.retrieval.fusion import PERSONAL, Fusion, fuse, pool_of
from matchloop.retrieval.profile import LATEST_EVENTS
from matchloop.retrieval.routing import Skip, SkipReason
from matchloop.retrieval.scored import Hit, top_k
from matchloop.usecase import Method, UseCase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from candidate_svc.domain import Contribution
    from candidate_svc.popularity import LivePopularity
    from candidate_svc.query import Query
    from matchloop.entities import EntityId
    from matchloop.features import TextEmbedder
    from matchloop.retrieval.als import AlsModel
    from matchloop.retrieval.profile import ContentProfile
    from matchloop.retrieval.two_tower import TwoTowerModel

HISTORY_EVENTS = 50
"""Latest positive events that the subject tower is given."""

DIRECT = 1000
"""When no more items than this may be returned, they are scored one by one, instead of searched for."""

DIRECT_SHARE = 50
"""Nor when they are no more than a 50th of all."""

LEAST_SECONDS = 0.010
"""A method is passed over when less than this is left of the request's time; `popular` never is."""

_log = get_logger()


class Retrieval(Protocol):
    """One method."""

    def find(self, query: Query, k: int) -> Sequence[Hit] | SkipReason:
        """Return at most `k` items of `query.allowed`, best first, or why there are none; may raise."""


class Content:
    """Content retrieval of one use case; follows the mirror."""

    def __init__(self, use_case: UseCase, embedder: TextEmbedder) -> None:
        self._use_case = use_case
        self._index = ContentIndex(use_case, embedder)

    @property
    def index(self) -> ContentIndex:
        """What is searched."""
        return self._index

    def items_changed(self, kind: Kind, changed: Sequence[Entity]) -> None:
        """Index what changed; see `mirror.ItemListener`."""
        if kind != self._use_case.item:
            return
        self._index.remove([item.key.id for item in changed if not item.active])
        active = [item for item in changed if item.active]
        if active:
            embed_each(active, self._index.upsert, f"content of {self._use_case.id}")

    def profile(self, query: Query) -> ContentProfile:
        """Return what the subject of a query looks for."""
        if query.notes.profile is None:
            events = query.events[:LATEST_EVENTS]
            factors = query.state.weight_factors
            query.notes.profile = self._index.profile(query.subject, events, factors, query.now)
        return query.notes.profile

    def find(self, query: Query, k: int) -> Sequence[Hit] | SkipReason:
        """See `Retrieval`."""
        profile = self.profile(query)
        if not profile.has_signal:
            return SkipReason.NO_SIGNAL
        return self._index.search(profile, k, allow=query.may_show)

    def explain(self, query: Query, items: Sequence[EntityId]) -> Mapping[EntityId, tuple[Contribution, ...]]:
        """Return how much each field added to the content score of these items, the most first."""
        profile = self.profile(query)
        hits = self._index.explain(profile, items)
        return {hit.item: contributions_of(hit, profile, query) for hit in hits}

    def explain_like(
        self, query: Query, item: EntityId, items: Sequence[EntityId]
    ) -> Mapping[EntityId, tuple[Contribution, ...]]:
        """Return what each of these items shares with `item`, the most first."""
        profile = self._index.profile_like(item)
        hits = [] if profile is None else self._index.explain(profile, items)
        return {hit.item: contributions_of(hit, profile, query, like=True) for hit in hits if profile}

    def similar(self, query: Query, item: EntityId, k: int) -> Sequence[Hit]:
        """Return items like `item` of those allowed, best first; none when it is not indexed."""
        profile = self._index.profile_like(item)
        if profile is None:
            return []
        return self._index.search(profile, k, allow=query.may_show)


class Als:
    """ALS of the release, with the subject folded in from what it did."""

    def find(self, query: Query, k: int) -> Sequence[Hit] | SkipReason:
        """See `Retrieval`."""
        model = query.models.als if query.models is not None else None
        if model is None:
            return SkipReason.MISSING
        vector = als_vector(model, query)
        if vector is None:
            return SkipReason.NO_SIGNAL
        if query.allowed_count > direct(query):
            return model.search(vector, k, exclude=query.left_out, allow=query.may_show)
        ids = [query.rows.id(row) for row in query.allowed_rows.tolist()]
        known = [id_ for id_ in ids if model.item_row(id_) is not None]
        scores = model.item_factors[model.item_rows(known)] @ vector
        return top_k(scores, k).hits(known)


def als_vector(model: AlsModel, query: Query) -> NDArray[np.float32] | None:
    """Return the subject's factors, worked out once a request; None when nothing is known of it."""
    vectors = query.notes.vectors
    if Method.ALS not in vectors:
        found = _als_vector(model, query)
        vectors[Method.ALS] = found if found is not None and found.any() else None
    return vectors[Method.ALS]


def _als_vector(model: AlsModel, query: Query) -> NDArray[np.float32] | None:
    """Return the vector by `AlsModel.serving_vector`; a state tells the latest events."""
    state = query.state
    created = query.models.created if query.models is not None else None
    types = query.asked.use_case.events
    known = [
        (row, types[event.event_type].weight, age)
        for event, age in zip(query.events, query.ages, strict=True)
        if (row := model.item_row(event.item)) is not None
    ]
    return model.serving_vector(
        None if _is_nobody(query) else query.asked.subject_id,
        np.asarray([row for row, _, _ in known], dtype=np.int64),
        np.asarray([weight for _, weight, _ in known], dtype=np.float64),
        np.asarray([age for _, _, age in known], dtype=np.float64),
        whole=bool(state.recent_events) and state.interaction_count <= len(state.recent_events),
        newer=created is not None and any(event.time > created for event in query.events),
    )


def direct(query: Query) -> int:
    """Return how many items are scored one by one rather than searched for."""
    return max(DIRECT, query.count // DIRECT_SHARE)


def _is_nobody(query: Query) -> bool:
    """Tell whether what the release was trained on is not, or no longer, this subject's.

    That is so when the store knows of nothing the subject did, and when the subject was erased after the
    release's snapshot.
    """
    if query.told and query.state.interaction_count <= 0:
        return True
    models = query.models
    return models is not None and query.erased is not None and models.created - SNAPSHOT_AGE <= query.erased


class TwoTower:
    """The Two-Tower of the release, from the subject's features and history."""

    def find(self, query: Query, k: int) -> Sequence[Hit] | SkipReason:
        """See `Retrieval`."""
        model = query.models.two_tower if query.models is not None else None
        if model is None:
            return SkipReason.MISSING
        vector = tower_vector(model, query)
        if vector is None:
            return SkipReason.NO_SIGNAL
        if query.allowed_count > direct(query):
            return model.search(vector, k, exclude=query.left_out, allow=query.may_show)
        ids = [query.rows.id(row) for row in query.allowed_rows.tolist()]
        known, vectors = model.index.vectors(ids)
        return top_k(vectors @ vector, k).hits(known)


def tower_vector(model: TwoTowerModel, query: Query) -> NDArray[np.float32] | None:
    """Return the subject embedded, once a request; None when nothing is known of it."""
    vectors = query.notes.vectors
    if Method.TWO_TOWER not in vectors:
        history = _history(model, query)
        known = len(history) > 0 or (query.subject is not None and bool(query.subject.features))
        subject = query.subject or Entity(
            EntityKey(Kind(query.asked.use_case.subject), query.asked.subject_id)
        )
        vectors[Method.TWO_TOWER] = model.embed_subject(subject, history) if known else None
    return vectors[Method.TWO_TOWER]


def _history(model: TwoTowerModel, query: Query) -> History:
    """Return the latest positive events on items that have features."""
    rows = query.rows
    events = query.positive[:HISTORY_EVENTS] if model.uses_history else ()
    known = [(row, *event) for event in events if (row := rows.row(event[0])) is not None]
    found = [(row, item, weight, state) for row, item, weight in known if (state := rows.state(row))]
    return History(
        ids=[item for _, item, _, _ in found],
        weights=[weight for _, _, weight, _ in found],
        states=[state for _, _, _, state in found],
        read=lambda at: rows.described(found[at][0]),
    )


class Popular:
    """Live popularity among subjects like this one. Has an answer as long as any item may be shown."""

    def __init__(self, popularity: LivePopularity) -> None:
        self._popularity = popularity

    def find(self, query: Query, k: int) -> Sequence[Hit]:
        """See `Retrieval`; items that nobody looked at come last, with score 0."""
        part = query.models.popular if query.models is not None else None
        boosted = self._popularity.boosted(part, query.segments, query.count, query.now)
        found = boosted.best(k, query.allowed)
        return [
            Hit(query.rows.id(row), score)
            for row, score in zip(found.item.tolist(), found.score.tolist(), strict=True)
        ]


class Ensemble:
    """Weighted reciprocal rank fusion of the methods that the release chose for the subject's tier."""

    def __init__(self, methods: Mapping[Method, Retrieval]) -> None:
        self._methods = methods

    def find(self, query: Query, k: int) -> Sequence[Hit] | SkipReason:
        """See `Retrieval`; fuses those that answer, and notes which it had to do without.

        Where nothing personal answers, it does not: what is left is `popular`, and is called so.
        """
        fusion = query.models.choices.fusion(query.tier) if query.models is not None else Fusion()
        rankings: dict[Method, list[EntityId]] = {}
        left_out: list[Skip] = []
        for method in fusion.methods:
            found = ask(method, self._methods[method], query, pool_of(k))
            if isinstance(found, SkipReason):
                left_out.append(Skip(method, found))
            else:
                rankings[method] = [hit.item for hit in found if _is_found(method, hit)]
        query.notes.left_out.extend(left_out)
        if left_out and not (rankings.keys() & PERSONAL):
            return left_out[0].reason
        return fuse(rankings, k, fusion=fusion)


def _is_found(method: Method, hit: Hit) -> bool:
    """Tell whether a method says anything for a hit: `popular` fills up with what nobody looked at."""
    return method is not Method.POPULAR or hit.score > 0.0


def ask(method: Method, retrieval: Retrieval, query: Query, k: int) -> Sequence[Hit] | SkipReason:
    """Return what `retrieval` finds; TIMED_OUT without time left; FAILED, and a traceback, when it raises."""
    left = query.remaining()
    if method is not Method.POPULAR and left is not None and left < LEAST_SECONDS:
        return SkipReason.TIMED_OUT
    try:
        with tracing.span(method.value) as span:
            found = retrieval.find(query, k)
            _note(span, found)
            return found
    except Exception:  # noqa: BLE001 - whatever one method dies of, the next one answers
        _log.exception("method failed", use_case=query.asked.use_case.id, method=method.value)
        return SkipReason.FAILED


def _note(span: tracing.Span, found: Sequence[Hit] | SkipReason) -> None:
    if isinstance(found, SkipReason):
        span.set("matchloop.skipped", found.value)
    else:
        span.set("matchloop.hits", len(found))


def methods_of(content: Content, popularity: LivePopularity) -> dict[Method, Retrieval]:
    """Return every method of one use case."""
    single: dict[Method, Retrieval] = {
        Method.ALS: Als(),
        Method.TWO_TOWER: TwoTower(),
        Method.CONTENT: content,
        Method.POPULAR: Popular(popularity),
    }
    return {**single, Method.ENSEMBLE: Ensemble(single)}
