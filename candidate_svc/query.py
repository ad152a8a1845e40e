"""One request under way: what is known of the subject, and which items may be shown to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from candidate_svc.filters import fitting
from matchloop.days import SECONDS_A_DAY
from matchloop.entities import Embedding, Entity, EntityId, EntityKey, Kind, Text
from matchloop.retrieval.segments import segment_values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from candidate_svc.domain import Asked, SubjectState
    from candidate_svc.released import Models
    from candidate_svc.rows import ItemRows
    from matchloop.retrieval.profile import ContentProfile, SubjectEvent
    from matchloop.retrieval.routing import Skip
    from matchloop.usecase import Method, Tier


@dataclass(slots=True)
class Notes:
    """What methods found out during one request, so that it is found out once, and is said.

    Parameters
    ----------
    profile
        Content's, of the subject.
    left_out
        Methods that the ensemble had to do without, and why.
    vectors
        The subject's vector by method that has one; None: the method says nothing for it.
    """

    profile: ContentProfile | None = None
    vectors: dict[Method, NDArray[np.float32] | None] = field(default_factory=dict)
    left_out: list[Skip] = field(default_factory=list)


def forever() -> float | None:
    """Return None: there is no end to the time."""
    return None


@dataclass(frozen=True)
class Query:
    """What the methods see of one request.

    Parameters
    ----------
    count
        Rows of `rows` that this request looks at.
    allowed
        bool, shape (count,): rows that may be returned.
    subject
        The stored entity with the request's features over it; None when neither says anything.
    models
        Of the release that answers; None: no release is loaded.
    told
        Whether the state is the store's; if not, nothing is known of what the subject did.
    erased
        When the subject was last erased; None: it was not, as far as is known.
    remaining
        Seconds left of the request; None: as many as it takes.
    """

    asked: Asked
    state: SubjectState
    rows: ItemRows
    count: int
    allowed: NDArray[np.bool_]
    subject: Entity | None
    models: Models | None
    now: datetime
    told: bool = False
    erased: datetime | None = None
    remaining: Callable[[], float | None] = forever
    notes: Notes = field(default_factory=Notes)

    @classmethod
    def of(
        cls,
        asked: Asked,
        state: SubjectState,
        rows: ItemRows,
        models: Models | None,
        now: datetime,
        *,
        told: bool = False,
        erased: datetime | None = None,
        remaining: Callable[[], float | None] = forever,
    ) -> Query:
        """Put together what the request, the store and the mirror say."""
        count = rows.count
        return cls(
            asked=asked,
            state=state,
            rows=rows,
            count=count,
            allowed=_allowed(asked, state, rows, count),
            subject=_subject(asked, state),
            models=models,
            now=now,
            told=told,
            erased=erased,
            remaining=remaining,
        )

    @cached_property
    def tier(self) -> Tier:
        """The subject's tier."""
        return self.asked.use_case.tiers.of(max(self.state.interaction_count, 0))

    def may_show(self, item_id: EntityId) -> bool:
        """Tell whether an item may be returned."""
        row = self.rows.row(item_id)
        return row is not None and row < self.count and bool(self.allowed[row])

    @cached_property
    def allowed_count(self) -> int:
        """How many rows may be returned; costs far less than naming them."""
        return int(np.count_nonzero(self.allowed))

    @property
    def left_out(self) -> frozenset[EntityId]:
        """Items that this request in particular leaves out; `allowed` has them already."""
        return frozenset(map(EntityId, self.asked.exclude | self.state.hidden))

    @cached_property
    def allowed_rows(self) -> NDArray[np.int64]:
        """The rows that may be returned, ascending."""
        return np.flatnonzero(self.allowed)

    @cached_property
    def events(self) -> tuple[SubjectEvent, ...]:
        """What the subject did, latest first: events of types the use case declares, on items it has."""
        known = self.asked.use_case.events
        return tuple(event for event in self.state.recent_events if event.event_type in known)

    @cached_property
    def ages(self) -> Sequence[float]:
        """Days since each of `events`; under 0 where the client's clock runs before ours."""
        return [(self.now - event.time).total_seconds() / SECONDS_A_DAY for event in self.events]

    @cached_property
    def positive(self) -> Sequence[tuple[EntityId, float]]:
        """Items of positive events and the events' weights, latest first."""
        events = self.asked.use_case.events
        return [
            (event.item, weight) for event in self.events if (weight := events[event.event_type].weight) > 0.0
        ]

    @cached_property
    def segments(self) -> dict[str, tuple[str, ...]]:
        """The subject's values by segment within which popularity differs; {} when nobody asks."""
        if self.subject is None and not self.asked.subject_id:
            return {}
        return segment_values(
            self.asked.use_case.popularity,
            None if self.subject is None else self.subject.features,
            now=self.now,
            earlier=self.state.interaction_count,
        )


def _allowed(asked: Asked, state: SubjectState, rows: ItemRows, count: int) -> NDArray[np.bool_]:
    allowed = np.array(rows.active(count), dtype=np.bool_)
    mask = fitting(asked.filters, rows, count)
    if mask is not None:
        allowed &= mask
    if asked.only:
        wanted = np.zeros(count, dtype=np.bool_)
        wanted[rows.rows(asked.only, count)] = True
        allowed &= wanted
    for left_out in (asked.exclude, state.hidden):
        if left_out:
            allowed[rows.rows(left_out, count)] = False
    return allowed


def _subject(asked: Asked, state: SubjectState) -> Entity | None:
    if not asked.subject_features:
        return state.entity
    stored = state.entity or Entity(EntityKey(Kind(asked.use_case.subject), asked.subject_id))
    kept = stored.features
    if any(isinstance(value, Text) for value in asked.subject_features.values()):
        # What the catalogue derived of the stored texts does not tell of the request's.
        kept = {name: v for name, v in kept.items() if not (isinstance(v, Embedding) and v.embedder)}
    return replace(stored, features=MappingProxyType({**kept, **asked.subject_features}))
