"""What a use case declares, checked as a whole: every problem is reported at once."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]

LIST_FEATURES = ("model_score", "diversity", "original_score")
"""Ranking features that depend on the list; every use case has them."""


class FeatureType(StrEnum):
    """How a feature's value is typed and encoded."""

    CATEGORICAL = "categorical"
    MULTI = "multi"
    NUMERIC = "numeric"
    TEXT = "text"
    EMBEDDING = "embedding"


class Method(StrEnum):
    """How a candidate is found."""

    CONTENT = "content"
    ALS = "als"
    TWO_TOWER = "two_tower"
    ENSEMBLE = "ensemble"
    POPULAR = "popular"


class Tier(StrEnum):
    """How much is known of a subject in a use case."""

    COLD = "cold"
    WARM = "warm"
    HOT = "hot"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Event(_Part):
    """What one event type is worth.

    Parameters
    ----------
    weight
        Strength for ALS and training; negative for a rejection.
    label
        Graded relevance for the Two-Tower, 0 to 1.
    strong
        A strong positive: the ranker's label 1, and reason enough not to show the item again.
    view
        Counts as a view, not as an interaction, in the `popularity` ranking feature.
    """

    weight: Annotated[float, Field(ge=-10.0, le=10.0)]
    label: Share
    strong: bool = False
    view: bool = False


class FieldMatch(_Part):
    """A subject feature that is compared with an item feature by content retrieval."""

    subject: Name
    item: Name
    weight: Annotated[float, Field(gt=0.0, le=10.0)] = 1.0


class DislikeReason(_Part):
    """What a dislike with this reason does to the subject's feature weights.

    Each value that the disliked item has in `fields` is cut by `cut` (a share); an empty list hides the
    item and changes no weight.
    """

    fields: tuple[Name, ...] = ()
    cut: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class Tiers(_Part):
    """Bounds, in interactions of the subject in the use case."""

    cold_below: Annotated[int, Field(ge=1)] = 5
    hot_from: Annotated[int, Field(ge=2)] = 20

    def of(self, interactions: int) -> Tier:
        """Return the tier of a subject with this many interactions (0 or more)."""
        if interactions < self.cold_below:
            return Tier.COLD
        return Tier.HOT if interactions >= self.hot_from else Tier.WARM


class MethodOrder(_Part):
    """Which methods are tried, in order, by tier."""

    cold: tuple[Method, ...] = (Method.CONTENT, Method.POPULAR)
    warm: tuple[Method, ...] = (Method.TWO_TOWER, Method.ALS, Method.CONTENT, Method.POPULAR)
    hot: tuple[Method, ...] = (Method.TWO_TOWER, Method.ALS, Method.CONTENT, Method.POPULAR)

    def of(self, tier: Tier) -> tuple[Method, ...]:
        """Return the order for a tier."""
        return {Tier.COLD: self.cold, Tier.WARM: self.warm, Tier.HOT: self.hot}[tier]


class Popularity(_Part):
    """How popular items are counted.

    Parameters
    ----------
    half_life_days
        After this many days an event counts half.
    segments
        Categorical and multi subject features within whose values popularity is counted too.
    ages
        Numeric subject features that hold a year, and the bounds (years, ascending) that part the subjects by
        how old they were at the event; a missing year is a part of its own.
    earlier
        Bounds (ascending) that part the events by how many interactions the subject had before; () for no
        parting.
    """

    half_life_days: Annotated[float, Field(gt=0.0)] = 14.0
    segments: tuple[Name, ...] = ()
    ages: dict[Name, Annotated[tuple[FiniteFloat, ...], Field(min_length=1, max_length=50)]] = Field(
        default_factory=dict
    )
    earlier: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=50)] = (1, 5, 20)

    @model_validator(mode="after")
    def _check_bounds(self) -> Popularity:
        bounds = {**{f"ages.{name}": each for name, each in self.ages.items()}, "earlier": self.earlier}
        problems = [
            f"{where}: bounds must ascend"
            for where, each in bounds.items()
            if any(low >= high for low, high in pairwise(each))
        ]
        if len(set(self.segments)) != len(self.segments):
            problems.append("segments: a name stands twice")
        if problems:
            raise ValueError("; ".join(problems))
        return self


class Exploration(_Part):
    """Chance in served lists: `share` of them are shuffled within blocks of `reach` + 1 ranks; 0: none."""

    share: Share = 0.0
    reach: Annotated[int, Field(ge=1, le=9)] = 1


