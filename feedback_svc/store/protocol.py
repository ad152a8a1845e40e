"""What the services ask of the store; `tests/contract` holds every implementation to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from feedback_svc.catalog import ChangePage, ChangePosition, Deactivated, ItemStats, UpsertCounts
from feedback_svc.dislikes import Dislike, Receipt, StoredDislike
from feedback_svc.evidence import DislikeCell, Rejection, Retraining, Shown, Value, Window
from feedback_svc.insight import SubjectState
from feedback_svc.interactions import EventFacts, Interaction, StoredInteraction
from feedback_svc.retraining import NegativeNumbers
from feedback_svc.sessions import RecordFilter, Session, SessionsRecorded
from matchloop.entities import Entity, EntityKey
from matchloop.usecase import DislikeReason


class Store(Protocol):
    """The record.

    Every write is one transaction, durable when it returns, and harmless when repeated. Every method may
    raise Unavailable (STORE_UNAVAILABLE). `now` is the service's time, aware UTC.
    """

    def upsert_entities(self, entities: Sequence[Entity], *, now: datetime) -> UpsertCounts:
        """Create or replace; an entity sent as it is stored is not touched."""
        ...

    def get_entity(self, key: EntityKey) -> Entity:
        """Return an entity, also an inactive one; raises NotFound."""
        ...

    def list_entities(
        self, *, kinds: Sequence[str], after: ChangePosition, limit: int, include_inactive: bool
    ) -> ChangePage[Entity]:
        """List by change sequence, kind, id; `kinds` empty means all."""
        ...

    def list_item_stats(self, use_case: str, *, after: ChangePosition, limit: int) -> ChangePage[ItemStats]:
        """List by change sequence, item id."""
        ...

    def deactivate_entities(self, keys: Sequence[EntityKey], *, now: datetime) -> Deactivated:
        """Make entities inactive."""
        ...

    def record_sessions(self, sessions: Sequence[Session], *, now: datetime) -> SessionsRecorded:
        """Store lists (no id twice) and tie the interactions and dislikes that wait for them."""
        ...

    def get_session(self, session_id: str) -> Session:
        """Return a session; raises NotFound."""
        ...

    def list_sessions(
        self, which: RecordFilter, *, after: tuple[datetime, str] | None, limit: int
    ) -> list[Session]:
        """List by serve time and id, latest first, from after a (serve time, id)."""
        ...

    def record_interactions(
        self, interactions: Sequence[Interaction], facts: Sequence[EventFacts], *, now: datetime
    ) -> tuple[str, ...]:
        """Store reactions (no id twice), tie them, count them; return the ids that were stored before."""
        ...

    def list_interactions(
        self, which: RecordFilter, *, before: int | None, limit: int
    ) -> list[StoredInteraction]:
        """List by sequence, latest first, below a sequence."""
        ...

    def record_dislike(
        self, dislike: Dislike, *, reason: DislikeReason, facts: EventFacts, item_kind: str, now: datetime
    ) -> Receipt:
        """Store a dislike, its interaction and its effect; raises Conflict if the id is an interaction's."""
        ...

    def list_dislikes(
        self, which: RecordFilter, *, unused_only: bool, before: int | None, limit: int
    ) -> list[StoredDislike]:
        """List by sequence, latest first, below a sequence; subject and item of `which` are looked at."""
        ...

    def lookup_subject_state(self, use_case: str, subject: EntityKey, *, now: datetime) -> SubjectState:
        """Return all that retrieval needs of a subject; one unknown has an empty state."""
        ...

    def negative_numbers(self, use_case: str) -> NegativeNumbers:
        """Return the numbers of the negatives no training has used."""
        ...

    def mark_negatives_used(self, use_case: str, *, release: str, to_sequence: int, now: datetime) -> int:
        """Mark unused negatives up to a sequence, itself included; return how many."""
        ...

    def list_retrainings(self, use_case: str, *, limit: int) -> tuple[Retraining, ...]:
        """List the impact records, the latest first."""
        ...

    def count_dislikes(self, use_case: str, *, subject_id: str, window: Window) -> tuple[DislikeCell, ...]:
        """Count all dislikes by reason and week of the window; `subject_id` empty: of all subjects."""
        ...

    def list_rejections(
        self,
        use_case: str,
        item_kind: str,
        features: Sequence[str],
        *,
        subject_id: str,
        since: datetime,
        unused_only: bool,
    ) -> tuple[Rejection, ...]:
        """List the latest `REJECTIONS` dislikes by event time and id, with their items' values of `features`.

        Without features, with what they changed in its place. Of the unused, the latest by arrival.
        """
        ...

    def sample_shown(
        self,
        use_case: str,
        item_kind: str,
        features: Sequence[str],
        *,
        values: Collection[Value] | None,
        subject_id: str,
        window: Window,
    ) -> Shown:
        """Count the first `PLACES` places on the latest `LISTS_PER_DAY` lists of each day of the window.

        `values` are those to count, of `features`; None: all.
        """
        ...
