"""Ranking features by name. The same code builds them for `Recommend` and for `Rank`.

ITEM features depend on the subject and one item: whoever knows the item computes them. LIST features
depend on the other candidates, or on what was placed before: `matchloop.rerank.placement` computes them.

A use case declares features by name in ``[ranking] features``: those of `RANKING_FEATURES`; a numeric feature
of its item kind, by that name (where an item has none, the catalogue's mean stands in); and ``match_`` with
the item side of one of its field matches, for how well the subject's values fit the item's there. Whatever is
declared is served, logged, trained on and scored by that name, in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import InvalidInput, Violation
from matchloop.rerank.values import DiscreteValues, ValueProfile, ValueShares, field_match
from matchloop.usecase.model import LIST_FEATURES, FeatureType, Method

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from matchloop.usecase import UseCase

RECENCY_DAYS = 30.0
INTERACTION_WEIGHT = 3.0


class Scope(StrEnum):
    """What a ranking feature depends on."""

    ITEM = "item"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What ITEM features are computed from, for n items.

    Parameters
    ----------
    age_days
        (n,) days since each item came to be; NaN where unknown.
    views, interactions
        (n,) counts in the use case, 0 or more.
    popularity_maximum
        Largest `popularity_count` of the catalogue.
    values
        n items' discrete values, each of `value_shares`.
    profile
        What the subject reacted to before this request.
    scores
        By method whose score is a ranking feature: (n,) what it says of each item, finite, 0 when nothing.
    numbers
        By numeric item feature that is a ranking feature: (n,) values, finite.
    subject
        The subject's own discrete values.
    """

    age_days: NDArray[np.float64]
    views: NDArray[np.float64]
    interactions: NDArray[np.float64]
    popularity_maximum: float
    values: Sequence[ValueShares]
    profile: ValueProfile = field(default_factory=ValueProfile)
    scores: Mapping[Method, NDArray[np.float64]] = field(default_factory=dict)
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    subject: DiscreteValues = field(default_factory=dict)


def recency(age_days: ArrayLike) -> NDArray[np.float32]:
    """Return exp(−age days / 30), (n,) in [0, 1]; 1 for a date in the future, 0 where NaN (unknown)."""
    age = np.maximum(np.asarray(age_days, dtype=np.float64), 0.0)
    return np.where(np.isnan(age), 0.0, np.exp(-age / RECENCY_DAYS)).astype(np.float32)


def popularity_count(views: ArrayLike, interactions: ArrayLike) -> NDArray[np.float64]:
    """Return views + 3 × interactions, (n,)."""
    return np.asarray(views, dtype=np.float64) + INTERACTION_WEIGHT * np.asarray(
        interactions, dtype=np.float64
    )


def popularity(views: ArrayLike, interactions: ArrayLike, maximum: float) -> NDArray[np.float32]:
    """Return log(views + 3 × interactions + 1) / log(maximum + 1), (n,) in [0, 1]; 0 while maximum is 0."""
    count = popularity_count(views, interactions)
    if maximum <= 0.0:
        return np.zeros(count.shape, dtype=np.float32)
    share = np.log1p(np.maximum(count, 0.0)) / np.log1p(maximum)
    return np.asarray(np.clip(share, 0.0, 1.0), dtype=np.float32)


def response(views: ArrayLike, interactions: ArrayLike) -> NDArray[np.float32]:
    """Return (interactions + 1) / (views + interactions + 2), (n,) in (0, 1): 1/2 where nothing is known.

    How many of those who looked did more than look: the mean of what is believed of that rate after these
    counts when all rates were as likely before (Laplace's rule). `popularity` counts how many came at all.
    """
    more = np.asarray(interactions, dtype=np.float64)
    return np.asarray((more + 1.0) / (np.asarray(views, dtype=np.float64) + more + 2.0), dtype=np.float32)


def subject_affinity(profile: ValueProfile, items: Sequence[ValueShares]) -> NDArray[np.float32]:
    """Return how well each item's values fit what the subject reacted to.

    Per feature of the profile: cosine between the profile's weights and the item's values (0 where the
    item has none); the mean over the profile's features, cut at 0 from below.

    Returns
    -------
    (n,) float32 in [0, 1]; all 0 for an empty profile.
    """
    if not profile.weights:
        return np.zeros(len(items), dtype=np.float32)
    by_feature, features = profile.weights, len(profile.weights)
    result = []
    for shares in items:
        total = 0.0
        for name, values, share in shares:
            weights = by_feature.get(name)
            if weights is not None:
                total += share * sum([weights.get(value, 0.0) for value in values])
        result.append(total / features)
    return np.clip(np.asarray(result, dtype=np.float32), 0.0, 1.0)


