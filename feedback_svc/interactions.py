"""Interactions: one reaction of a subject to an item, and what it counts for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from feedback_svc.matches.ledger import MatchRole, roles_of
from feedback_svc.sessions import Session
from matchloop.days import SECONDS_A_DAY
from matchloop.usecase import Method, UseCase


@dataclass(frozen=True, slots=True)
class Interaction:
    """One reaction; `session_id` is empty when it came from no list."""

    interaction_id: str
    use_case: str
    subject_id: str
    item_id: str
    event_type: str
    event_time: datetime
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class Tie:
    """What an interaction keeps of its session: `rank` from 1, 0 when the item was not on the list."""

    rank: int
    score: float | None
    method: Method | None
    release: str


@dataclass(frozen=True, slots=True)
class StoredInteraction:
    """An interaction as it is kept.

    Parameters
    ----------
    tie
        None for an organic one, and for one whose session has not arrived.
    receive_time
        By the service's clock.
    sequence
        Order of arrival; unique.
    """

    interaction: Interaction
    tie: Tie | None
    receive_time: datetime
    sequence: int


@dataclass(frozen=True, slots=True)
class EventFacts:
    """What events of one type do.

    Parameters
    ----------
    hides
        The subject is not shown the item again: strong positives and dislikes.
    view, counted
        Adds to the item's views; to its interactions.
    weight
        Adds to the item's decayed weight; 0 for what is not positive.
    half_life_seconds
        Of the use case's popularity.
    match
        What it says in the match ledger; None: nothing.
    """

    hides: bool
    view: bool
    counted: bool
    weight: float
    half_life_seconds: float
    match: MatchRole | None = None


def facts_of(use_case: UseCase, reverse: UseCase | None = None) -> dict[str, EventFacts]:
    """Return the facts by event type of a use case; `reverse` is the one it is the forward of, if any."""
    roles = roles_of(use_case, reverse)
    half_life = use_case.popularity.half_life_days * SECONDS_A_DAY
    return {
        name: EventFacts(
            hides=event.strong or name == use_case.dislike_event,
            view=event.view,
            counted=event.weight > 0 and not event.view,
            weight=max(0.0, event.weight),
            half_life_seconds=half_life,
            match=roles.get(name),
        )
        for name, event in use_case.events.items()
    }


def tie(interaction: Interaction, session: Session | None) -> Tie | None:
    """Return what the interaction keeps of a session.

    None without a session, and for a session of another subject or use case: it is then not the list that
    caused this.
    """
    if (
        session is None
        or session.subject_id != interaction.subject_id
        or session.use_case != interaction.use_case
    ):
        return None
    rank = session.place_of(interaction.item_id)
    if not rank:
        return Tie(0, None, None, session.release)
    return Tie(rank, session.scores[rank - 1], session.methods[rank - 1], session.release)
