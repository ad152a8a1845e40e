"""Retrieval of one use case: tier, methods one after the other, and what ranking needs of each candidate."""

from __future__ import annotations

from collections import Counter
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from candidate_svc.domain import EXPLANATIONS, Asked, Candidate, Found, SubjectState, Trends
from candidate_svc.method_scores import MethodScores
from candidate_svc.methods import ask
from candidate_svc.query import Query, forever
from candidate_svc.similar import similar
from candidate_svc.trending import Trending
from matchloop.entities import EntityId
from matchloop.errors import NotFound
from matchloop.observe.logs import get_logger
from matchloop.rerank.features import (
    SCORE_FEATURES,
    FeatureColumns,
    ItemFacts,
    item_features,
    numbers_of,
)
from matchloop.rerank.values import ValueProfile, discrete_features
from matchloop.retrieval.routing import method_order, route
from matchloop.retrieval.scored import Hit
from matchloop.usecase import Method

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from candidate_svc.counts import ItemCounts
    from candidate_svc.domain import Contribution, FeatureFilter, SimilarAsked, TrendingAsked
    from candidate_svc.methods import Content, Retrieval
    from candidate_svc.released import Models
    from candidate_svc.rows import ItemRows
    from matchloop.observe.metrics import Metrics
    from matchloop.release.slot import Loaded
    from matchloop.rerank.values import ValueShares
    from matchloop.retrieval.routing import Skip
    from matchloop.usecase import Tier, UseCase

    Clock = Callable[[], datetime]

RECENCY = "recency"
"""The one ITEM feature that ranking computes itself, from a candidate's `create_time`."""

AFFINITY_EVENTS = 50
"""Latest events that `subject_affinity` is computed from."""

AFFINITY_HALF_LIFE_DAYS = 180.0

_NO_REASONS: Mapping[EntityId, tuple[Contribution, ...]] = MappingProxyType({})

_log = get_logger()


def _never(_subject: EntityId) -> datetime | None:
    return None


def _none() -> Loaded[Models] | None:
    return None


