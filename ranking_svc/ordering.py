"""From candidates to a list in order: by the release's ranker, else by the rule, else as they came."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matchloop.days import SECONDS_A_DAY
from matchloop.experiments.arms import CHALLENGER_ARM
from matchloop.observe.logs import get_logger
from matchloop.rerank.calibration import CLIENT_METHOD
from matchloop.rerank.features import FeatureColumns, recency
from matchloop.rerank.placement import CandidateList, place
from matchloop.rerank.scorer import RuleScorer
from matchloop.usecase import Method
from ranking_svc.domain import Explanation, ListItem, Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from matchloop.rerank.placement import RankedList
    from matchloop.rerank.scorer import Scorer
    from matchloop.usecase import UseCase
    from ranking_svc.domain import Candidate, Candidates
    from ranking_svc.releases import Releases

RECENCY = "recency"

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Ordered:
    """A list in order.

    Parameters
    ----------
    items
        Best first.
    feature_names
        Names of each item's features; empty: none were known, none are logged.
    release
        The release that made the list; empty: none.
    reranked
        Whether a trained model ordered it.
    why_not
        When it did not: ``empty``, ``popular``, ``no_candidates``, ``no_release``, ``no_ranker`` or
        ``ranker_failed``.
    degraded
        Parts that could not be used.
    """

    items: tuple[ListItem, ...]
    feature_names: tuple[str, ...]
    release: str
    reranked: bool
    why_not: str = ""
    degraded: tuple[str, ...] = ()


class Ordering:
    """Orders lists with the release that found the candidates if it is loaded, else with the current one.

    Parameters
    ----------
    use_cases
        Every one that will be asked for.
    releases
        Where the rankers are.
    """

    def __init__(self, use_cases: Mapping[str, UseCase], releases: Releases) -> None:
        self._releases = releases
        self._columns = {name: FeatureColumns.of(use_case) for name, use_case in use_cases.items()}
        self._rules = {name: RuleScorer(use_case) for name, use_case in use_cases.items()}

    def order(
        self,
        use_case: UseCase,
        found: Candidates,
        *,
        now: datetime,
        limit: int | None,
        explain: bool,
    ) -> Ordered:
        """Order the candidates; what `popular` alone found and what stands in keep their order.

        Parameters
        ----------
        now
            Aware UTC; ages for `recency` count up to it.
        limit
            Longest list wanted; None: all.
        explain
            With an explanation per item.
        """
        if not found.items:
            return Ordered((), (), found.release, reranked=False, why_not="empty")
        columns, rule = self._columns[use_case.id], self._rules[use_case.id]
        known = not found.stand_in
        loaded = self._releases.choose(use_case.id, found.release) if known else None
        ranker = loaded.value.ranker if loaded is not None else None
        candidates, degraded = _candidate_list(use_case, columns, found, now)
        ranked, failed = self._place(use_case, candidates, columns, ranker or rule, limit)
        reranked = ranked.reranked and known
        if failed:
            degraded.append(Part.RANKER.value)
        return Ordered(
            items=_items(found.items, ranked, columns, known=known, explain=explain),
            feature_names=ranked.feature_names if known else (),
            release=loaded.release if loaded is not None else found.release,
            reranked=reranked,
            why_not="" if reranked else _why_not(candidates, known, loaded is None, ranker is None),
            degraded=tuple(degraded),
        )

    def expected(self, use_case: str, arm: str) -> str:
        """Return the id of the release that an arm's lists should be made with; empty: none is loaded."""
        return self._releases.expected(use_case, challenger=arm == CHALLENGER_ARM)

    def _place(
        self,
        use_case: UseCase,
        candidates: CandidateList,
        columns: FeatureColumns,
        scorer: Scorer,
        limit: int | None,
    ) -> tuple[RankedList, bool]:
        """Place with the scorer, or with the rule if a trained one fails; says whether it did."""
        if scorer.learned:
            try:
                ranked = place(candidates, columns, scorer, limit=limit)
                if np.isfinite(ranked.scores).all():
                    return ranked, False
                _log.error("ranker_failed", use_case=use_case.id, error="scores that are not finite")
            except Exception:  # noqa: BLE001 - whatever a model dies of, the rule still orders the list
                _log.exception("ranker_failed", use_case=use_case.id)
        return place(candidates, columns, self._rules[use_case.id], limit=limit), scorer.learned


def _candidate_list(
    use_case: UseCase, columns: FeatureColumns, found: Candidates, now: datetime
) -> tuple[CandidateList, list[str]]:
    """Return what is placed, and the parts that were missing."""
    items = found.items
    fields = len(use_case.ranking.diversity_fields)
    features, complete = _item_features(found, columns.item_names, now)
    candidates = CandidateList(
        items=tuple(item.item_id for item in items),
        retrieval_scores=np.array([item.score for item in items], dtype=np.float32),
        methods=tuple(Method.POPULAR if found.stand_in else item.method or CLIENT_METHOD for item in items),
        item_features=features,
        diversity_values=[_fit(item.diversity_values, fields) for item in items],
    )
    return candidates, [] if complete or found.stand_in else [Part.FEATURES.value]


def _item_features(
    found: Candidates, names: Sequence[str], now: datetime
) -> tuple[NDArray[np.float32], bool]:
    """Return the candidates' ITEM features, (n, len(names)), and whether all came: others count 0.

    `recency`, which is about this moment, is computed here unless it came.
    """
    n = len(found.items)
    sent = np.array([item.features for item in found.items], dtype=np.float32).reshape(n, -1)
    features = np.zeros((n, len(names)), dtype=np.float32)
    complete = True
    for column, name in enumerate(names):
        if name in found.feature_names:
            features[:, column] = sent[:, found.feature_names.index(name)]
        elif name == RECENCY:
            features[:, column] = recency([_age_days(item, now) for item in found.items])
        else:
            complete = False
    return features, complete


def _age_days(item: Candidate, now: datetime) -> float:
    return math.nan if item.create_time is None else (now - item.create_time).total_seconds() / SECONDS_A_DAY


def _fit(values: Sequence[Sequence[str]], fields: int) -> Sequence[Sequence[str]]:
    """Return values for exactly so many fields: what is missing is empty, what is over is left out."""
    return values if len(values) == fields else (*values[:fields], *[()] * (fields - len(values)))


def _items(
    found: Sequence[Candidate],
    ranked: RankedList,
    columns: FeatureColumns,
    *,
    known: bool,
    explain: bool,
) -> tuple[ListItem, ...]:
    rows = ranked.features.tolist()
    items = []
    for position, score, row in zip(ranked.order.tolist(), ranked.scores.tolist(), rows, strict=True):
        candidate = found[position]
        explanation = None
        if explain:
            explanation = Explanation(
                features=tuple(zip(columns.names, row, strict=True)) if known else (),
                contributions=candidate.contributions,
                retrieval_score=candidate.score,
                original_score=row[columns.original_score],
            )
        items.append(
            ListItem(
                candidate.item_id,
                score,
                candidate.method,
                features=tuple(row) if known else (),
                explanation=explanation,
                retrieval_score=candidate.score,
            )
        )
    return tuple(items)


def _why_not(candidates: CandidateList, known: bool, no_release: bool, no_ranker: bool) -> str:  # noqa: FBT001
    if not known:
        return "no_candidates"
    if all(method is Method.POPULAR for method in candidates.methods):
        return "popular"
    if no_release:
        return "no_release"
    return "no_ranker" if no_ranker else "ranker_failed"
