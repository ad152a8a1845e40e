"""What the record says of a subject: all that retrieval needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from feedback_svc.dislikes import SPENT, Factor, decayed_factor
from matchloop.entities import Entity

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RECENT_EVENTS = 500
HIDDEN_ITEMS = 20_000


@dataclass(frozen=True, slots=True)
class RecentEvents:
    """What a subject did, latest first: columns of equal length, for there are hundreds in every reply.

    Parameters
    ----------
    times
        Microseconds since 1970, UTC.
    reasons
        Of dislikes, by place among the events; a dislike recorded as a plain interaction has none.
    """

    item_ids: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    times: tuple[int, ...] = ()
    reasons: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class SubjectState:
    """All that retrieval needs of a subject in a use case.

    Parameters
    ----------
    entity
        None when the catalogue does not hold it.
    interaction_count
        All, dislikes included.
    recent_events
        By event time, at most `RECENT_EVENTS`.
    hidden_item_ids
        Disliked or strongly reacted to, latest first, none twice, at most `HIDDEN_ITEMS`.
    factors
        Other than 1, as of the time of the lookup.
    """

    entity: Entity | None
    interaction_count: int
    recent_events: RecentEvents
    hidden_item_ids: tuple[str, ...]
    factors: tuple[Factor, ...]


def microseconds(moment: datetime) -> int:
    """Return an aware time as microseconds since 1970, UTC."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def factors_now(factors: tuple[Factor, ...], now: datetime) -> tuple[Factor, ...]:
    """Return the factors decayed to `now`, without those that have come back to 1."""
    decayed = (Factor(f.feature, f.value, decayed_factor(f.factor, f.as_of, now), now) for f in factors)
    return tuple(sorted((f for f in decayed if 1.0 - f.factor > SPENT), key=lambda f: (f.feature, f.value)))