def min_max(scores: ArrayLike) -> NDArray[np.float32]:
    """Return scores moved to [0, 1] over the list, (n,); all 1 when they are all equal (or there is one)."""
    raw = np.asarray(scores, dtype=np.float64)
    if raw.size == 0:
        return raw.astype(np.float32)
    low, high = float(raw.min()), float(raw.max())
    if high == low:
        return np.ones(raw.shape, dtype=np.float32)
    return ((raw - low) / (high - low)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class RankingFeature:
    """One feature of the ranker.

    Parameters
    ----------
    name
        As in a use case's `ranking.features`.
    scope
        ITEM features have `compute`; LIST features come from the placement.
    compute
        From the facts of n items to (n,) float32. Pure: row i depends on item i and the profile alone.
    """

    name: str
    scope: Scope
    compute: Callable[[ItemFacts], NDArray[np.float32]] | None = None


SCORE_FEATURES: Mapping[str, Method] = {
    f"{method}_score": method for method in (Method.ALS, Method.TWO_TOWER, Method.CONTENT)
}
"""What a method says of an item, whichever method found it."""


def _score_of(method: Method) -> Callable[[ItemFacts], NDArray[np.float32]]:
    return lambda facts: facts.scores[method].astype(np.float32)


RANKING_FEATURES: Mapping[str, RankingFeature] = {
    feature.name: feature
    for feature in (
        RankingFeature("recency", Scope.ITEM, lambda facts: recency(facts.age_days)),
        RankingFeature(
            "popularity",
            Scope.ITEM,
            lambda facts: popularity(facts.views, facts.interactions, facts.popularity_maximum),
        ),
        RankingFeature("response", Scope.ITEM, lambda facts: response(facts.views, facts.interactions)),
        RankingFeature(
            "subject_affinity", Scope.ITEM, lambda facts: subject_affinity(facts.profile, facts.values)
        ),
        *(RankingFeature(name, Scope.ITEM, _score_of(method)) for name, method in SCORE_FEATURES.items()),
        *(RankingFeature(name, Scope.LIST) for name in LIST_FEATURES),
    )
}
"""The ranking features that every use case can name; a new one is added here."""

MATCH = "match_"
"""What the names of features begin with that compare a field of both sides."""


def ranking_feature(use_case: UseCase, name: str) -> RankingFeature | None:
    """Return the feature that a use case declares by `name`; None when there is none of that name."""
    if name in RANKING_FEATURES:
        return RANKING_FEATURES[name]
    if use_case.item_features.get(name) is FeatureType.NUMERIC:
        return RankingFeature(name, Scope.ITEM, lambda facts: facts.numbers[name].astype(np.float32))
    item = name.removeprefix(MATCH)
    subjects = tuple(match.subject for match in use_case.match if match.item == item)
    if item == name or not subjects:
        return None
    return RankingFeature(
        name, Scope.ITEM, lambda facts: field_match(facts.subject, subjects, facts.values, item)
    )


def numbers_of(use_case: UseCase) -> tuple[str, ...]:
    """Return the numeric item features that the use case declares as ranking features."""
    schema, names = use_case.item_features, use_case.ranking.features
    own = (name for name in names if name not in RANKING_FEATURES)
    return tuple(name for name in own if schema.get(name) is FeatureType.NUMERIC)


@dataclass(frozen=True, slots=True)
class FeatureColumns:
    """Where each feature stands in the ranker's input.

    Parameters
    ----------
    names
        All features, in `use_case.ranking.features` order: the columns that are scored and logged.
    item_names
        The ITEM features among them, same order: the columns of `CandidateList.item_features`.
    item_features
        The same, as they are computed.
    item_columns
        Their positions in `names`.
    model_score, original_score, diversity
        Positions of the LIST features in `names`.
    """

    names: tuple[str, ...]
    item_names: tuple[str, ...]
    item_features: tuple[RankingFeature, ...]
    item_columns: tuple[int, ...]
    model_score: int
    original_score: int
    diversity: int

    @classmethod
    def of(cls, use_case: UseCase) -> FeatureColumns:
        """Return a use case's columns.

        Raises
        ------
        InvalidInput
            Naming every feature that does not exist.
        """
        names = use_case.ranking.features
        found = [ranking_feature(use_case, name) for name in names]
        features = [feature for feature in found if feature is not None]
        if len(features) < len(names):
            known = ", ".join(known_features(use_case))
            raise InvalidInput.of(
                [
                    Violation(f"{use_case.id}: ranking.features", f"no feature `{name}`; there are: {known}")
                    for name, feature in zip(names, found, strict=True)
                    if feature is None
                ]
            )
        items = tuple(i for i, feature in enumerate(features) if feature.scope is Scope.ITEM)
        return cls(
            names=names,
            item_names=tuple(names[i] for i in items),
            item_features=tuple(features[i] for i in items),
            item_columns=items,
            model_score=names.index("model_score"),
            original_score=names.index("original_score"),
            diversity=names.index("diversity"),
        )


def known_features(use_case: UseCase) -> tuple[str, ...]:
    """Return the name of every ranking feature that the use case can declare."""
    numeric = (name for name, type_ in use_case.item_features.items() if type_ is FeatureType.NUMERIC)
    matches = (f"{MATCH}{match.item}" for match in use_case.match)
    return tuple(dict.fromkeys((*RANKING_FEATURES, *numeric, *matches)))


def item_features(features: Sequence[RankingFeature], facts: ItemFacts) -> NDArray[np.float32]:
    """Return ITEM features of n items, (n, len(features)) float32, a column per feature.

    Raises
    ------
    InvalidInput
        If one is no ITEM feature.
    """
    wrong = [
        Violation("features", f"`{each.name}` is no ITEM feature") for each in features if not each.compute
    ]
    if wrong:
        raise InvalidInput.of(wrong)
    columns = [each.compute(facts) for each in features if each.compute]
    return np.stack(columns, axis=1) if columns else np.empty((len(facts.values), 0), dtype=np.float32)
