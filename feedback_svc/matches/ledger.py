"""The match ledger: what one side wants of the other, in both directions, and how far the two have come.

A match is of a forward use case and its reverse: its subject speaks through the forward one, its item
through the reverse one. All that is kept are earliest and latest times, so neither the order in which
reactions arrive nor how they are grouped changes a match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from matchloop.usecase import UseCase


class MatchState(StrEnum):
    """How far two sides have come."""

    ONE_SIDED = "one_sided"
    RECIPROCATED = "reciprocated"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class MatchRole:
    """What an event says in the ledger.

    Parameters
    ----------
    use_case
        The forward one.
    by_item
        The match's item speaks: the event is of the reverse use case, whose subject it is.
    rejects
        A rejection; else a strong positive.
    """

    use_case: str
    by_item: bool
    rejects: bool


@dataclass(frozen=True, slots=True)
class Side:
    """What one side said of the other; None: never.

    Parameters
    ----------
    first, last
        Times of its first and its last strong positive.
    rejected
        Time of its last rejection.
    """

    first: datetime | None = None
    last: datetime | None = None
    rejected: datetime | None = None

    @property
    def close_time(self) -> datetime | None:
        """When it rejected the other for good; None when a later strong positive took that back.

        At the same time, the strong positive counts.
        """
        if self.rejected is None or (self.last is not None and self.rejected <= self.last):
            return None
        return self.rejected

    def merge(self, other: Side) -> Side:
        """Return what both say: in any order and grouping, and repeated, the same."""
        return Side(
            _earliest(self.first, other.first),
            _latest(self.last, other.last),
            _latest(self.rejected, other.rejected),
        )


NOTHING = Side()


@dataclass(frozen=True, slots=True)
class Match:
    """What two entities want of each other, seen from a forward use case; one side at least spoke."""

    use_case: str
    subject_id: str
    item_id: str
    subject: Side = field(default=NOTHING)
    item: Side = field(default=NOTHING)

    @property
    def close_time(self) -> datetime | None:
        """When it was closed, by the side that closed it first; None while it is open."""
        return _earliest(self.subject.close_time, self.item.close_time)

    @property
    def state(self) -> MatchState:
        """Closed by either side, else reciprocated by both, else one-sided."""
        if self.close_time is not None:
            return MatchState.CLOSED
        if self.subject.first is not None and self.item.first is not None:
            return MatchState.RECIPROCATED
        return MatchState.ONE_SIDED

    def merge(self, other: Match) -> Match:
        """Return the match with what `other`, of the same two, says as well."""
        return Match(
            self.use_case,
            self.subject_id,
            self.item_id,
            self.subject.merge(other.subject),
            self.item.merge(other.item),
        )


@dataclass(frozen=True, slots=True)
class StoredMatch:
    """A match as it is kept.

    Parameters
    ----------
    change_time
        When what is kept of it changed last, by the service's clock.
    sequence
        Of that change, in the order of arrival; unique.
    """

    match: Match
    change_time: datetime
    sequence: int


@dataclass(frozen=True, slots=True)
class MatchFilter:
    """What to list of a forward use case; empty text and None mean any."""

    use_case: str
    subject_id: str = ""
    item_id: str = ""
    state: MatchState | None = None


def roles_of(use_case: UseCase, reverse: UseCase | None) -> Mapping[str, MatchRole]:
    """Return what events say, by event type; events that say nothing are left out.

    Parameters
    ----------
    reverse
        The use case that `use_case` is the forward one of. Without it, and when `use_case` is no reverse
        itself, its events say nothing: there is no second side.
    """
    if use_case.reverse_of is None and reverse is None:
        return {}
    forward = use_case.reverse_of or use_case.id
    by_item = use_case.reverse_of is not None
    roles = {name: MatchRole(forward, by_item, rejects=False) for name in use_case.strong_events}
    return roles | {use_case.dislike_event: MatchRole(forward, by_item, rejects=True)}


def said(role: MatchRole, subject_id: str, item_id: str, time: datetime) -> Match:
    """Return the match of one reaction; `subject_id` and `item_id` are the reaction's own."""
    side = Side(rejected=time) if role.rejects else Side(first=time, last=time)
    if role.by_item:
        return Match(role.use_case, item_id, subject_id, item=side)
    return Match(role.use_case, subject_id, item_id, subject=side)


def _earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((time for time in (one, other) if time is not None), default=None)


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((time for time in (one, other) if time is not None), default=None)