class RankingRules(_Part):
    """Features of the ranker and the order used while there is no model.

    Parameters
    ----------
    features
        Ranking features in column order; the list features are always among them.
    rule
        Weight by feature of the rule-based score.
    diversity_fields
        Item features compared for `diversity`, each with an equal share.
    exploration
        Chance in served lists. A matter of serving: no part of the schema.
    """

    features: tuple[Name, ...] = ("model_score", "recency", "popularity", "diversity", "original_score")
    rule: dict[Name, float] = Field(
        default_factory=lambda: {"model_score": 0.5, "recency": 0.2, "popularity": 0.2, "diversity": 0.1}
    )
    diversity_fields: tuple[Name, ...] = ()
    exploration: Exploration = Exploration()


class UseCase(_Part):
    """One direction of recommendation: subject kind to item kind."""

    id: Name
    title: Annotated[str, Field(min_length=1, max_length=200)]
    subject: Name
    item: Name
    reverse_of: Name | None = None
    events: Annotated[dict[Name, Event], Field(min_length=2)]
    features: dict[Name, dict[Name, FeatureType]]
    match: tuple[FieldMatch, ...] = ()
    embedding_weight: Share = 0.2
    embedding_width: Annotated[int, Field(ge=8, le=4096)] = 384
    tiers: Tiers = Tiers()
    methods: MethodOrder = MethodOrder()
    dislikes: Annotated[dict[Name, DislikeReason], Field(min_length=1)]
    popularity: Popularity = Popularity()
    ranking: RankingRules = RankingRules()
    dislike_event: Literal["dislike"] = "dislike"

    @model_validator(mode="after")
    def _check_whole(self) -> UseCase:
        problems = [*self._event_problems(), *self._field_problems(), *self._ranking_problems()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _event_problems(self) -> list[str]:
        problems = []
        if self.dislike_event not in self.events:
            problems.append(f"events: `{self.dislike_event}` is missing")
        if not any(event.strong for event in self.events.values()):
            problems.append("events: none is strong, so nothing could be learned from")
        if self.tiers.hot_from <= self.tiers.cold_below:
            problems.append("tiers.hot_from: must be over tiers.cold_below")
        return problems

    def _field_problems(self) -> list[str]:
        problems = [
            f"features: no features of kind `{kind}`"
            for kind in (self.subject, self.item)
            if kind not in self.features
        ]
        subject, item = self.subject_features, self.item_features
        named = [
            *((f"match[{i}].subject", m.subject, subject) for i, m in enumerate(self.match)),
            *((f"match[{i}].item", m.item, item) for i, m in enumerate(self.match)),
            *(("popularity.segments", name, subject) for name in self.popularity.segments),
            *(("ranking.diversity_fields", name, item) for name in self.ranking.diversity_fields),
            *((f"dislikes.{r}.fields", name, item) for r, d in self.dislikes.items() for name in d.fields),
        ]
        discrete = (FeatureType.CATEGORICAL, FeatureType.MULTI)
        for where, name, schema in named:
            if name not in schema:
                problems.append(f"{where}: unknown feature `{name}`")
            elif schema[name] not in discrete:
                problems.append(f"{where}: `{name}` is {schema[name]}, not categorical or multi")
        for name in self.popularity.ages:
            if name not in subject:
                problems.append(f"popularity.ages: unknown feature `{name}`")
            elif subject[name] is not FeatureType.NUMERIC:
                problems.append(f"popularity.ages: `{name}` is {subject[name]}, not numeric")
        return problems

    def _ranking_problems(self) -> list[str]:
        names = self.ranking.features
        problems = [f"ranking.features: `{name}` is missing" for name in LIST_FEATURES if name not in names]
        if len(set(names)) != len(names):
            problems.append("ranking.features: a name stands twice")
        problems += [
            f"ranking.rule: `{name}` is no ranking feature" for name in self.ranking.rule if name not in names
        ]
        return problems

    @property
    def subject_features(self) -> dict[str, FeatureType]:
        """Feature types of the subject kind, by name."""
        return self.features.get(self.subject, {})

    @property
    def item_features(self) -> dict[str, FeatureType]:
        """Feature types of the item kind, by name."""
        return self.features.get(self.item, {})

    @property
    def strong_events(self) -> frozenset[str]:
        """Event types that are strong positives."""
        return frozenset(name for name, event in self.events.items() if event.strong)

    @property
    def view_events(self) -> frozenset[str]:
        """Event types that count as views."""
        return frozenset(name for name, event in self.events.items() if event.view)

    @property
    def schema_fingerprint(self) -> str:
        """Twelve hex digits over all that a model's input depends on.

        Feature names and types of both kinds, the embedding's width, the ranking features: a release
        with another fingerprint was trained on other input and is refused.
        """
        schema = {
            "kinds": [self.subject, self.item],
            "features": {
                kind: dict(sorted(self.features[kind].items())) for kind in (self.subject, self.item)
            },
            "embedding_width": self.embedding_width,
            "ranking": list(self.ranking.features),
        }
        return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:12]
