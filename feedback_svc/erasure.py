"""Erasure: what it removes, and where to look for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from matchloop.usecase import UseCases


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure removed.

    Parameters
    ----------
    entity
        Whether the entity itself was stored.
    interactions, dislikes
        About it, as subject or item.
    sessions
        Removed, as it was their subject, or shortened, as it was on them.
    erase_time
        Late data about it up to this time is not stored; aware UTC.
    """

    entity: bool
    interactions: int
    dislikes: int
    sessions: int
    erase_time: datetime

    @property
    def anything(self) -> bool:
        """Whether there was anything to erase."""
        return self.entity or self.interactions + self.dislikes + self.sessions > 0


@dataclass(frozen=True, slots=True)
class Roles:
    """The kinds of a use case."""

    use_case: str
    subject: str
    item: str


def roles_of(use_cases: UseCases) -> tuple[Roles, ...]:
    """Return the kinds of every use case."""
    return tuple(Roles(name, use_case.subject, use_case.item) for name, use_case in use_cases.items())


def places_of(kind: str, roles: Sequence[Roles]) -> tuple[list[str], list[str]]:
    """Return the use cases in which entities of a kind are subjects, and in which they are items."""
    as_subject = [role.use_case for role in roles if role.subject == kind]
    as_item = [role.use_case for role in roles if role.item == kind]
    return as_subject, as_item
