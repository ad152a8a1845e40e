"""Ranking features by name. The same code builds them for `Recommend` and for `Rank`.

ITEM features depend on the subject and one item: whoever knows the item computes them. LIST features
depend on the other candidates, or on what was placed before: `matchloop.rerank.placement` computes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from matchloop.entities import discrete_values
from matchloop.errors import InvalidInput, Violation
from matchloop.usecase.model import LIST_FEATURES

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from matchloop.entities import Entity
    from matchloop.usecase import UseCase

RECENCY_DAYS = 30.0
INTERACTION_WEIGHT = 3.0

DiscreteValues = Mapping[str, Sequence[str]]
"""The discrete values of one item by feature name."""


ValueShares = Sequence[tuple[str, tuple[str, ...], float]]
"""One item's discrete values, ready to be weighed: by feature, in the order of their names, the distinct
values, sorted, and the share of each, 1/√count. Of `value_shares`; worth keeping with the item."""


class Scope(StrEnum):
    """What a ranking feature depends on."""

    ITEM = "item"
    LIST = "list"


def discrete_features(item: Entity) -> dict[str, tuple[str, ...]]:
    """Return an item's categorical and multi values by feature name; features without values are left out."""
    found = {name: discrete_values(value) for name, value in item.features.items()}
    return {name: values for name, values in found.items() if values}


def value_shares(values: DiscreteValues) -> ValueShares:
    """Return an item's values ready to be weighed; features without values are left out."""
    distinct = ((name, tuple(sorted(set(values[name])))) for name in sorted(values))
    return tuple((name, held, 1.0 / math.sqrt(len(held))) for name, held in distinct if held)


@dataclass(frozen=True, slots=True)
class ValueProfile:
    """What values the items had that a subject reacted to.

    Parameters
    ----------
    weights
        Weight by item feature name and value, each feature's weights of Euclidean length 1; negative
        for values the subject pushed away. Empty for a subject that reacted to nothing.
    """

    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, reactions: Iterable[tuple[ValueShares, float]]) -> ValueProfile:
        """Build the profile from (the item's values, the reaction's weight) pairs, in any order.

        The weight is the event's, decayed as the caller sees fit; a dislike's is negative. An item's
        weight is shared by the values of a feature (1/√count each), so an item with many values does
        not drown the others.
        """
        sums: dict[str, dict[str, float]] = {}
        for shares, weight in reactions:
            for name, values, share in shares:
                bucket = sums.get(name)
                if bucket is None:
                    bucket = sums[name] = {}
                each = weight * share
                for value in values:
                    bucket[value] = bucket.get(value, 0.0) + each
        weights = {}
        for name in sorted(sums):
            length = math.sqrt(sum([weight * weight for weight in sums[name].values()]))
            if length > 0.0:
                weights[name] = {value: weight / length for value, weight in sums[name].items()}
        return cls(weights)


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
    """

    age_days: NDArray[np.float64]
    views: NDArray[np.float64]
    interactions: NDArray[np.float64]
    popularity_maximum: float
    values: Sequence[ValueShares]
    profile: ValueProfile = ValueProfile()


def recency(age_days: ArrayLike) -> NDArray[np.float32]:
    """Return exp(−age days / 30), (n,) in [0, 1]; 1 for a date in the future, 0 where NaN (unknown)."""
    age = np.maximum(np.asarray(age_days, dtype=np.float64), 0.0)
    return np.asarray(np.nan_to_num(np.exp(-age / RECENCY_DAYS), nan=0.0), dtype=np.float32)


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


RANKING_FEATURES: Mapping[str, RankingFeature] = {
    feature.name: feature
    for feature in (
        RankingFeature("recency", Scope.ITEM, lambda facts: recency(facts.age_days)),
        RankingFeature(
            "popularity",
            Scope.ITEM,
            lambda facts: popularity(facts.views, facts.interactions, facts.popularity_maximum),
        ),
        RankingFeature(
            "subject_affinity", Scope.ITEM, lambda facts: subject_affinity(facts.profile, facts.values)
        ),
        *(RankingFeature(name, Scope.LIST) for name in LIST_FEATURES),
    )
}
"""Every ranking feature there is; a new one is added here, then named by use cases."""


@dataclass(frozen=True, slots=True)
class FeatureColumns:
    """Where each feature stands in the ranker's input.

    Parameters
    ----------
    names
        All features, in `use_case.ranking.features` order: the columns that are scored and logged.
    item_names
        The ITEM features among them, same order: the columns of `CandidateList.item_features`.
    item_columns
        Their positions in `names`.
    model_score, original_score, diversity
        Positions of the LIST features in `names`.
    """

    names: tuple[str, ...]
    item_names: tuple[str, ...]
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
        unknown = [name for name in names if name not in RANKING_FEATURES]
        if unknown:
            known = ", ".join(RANKING_FEATURES)
            raise InvalidInput.of(
                [
                    Violation(f"{use_case.id}: ranking.features", f"no feature `{name}`; there are: {known}")
                    for name in unknown
                ]
            )
        items = tuple(i for i, name in enumerate(names) if RANKING_FEATURES[name].scope is Scope.ITEM)
        return cls(
            names=names,
            item_names=tuple(names[i] for i in items),
            item_columns=items,
            model_score=names.index("model_score"),
            original_score=names.index("original_score"),
            diversity=names.index("diversity"),
        )


def item_features(names: Sequence[str], facts: ItemFacts) -> NDArray[np.float32]:
    """Return the ITEM features of n items, (n, len(names)) float32, a column per name.

    Raises
    ------
    InvalidInput
        If a name is no ITEM feature.
    """
    computes = [
        (name, RANKING_FEATURES[name].compute if name in RANKING_FEATURES else None) for name in names
    ]
    wrong = [Violation("names", f"`{name}` is no ITEM feature") for name, compute in computes if not compute]
    if wrong:
        raise InvalidInput.of(wrong)
    columns = [compute(facts) for _, compute in computes if compute]
    return np.stack(columns, axis=1) if columns else np.empty((len(facts.values), 0), dtype=np.float32)
