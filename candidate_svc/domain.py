"""What is asked of candidate_svc and what it answers, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from candidate_svc.trending import Position
    from matchloop.entities import Entity, EntityId, FeatureValue
    from matchloop.retrieval.profile import SubjectEvent
    from matchloop.retrieval.routing import Skip
    from matchloop.usecase import Method, Tier, UseCase

FEEDBACK = "feedback"
"""Name of the upstream in `Found.degraded`."""

EXPLANATIONS = "explanations"
"""In `Found.degraded` when they were asked for and could not be made."""


@dataclass(frozen=True, slots=True)
class Equals:
    """Categorical: is this value. Multi: holds it."""

    feature: str
    value: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """Categorical: is one of these values. Multi: holds one of them."""

    feature: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Within:
    """Numeric: in the closed range; a side that is None is open."""

    feature: str
    minimum: float | None = None
    maximum: float | None = None


FeatureFilter = Equals | OneOf | Within


@dataclass(frozen=True, slots=True)
class SubjectState:
    """All that retrieval needs of a subject, as the store told it in one read.

    Parameters
    ----------
    entity
        None when the catalogue does not hold the subject.
    interaction_count
        Interactions in the use case, dislikes included.
    recent_events
        Latest first.
    hidden
        Items disliked or strongly reacted to.
    weight_factors
        Factor by (item feature, value), decayed to now; 1 where nothing stands.
    """

    entity: Entity | None = None
    interaction_count: int = 0
    recent_events: tuple[SubjectEvent, ...] = ()
    hidden: frozenset[str] = frozenset()
    weight_factors: Mapping[tuple[str, str], float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Asked:
    """One GetCandidates, validated.

    Parameters
    ----------
    count
        How many candidates, 1 to 500.
    exclude
        Item ids to leave out.
    methods
        In place of the tier's order when not empty.
    only
        When not empty: score exactly these items and no others.
    challenger
        Whether to answer with the challenger's release; while there is none, the champion's answers.
    """

    use_case: UseCase
    subject_id: EntityId
    count: int = 20
    exclude: frozenset[str] = frozenset()
    filters: tuple[FeatureFilter, ...] = ()
    subject_features: Mapping[str, FeatureValue] = field(default_factory=lambda: MappingProxyType({}))
    methods: tuple[Method, ...] = ()
    explain: bool = False
    only: tuple[str, ...] = ()
    challenger: bool = False


@dataclass(frozen=True, slots=True)
class SimilarAsked:
    """One GetSimilarItems, validated."""

    use_case: UseCase
    item_id: EntityId
    count: int = 20
    filters: tuple[FeatureFilter, ...] = ()
    explain: bool = False


@dataclass(frozen=True, slots=True)
class TrendingAsked:
    """One page of ListTrending, validated; it begins after the position `after`, None: the first page."""

    use_case: UseCase
    page_size: int = 20
    after: Position | None = None
    filters: tuple[FeatureFilter, ...] = ()


@dataclass(frozen=True, slots=True)
class ValueFactor:
    """A value of an item that weighs less for the subject since its dislikes; `factor` in [0, 1)."""

    value: str
    factor: float


@dataclass(frozen=True, slots=True)
class Contribution:
    """How much one field added to a content score.

    Parameters
    ----------
    field
        ``subject_field~item_field``, ``reacted~item_field`` or ``embedding``.
    values
        Values of the item that met the subject's, the most wanted first, at most 8.
    factors
        The item's values that weigh less since the subject's dislikes, the smallest factor first, at most 8;
        `amount` has them in it.
    """

    field: str
    values: tuple[str, ...]
    amount: float
    factors: tuple[ValueFactor, ...] = ()


class Candidate(NamedTuple):
    """An item that may be recommended, with all that ranking needs of it; a tuple, for a list has many.

    Parameters
    ----------
    score
        The method's own, finite; comparable within a method only.
    features
        Values of `Found.feature_names`, in that order.
    diversity_values
        Values of the use case's diversity fields, in their order.
    """

    item_id: EntityId
    method: Method
    score: float
    create_time: datetime | None
    features: tuple[float, ...]
    diversity_values: tuple[tuple[str, ...], ...]
    contributions: tuple[Contribution, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to one `Asked`.

    Parameters
    ----------
    candidates
        Grouped by method in the order asked, each group best first; no item twice.
    release
        The release that answered; empty: none was loaded.
    degraded
        Parts that could not be used.
    """

    candidates: tuple[Candidate, ...]
    tier: Tier
    release: str
    skipped: tuple[Skip, ...]
    feature_names: tuple[str, ...]
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trends:
    """One page of a listing by popularity, and where the next begins; None: that was all."""

    candidates: tuple[Candidate, ...]
    end: Position | None
