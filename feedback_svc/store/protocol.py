"""What the services ask of the store; `tests/contract` holds every implementation to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from feedback_svc.catalog import ChangePage, ChangePosition, Deactivated, ItemStats, UpsertCounts
from feedback_svc.dislikes import Dislike, Receipt, StoredDislike
from feedback_svc.embeddings import Derived, TextsOf
from feedback_svc.erasure import Erased, Roles
from feedback_svc.evidence import DislikeCell, Rejection, Retraining, Shown, Value, Window
from feedback_svc.expiry import ExpiryPosition, ExpiryRule, ExpiryStep
from feedback_svc.insight import SubjectState
from feedback_svc.interactions import EventFacts, Interaction, StoredInteraction
from feedback_svc.matches.ledger import MatchFilter, StoredMatch
from feedback_svc.operations.experiments import ExperimentPosition
from feedback_svc.operations.leases import Grant
from feedback_svc.operations.reactions import ReactionKinds, ServedLists
from feedback_svc.retraining import NegativeNumbers
from feedback_svc.sessions import RecordFilter, Session, SessionsRecorded
from matchloop.acts import Act, ActKind
from matchloop.entities import Entity, EntityKey
from matchloop.experiments.experiment import Experiment
from matchloop.experiments.reactions import Reactions
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
        self,
        *,
        kinds: Sequence[str],
        after: ChangePosition,
        limit: int,
        include_inactive: bool,
        erased_only: bool = False,
    ) -> ChangePage[Entity]:
        """List by change sequence, kind, id (or its hash); `kinds` empty means all.

        With `include_inactive` tombstones are listed too, with `erased_only` they alone.
        """
        ...

    def list_item_stats(self, use_case: str, *, after: ChangePosition, limit: int) -> ChangePage[ItemStats]:
        """List by change sequence, item id."""
        ...

    def deactivate_entities(self, keys: Sequence[EntityKey], *, now: datetime) -> Deactivated:
        """Make entities inactive."""
        ...

    def erase_entity(self, key: EntityKey, *, roles: Sequence[Roles], now: datetime) -> Erased:
        """Remove an entity and all about it; `roles` of every loaded use case.

        The entity goes and its tombstone comes in one transaction, the rest in bounded ones, each of which
        is done again by another call if it was not. Raises Overloaded when writes under way do not end.
        """
        ...

    def keep_roles(self, roles: Sequence[Roles]) -> None:
        """Remember the kinds of use cases: late data about erased entities is recognised by them."""
        ...

    def record_sessions(self, sessions: Sequence[Session], *, now: datetime) -> SessionsRecorded:
        """Store lists (no id twice) and tie the interactions and dislikes that wait for them.

        A list of a subject erased at its serve time or later counts as a duplicate; such items are left out.
        """
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
        """Store reactions (no id twice), tie them, count them; return the ids that were stored before.

        Also the ids of those about an entity erased at their event time or later, which are not stored.
        """
        ...

    def list_interactions(
        self, which: RecordFilter, *, before: int | None, limit: int
    ) -> list[StoredInteraction]:
        """List by sequence, latest first, below a sequence."""
        ...

    def record_dislike(
        self, dislike: Dislike, *, reason: DislikeReason, facts: EventFacts, item_kind: str, now: datetime
    ) -> Receipt:
        """Store a dislike, its interaction and its effect; raises Conflict if the id is an interaction's.

        One about an entity erased at its event time or later is answered as a duplicate without an effect.
        """
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

    def list_matches(self, which: MatchFilter, *, before: int | None, limit: int) -> list[StoredMatch]:
        """List by sequence, latest change first, below a sequence."""
        ...

    def expire(
        self, rule: ExpiryRule, *, after: ExpiryPosition | None, batch: int, dry_run: bool
    ) -> ExpiryStep:
        """Let go of what is under a rule among the next `batch` rows; a dry run only counts them.

        Counts of items and subjects stay. Factors of subjects whose dislikes went are those of the dislikes
        that are left. `after` None: start where earlier runs have left nothing.
        """
        ...

    def note_changes(self, *, now: datetime) -> None:
        """Remember which changes have ended by now, for `prune_amendments`."""
        ...

    def prune_amendments(self, *, before: datetime, batch: int) -> int:
        """Delete at most `batch` amendments that an earlier `note_changes` saw before a time; how many."""
        ...

    def count_old_amendments(self, *, before: datetime) -> int:
        """Return how many amendments `prune_amendments` would delete in all."""
        ...

    def texts_to_embed(
        self, kind: str, features: Sequence[str], *, embedder: str, after: str, limit: int
    ) -> tuple[list[TextsOf], str | None]:
        """Return texts of entities that bring none of these embeddings and have none by this embedder.

        Looks at the next `limit` entities of the kind after an id, inactive ones too; also returns where to
        go on, None at the end.
        """
        ...

    def write_derived(self, derived: Sequence[Derived]) -> int:
        """Give entities the vectors made of their texts, unless they changed since; return how many.

        A new vector moves the change sequence, not the update time.
        """
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

    def acquire_lease(self, name: str, holder: str, *, duration: timedelta, now: datetime) -> Grant:
        """Answer who asks for a lease, as `feedback_svc.operations.leases.ask`; of two at once one wins."""
        ...

    def release_lease(self, name: str, holder: str, *, now: datetime) -> bool:
        """Give a lease back; False, and nothing changes, when it is not the holder's any more."""
        ...

    def record_act(self, act: Act) -> bool:
        """Store an act; False when one with its id was stored before, which is left as it is."""
        ...

    def list_acts(
        self, use_case: str, kinds: Collection[ActKind], *, after: tuple[datetime, str] | None, limit: int
    ) -> list[Act]:
        """List by act time and id, latest first, from after one; `use_case`, `kinds` empty: of all."""
        ...

    def start_experiment(self, experiment: Experiment) -> Experiment:
        """Store an experiment, one that runs a use case; return it as stored; raises Conflict."""
        ...

    def stop_experiment(self, experiment_id: str, *, reason: str, now: datetime) -> Experiment:
        """Stop an experiment unless it is; return it as stored; raises NotFound."""
        ...

    def list_experiments(
        self, use_case: str, *, after: ExperimentPosition | None, limit: int
    ) -> list[Experiment]:
        """List by position, from after one; `use_case` empty: of all."""
        ...

    def sum_reactions(self, which: ServedLists, kinds: ReactionKinds) -> tuple[Reactions, ...]:
        """Sum up what came of lists by arm, then release, as `feedback_svc.operations.reactions.sum_up`.

        An item of a list counts once per kind. Reactions tied to these lists count whenever they came.
        """
        ...
