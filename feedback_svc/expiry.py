"""What retention lets go of, and how: rules, bounded steps, and the walk that joins them.

Age counts from arrival, so that a history imported late is not gone at once. Counts of items and of
subjects (popularity, tier) stay. What an interaction hid is shown again once the interaction has gone, and a
dislike that has gone has no effect on weights any more: nothing of what was forgotten acts on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from matchloop.usecase import UseCases

UNUSED_DISLIKES_LAST = 2
"""Times as long as others is a dislike kept that no training has used: it is to teach before it goes, but
where nothing trains it must not be kept for ever."""


class Kept(StrEnum):
    """What a rule is about; each row of the record is under at most one.

    Views are interactions whose event type is a view; plain dislikes those of the dislike's type that came
    without a reason; a dislike with a reason goes together with its interaction.
    """

    VIEWS = "views"
    INTERACTIONS = "interactions"
    PLAIN_DISLIKES = "plain_dislikes"
    DISLIKES = "dislikes"
    SESSIONS = "sessions"


@dataclass(frozen=True, slots=True)
class ExpiryRule:
    """What goes.

    Parameters
    ----------
    before
        Received before this: goes. Aware UTC.
    unused_before
        For a dislike that no training has used.
    views, dislikes
        (use case, event type) pairs; every other pair is under `Kept.INTERACTIONS`.
    """

    kept: Kept
    before: datetime
    unused_before: datetime
    views: frozenset[tuple[str, str]] = frozenset()
    dislikes: frozenset[tuple[str, str]] = frozenset()

    def takes(self, use_case: str, event_type: str) -> bool:
        """Say whether interactions of this type are under this rule."""
        pair = (use_case, event_type)
        match self.kept:
            case Kept.VIEWS:
                return pair in self.views
            case Kept.PLAIN_DISLIKES:
                return pair in self.dislikes
            case _:
                return self.kept is Kept.INTERACTIONS and pair not in self.views | self.dislikes

    @property
    def definition(self) -> str:
        """Digest of which rows are under this rule, whatever their age."""
        pairs = [sorted(self.views), sorted(self.dislikes)]
        return hashlib.sha256(repr(pairs).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ExpiryPosition:
    """Where a walk goes on: after this row. `settled`: nothing under the rule is left up to it."""

    use_case: str
    sequence: int
    settled: bool = True


@dataclass(frozen=True, slots=True)
class ExpiryStep:
    """What one step did.

    Parameters
    ----------
    expired
        Rows that went; in a dry run, that would go.
    position
        None when the walk is over.
    reached
        Arrival of the last row looked at; None when there was none.
    """

    expired: int
    position: ExpiryPosition | None
    reached: datetime | None


class Expiring(Protocol):
    """The part of the store that expires."""

    def expire(
        self, rule: ExpiryRule, *, after: ExpiryPosition | None, batch: int, dry_run: bool
    ) -> ExpiryStep:
        """Let go of what is under a rule among the next `batch` rows; one short transaction."""
        ...


def rules_of(days: Mapping[Kept, int | None], use_cases: UseCases, now: datetime) -> tuple[ExpiryRule, ...]:
    """Return the rules for so many days each; None or left out: kept for ever."""
    views = frozenset((u.id, name) for u in use_cases.values() for name in u.view_events)
    dislikes = frozenset((u.id, u.dislike_event) for u in use_cases.values())
    return tuple(
        ExpiryRule(
            kept,
            now - timedelta(days=age),
            now - timedelta(days=age * UNUSED_DISLIKES_LAST),
            views,
            dislikes,
        )
        for kept in Kept
        if (age := days.get(kept)) is not None
    )


def walk(
    store: Expiring,
    rule: ExpiryRule,
    *,
    batch: int,
    dry_run: bool,
    after_step: Callable[[ExpiryStep], object] = lambda _: None,
) -> int:
    """Apply a rule step by step, to the end; return how many rows went.

    Parameters
    ----------
    batch
        Rows that one transaction looks at, 1 or more.
    after_step
        Told of every step; between transactions, so it may take its time.
    """
    expired, position = 0, None
    while True:
        step = store.expire(rule, after=position, batch=batch, dry_run=dry_run)
        expired += step.expired
        after_step(step)
        if step.position is None:
            return expired
        position = step.position