class Retriever:
    """Answers requests of one use case.

    Parameters
    ----------
    methods
        Every method of the use case.
    content
        The one among them that explains.
    release, challenger
        The release in place, and the one that an experiment's challengers get; None while there is none.
    clock
        Time in UTC.
    metrics
        Counts candidates by method, skips by method and reason, replies without a part.
    remaining
        Seconds left of the request under way; None: as many as it takes.
    erased
        When a subject was last erased; None: it was not.
    """

    def __init__(
        self,
        use_case: UseCase,
        rows: ItemRows,
        counts: ItemCounts,
        methods: Mapping[Method, Retrieval],
        *,
        content: Content,
        release: Callable[[], Loaded[Models] | None],
        clock: Clock,
        metrics: Metrics,
        challenger: Callable[[], Loaded[Models] | None] = _none,
        remaining: Callable[[], float | None] = forever,
        erased: Callable[[EntityId], datetime | None] = _never,
    ) -> None:
        self._use_case = use_case
        self._rows = rows
        self._counts = counts
        self._methods = methods
        self._content = content
        self._release = release
        self._challenger = challenger
        self._clock = clock
        self._metrics = metrics
        self._remaining = remaining
        self._erased = erased
        self._trending = Trending(rows, counts)
        declared = FeatureColumns.of(use_case).item_features
        self._declared = tuple(feature for feature in declared if feature.name != RECENCY)
        self.feature_names = tuple(feature.name for feature in self._declared)
        self._numbers = numbers_of(use_case)
        self._scored = [SCORE_FEATURES[name] for name in self.feature_names if name in SCORE_FEATURES]
        self._scores = MethodScores(content)
        # Finding a counter by its labels takes longer than counting.
        self._counted = cache(lambda method: metrics.candidates.labels(use_case.id, method.value))
        self._skipped = cache(
            lambda method, reason: metrics.method_skips.labels(use_case.id, method.value, reason.value)
        )

    def find(self, asked: Asked, state: SubjectState | None, *, degraded: tuple[str, ...] = ()) -> Found:
        """Find candidates.

        Parameters
        ----------
        state
            None: nothing is known of the subject but what the request says.
        degraded
            Parts that could not be used, passed on to the answer.

        Returns
        -------
        Found
            As many candidates as were asked for, or all that may be shown; never raises for want of them.
        """
        loaded = (self._challenger() if asked.challenger else None) or self._release()
        query = Query.of(
            asked,
            state or SubjectState(),
            self._rows,
            loaded.value if loaded is not None else None,
            self._clock(),
            told=state is not None,
            erased=self._erased(asked.subject_id),
            remaining=self._remaining,
        )
        order = self._order(asked, query.tier, query.models)
        wanted = min(len(asked.only) or asked.count, query.allowed_count)
        routed = route(
            order, lambda _: True, lambda method, k: ask(method, self._methods[method], query, k), wanted
        )
        hits = [(candidate.method, candidate.hit) for candidate in routed.candidates]
        reasons = self._explain(query, hits) if asked.explain else _NO_REASONS
        if reasons is None:
            degraded = (*degraded, EXPLANATIONS)
        found = Found(
            candidates=self._candidates(query, hits, reasons or _NO_REASONS),
            tier=query.tier,
            release=loaded.release if loaded is not None else "",
            skipped=_all_skipped(routed.skipped, query),
            feature_names=self.feature_names,
            degraded=degraded,
        )
        self._count(found)
        return found

    def _count(self, found: Found) -> None:
        for method, number in Counter([each.method for each in found.candidates]).items():
            self._counted(method).inc(number)
        for skip in found.skipped:
            self._skipped(skip.method, skip.reason).inc()
        for part in found.degraded:
            self._metrics.degraded.labels(self._use_case.id, part).inc()

    def _order(self, asked: Asked, tier: Tier, models: Models | None) -> tuple[Method, ...]:
        """Return the request's methods; else the release's, the use case's, at last `popular`; each once."""
        if asked.methods:
            return method_order(self._use_case, tier, asked.methods)
        first = models.choices.orders.get(tier, ()) if models is not None else ()
        use_case_order = method_order(self._use_case, tier)
        return tuple(dict.fromkeys((*first, *use_case_order, Method.POPULAR)))

    def similar(self, asked: SimilarAsked) -> tuple[tuple[Candidate, ...], str]:
        """Find items like an item, grouped by method, each group best first, and the release that answers.

        Raises
        ------
        NotFound
            If the catalogue holds no such item, or an inactive one.
        """
        item = self._rows.find(asked.item_id)
        if item is None or not item.active:
            raise NotFound(f"no {self._use_case.item} `{asked.item_id}`")
        query, release = self._query_of_nobody(asked.filters, frozenset({asked.item_id}))
        found = similar(self._content, query, asked.item_id, asked.count)
        hits = [(each.method, each.hit) for each in found]
        reasons: Mapping[EntityId, tuple[Contribution, ...]] = {}
        if asked.explain:
            by_content = [hit.item for method, hit in hits if method is Method.CONTENT]
            reasons = self._content.explain_like(query, asked.item_id, by_content)
        return self._candidates(query, hits, reasons), release

    def trending(self, asked: TrendingAsked) -> Trends:
        """List items by popularity, from `asked.after` on."""
        query, _ = self._query_of_nobody(asked.filters)
        part = query.models.popular if query.models is not None else None
        page = self._trending.page(part, query.allowed, asked.page_size, asked.after, query.now)
        hits = [
            (Method.POPULAR, Hit(self._rows.id(row), share))
            for row, share in zip(page.rows.tolist(), page.share.tolist(), strict=True)
        ]
        return Trends(self._candidates(query, hits), page.end)

    def _query_of_nobody(
        self, filters: tuple[FeatureFilter, ...], exclude: frozenset[str] = frozenset()
    ) -> tuple[Query, str]:
        """Return the query of a subject nothing is known of, and the release that it is asked of."""
        asked = Asked(self._use_case, EntityId(""), filters=filters, exclude=exclude)
        loaded = self._release()
        models = loaded.value if loaded is not None else None
        query = Query.of(asked, SubjectState(), self._rows, models, self._clock())
        return query, loaded.release if loaded is not None else ""

    def _explain(
        self, query: Query, hits: Sequence[tuple[Method, Hit]]
    ) -> Mapping[EntityId, tuple[Contribution, ...]] | None:
        """Say how the items found fit the subject; None, and a traceback in the log, when that fails."""
        try:
            return self._content.explain(query, [hit.item for _, hit in hits])
        except Exception:  # noqa: BLE001 - a list without explanations beats none
            _log.exception("explanations failed", use_case=self._use_case.id)
            return None

    def _candidates(
        self,
        query: Query,
        hits: Sequence[tuple[Method, Hit]],
        reasons: Mapping[EntityId, tuple[Contribution, ...]] = _NO_REASONS,
    ) -> tuple[Candidate, ...]:
        # An item may have been erased since it was found.
        hits = [each for each in hits if query.may_show(each[1].item)]
        if not hits:
            return ()
        rows = self._rows.rows((hit.item for _, hit in hits), query.count)
        features = self._features(query, rows, [hit.item for _, hit in hits]).tolist()
        fields = self._use_case.ranking.diversity_fields
        came = self._rows.came(rows, query.count)
        found = []
        for (method, hit), row, created, own in zip(hits, rows.tolist(), came, features, strict=True):
            values = self._rows.discrete(row)
            found.append(
                Candidate(
                    item_id=hit.item,
                    method=method,
                    score=float(hit.score),
                    create_time=created,
                    features=tuple(own),
                    diversity_values=tuple([values.get(name, ()) for name in fields]),
                    contributions=reasons.get(hit.item, ()),
                )
            )
        return tuple(found)

    def _features(
        self, query: Query, rows: NDArray[np.int64], items: Sequence[EntityId]
    ) -> NDArray[np.float32]:
        """Return the ITEM ranking features of these items, in these rows, (len(rows), len(feature names))."""
        facts = ItemFacts(
            age_days=np.full(len(rows), np.nan),  # recency is ranking's
            views=self._counts.views(rows),
            interactions=self._counts.interactions(rows),
            popularity_maximum=self._counts.maximum,
            values=[self._rows.shares(row) for row in rows.tolist()],
            profile=self._value_profile(query),
            scores={method: self._scores.of(method, query, items) for method in self._scored},
            numbers={name: self._rows.numbers_or_mean(name, rows, query.count) for name in self._numbers},
            subject={} if query.subject is None else discrete_features(query.subject),
        )
        return item_features(self._declared, facts)

    def _value_profile(self, query: Query) -> ValueProfile:
        events, rows = self._use_case.events, self._rows
        reactions = []
        for (item, event_type, _, reason), age in zip(
            query.events[:AFFINITY_EVENTS], query.ages, strict=False
        ):
            row = rows.row(item)
            if row is not None:
                weight = events[event_type].weight * 0.5 ** (max(age, 0.0) / AFFINITY_HALF_LIFE_DAYS)
                shares = rows.shares(row)
                reactions.append((self._blamed(shares, reason) if reason else shares, weight))
        return ValueProfile.of(reactions)

    def _blamed(self, shares: ValueShares, reason: str) -> ValueShares:
        """Return those of an item's values that a dislike for this reason is about."""
        named = self._use_case.dislikes[reason].fields if reason in self._use_case.dislikes else ()
        return tuple(share for share in shares if share[0] in named)


def _all_skipped(skipped: tuple[Skip, ...], query: Query) -> tuple[Skip, ...]:
    """Add what the ensemble had to do without, each method once."""
    told = {skip.method for skip in skipped}
    return (*skipped, *(skip for skip in query.notes.left_out if skip.method not in told))
