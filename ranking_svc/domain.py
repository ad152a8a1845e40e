"""What is asked of ranking_svc, what it answers, and what it passes on, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from matchloop.entities import FeatureValue
    from matchloop.usecase import Method, Tier, UseCase

    Clock = Callable[[], datetime]

MAX_COUNT = 200
DEFAULT_COUNT = 10


class Part(StrEnum):
    """A part that a reply was given without: the `degraded` of replies and the metric's label."""

    CANDIDATES = "candidates"
    """candidate_svc; the last popular list, or the client's own order, stood in."""
    FEEDBACK = "feedback"
    """What the subject did and hides."""
    FEATURES = "features"
    """Some ranking features did not come with the candidates; they counted 0."""
    RANKER = "ranker"
    """The release's ranker failed; the rule ordered the list."""
    SESSION_STORE = "session_store"
    """The session waits on disk; if `session_id` is empty, it was lost."""
    REGISTRY = "registry"
    """Where releases are registered: a trace says nothing of its release's data."""


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
class Recommend:
    """One Recommend, validated.

    Parameters
    ----------
    count
        How many items, 1 to 200.
    preview
        The list will not be shown: no session.
    """

    use_case: UseCase
    subject_id: str
    count: int = DEFAULT_COUNT
    exclude: tuple[str, ...] = ()
    filters: tuple[FeatureFilter, ...] = ()
    subject_features: Mapping[str, FeatureValue] = field(default_factory=lambda: MappingProxyType({}))
    methods: tuple[Method, ...] = ()
    explain: bool = False
    preview: bool = False


@dataclass(frozen=True, slots=True)
class Rank:
    """One Rank, validated.

    Parameters
    ----------
    items
        1 to 200 item ids in the client's order, each once.
    scores
        As many, finite, higher is better; empty: the order counts.
    """

    use_case: UseCase
    subject_id: str
    items: tuple[str, ...]
    scores: tuple[float, ...] = ()
    explain: bool = False
    preview: bool = False


@dataclass(frozen=True, slots=True)
class ValueFactor:
    """A value of an item that weighs less for the subject since its dislikes; `factor` in [0, 1)."""

    value: str
    factor: float


@dataclass(frozen=True, slots=True)
class Contribution:
    """How much one field added to a content score, and which of its values dislikes have cut."""

    field: str
    values: tuple[str, ...]
    amount: float
    factors: tuple[ValueFactor, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item that may be recommended.

    Parameters
    ----------
    method
        None for an item of the client's own list.
    score
        The method's own, finite.
    create_time
        When the item came to be, aware UTC; None where unknown.
    features
        Values of `Candidates.feature_names`, in that order; finite.
    diversity_values
        Values of the use case's diversity fields, in their order.
    """

    item_id: str
    method: Method | None
    score: float
    create_time: datetime | None = None
    features: tuple[float, ...] = ()
    diversity_values: tuple[tuple[str, ...], ...] = ()
    contributions: tuple[Contribution, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A retrieval method that did not, or not alone, answer; `reason` as the contract's SkipReason."""

    method: Method
    reason: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a list is made from.

    Parameters
    ----------
    items
        In retrieval's order, none twice.
    tier
        None where it is not known.
    release
        The release that found them; empty: none.
    feature_names
        Names of each candidate's features.
    degraded
        Parts that could not be used.
    stand_in
        candidate_svc was not there to ask: the order stays, and no features are logged.
    """

    items: tuple[Candidate, ...]
    tier: Tier | None = None
    release: str = ""
    feature_names: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    degraded: tuple[str, ...] = ()
    stand_in: bool = False


@dataclass(frozen=True, slots=True)
class SubjectGlimpse:
    """What of a subject's state matters when candidate_svc can't be asked."""

    interactions: int
    hidden: frozenset[str]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an item stands where it does; features by name as they were when it was placed."""

    features: tuple[tuple[str, float], ...]
    contributions: tuple[Contribution, ...]
    retrieval_score: float
    original_score: float


@dataclass(frozen=True, slots=True)
class ListItem:
    """An item of the list; its rank is its place, from 1.

    Parameters
    ----------
    score
        What the list is ordered by, 0 to 1.
    features
        The ranking features as they were when it was placed, or none.
    propensity
        Probability of having been placed here; 0: not logged.
    retrieval_score
        The method's own, before calibration; of a client's list, its score moved to [0, 1]. None: not logged.
    """

    item_id: str
    score: float
    method: Method | None
    features: tuple[float, ...] = ()
    explanation: Explanation | None = None
    propensity: float = 0.0
    retrieval_score: float | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """One list as it was shown.

    Parameters
    ----------
    reranked
        Whether a trained model ordered it.
    serve_time
        Aware UTC.
    items
        At least one; rank 1 first.
    """

    session_id: str
    use_case: str
    subject_id: str
    release: str
    arm: str
    tier: Tier | None
    reranked: bool
    serve_time: datetime
    feature_names: tuple[str, ...]
    items: tuple[ListItem, ...]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The answer to `Recommend` and `Rank`.

    Parameters
    ----------
    session_id
        Empty when no session was stored: a preview, an empty list, or one that was lost.
    unknown
        For `Rank`: the items that were left out.
    """

    session_id: str
    items: tuple[ListItem, ...]
    tier: Tier | None
    release: str
    arm: str
    reranked: bool
    degraded: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()
    unknown: tuple[str, ...] = ()
