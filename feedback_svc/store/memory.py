"""The record in memory: the same promises as PostgreSQL's, for tests; nothing is durable."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from feedback_svc.catalog import (
    ChangePage,
    ChangePosition,
    Deactivated,
    ItemStats,
    UpsertCounts,
    cut_page,
    merge_decayed,
)
from feedback_svc.dislikes import Dislike, Factor, Receipt, StoredDislike, judge, replayed
from feedback_svc.insight import (
    HIDDEN_ITEMS,
    RECENT_EVENTS,
    NegativeNumbers,
    RecentEvents,
    SubjectState,
    factors_now,
    microseconds,
)
from feedback_svc.interactions import EventFacts, Interaction, StoredInteraction, tie
from feedback_svc.sessions import RecordFilter, Session, SessionsRecorded
from feedback_svc.store.features import canonical
from matchloop.entities import Entity, EntityKey
from matchloop.errors import Conflict, NotFound, Reason
from matchloop.usecase import DislikeReason

T = TypeVar("T")
BATCH = 512
"""As in PostgreSQL: a sequence is the change's number times this, plus the place in the batch."""


class MemoryStore:
    """A `Store` in memory; one lock, so every method is atomic."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._change = 0
        self._entities: dict[EntityKey, Entity] = {}
        self._stats: dict[tuple[str, str], ItemStats] = {}
        self._sessions: dict[str, Session] = {}
        self._interactions: dict[str, StoredInteraction] = {}
        self._facts: dict[str, EventFacts] = {}
        self._dislikes: dict[str, StoredDislike] = {}
        self._factors: dict[tuple[str, str, str, str], Factor] = {}
        self._retrainings: dict[tuple[str, str], datetime] = {}

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def upsert_entities(self, entities: Sequence[Entity], *, now: datetime) -> UpsertCounts:
        """See `Store`."""
        with self._lock:
            self._change += 1
            outcomes = [self._upsert(entity, now) for entity in entities]
        return UpsertCounts(outcomes.count("created"), outcomes.count("updated"), outcomes.count("unchanged"))

    def _upsert(self, entity: Entity, now: datetime) -> str:
        old = self._entities.get(entity.key)
        new = Entity(
            entity.key,
            canonical(entity.features),
            create_time=entity.create_time or (old.create_time if old else now),
            update_time=now,
            change_sequence=self._change,
        )
        if old and (old.features, old.create_time, old.active) == (new.features, new.create_time, True):
            return "unchanged"
        self._entities[entity.key] = new
        return "updated" if old else "created"

    def get_entity(self, key: EntityKey) -> Entity:
        """See `Store`."""
        with self._lock:
            if key not in self._entities:
                raise NotFound(f"no {key.kind} `{key.id}` is stored")
            return self._entities[key]

    def list_entities(
        self, *, kinds: Sequence[str], after: ChangePosition, limit: int, include_inactive: bool
    ) -> ChangePage[Entity]:
        """See `Store`."""
        with self._lock:
            shown = [
                (ChangePosition(e.change_sequence, e.key.kind, e.key.id), e)
                for e in self._entities.values()
                if (include_inactive or e.active) and (not kinds or e.key.kind in kinds)
            ]
            return _page(shown, after, limit, self._change + 1)

    def list_item_stats(self, use_case: str, *, after: ChangePosition, limit: int) -> ChangePage[ItemStats]:
        """See `Store`."""
        with self._lock:
            shown = [
                (ChangePosition(s.change_sequence, "", s.item_id), s)
                for s in self._stats.values()
                if s.use_case == use_case
            ]
            return _page(shown, after, limit, self._change + 1)

    def deactivate_entities(self, keys: Sequence[EntityKey], *, now: datetime) -> Deactivated:
        """See `Store`."""
        with self._lock:
            self._change += 1
            distinct = sorted(set(keys), key=lambda key: (key.kind, key.id))
            active = [key for key in distinct if key in self._entities and self._entities[key].active]
            for key in active:
                self._entities[key] = replace(
                    self._entities[key], active=False, update_time=now, change_sequence=self._change
                )
            return Deactivated(len(active), tuple(key for key in distinct if key not in self._entities))

    def record_sessions(self, sessions: Sequence[Session], *, now: datetime) -> SessionsRecorded:
        """See `Store`."""
        del now
        with self._lock:
            new = [session for session in sessions if session.session_id not in self._sessions]
            duplicates = tuple(s.session_id for s in sessions if s.session_id in self._sessions)
            self._sessions |= {session.session_id: session for session in new}
            tied = sum(self._tie(session) for session in new)
        return SessionsRecorded(len(new), duplicates, tied)

    def _tie(self, session: Session) -> int:
        tied = 0
        for id_, stored in self._interactions.items():
            if stored.interaction.session_id == session.session_id and stored.tie is None:
                found = tie(stored.interaction, session)
                self._interactions[id_] = replace(stored, tie=found)
                tied += found is not None
        for id_, kept in self._dislikes.items():
            score = self._session_score(kept.dislike)
            if kept.dislike.predicted_score is None and score is not None:
                score = min(1.0, max(0.0, score))
                self._dislikes[id_] = replace(
                    kept, dislike=replace(kept.dislike, predicted_score=score), error=score
                )
        return tied

    def get_session(self, session_id: str) -> Session:
        """See `Store`."""
        with self._lock:
            if session_id not in self._sessions:
                raise NotFound(f"no session `{session_id}` is stored", reason=Reason.SESSION_NOT_FOUND)
            return self._sessions[session_id]

    def list_sessions(
        self, which: RecordFilter, *, after: tuple[datetime, str] | None, limit: int
    ) -> list[Session]:
        """See `Store`."""
        with self._lock:
            found = [
                s
                for s in self._sessions.values()
                if _is_within(which, s.use_case, s.subject_id, s.release, s.serve_time)
                and (not which.item_id or which.item_id in s.item_ids)
                and (after is None or (s.serve_time, s.session_id) < after)
            ]
        return sorted(found, key=lambda s: (s.serve_time, s.session_id), reverse=True)[:limit]

    def record_interactions(
        self, interactions: Sequence[Interaction], facts: Sequence[EventFacts], *, now: datetime
    ) -> tuple[str, ...]:
        """See `Store`."""
        with self._lock:
            self._change += 1
            duplicates = []
            for place, (interaction, fact) in enumerate(zip(interactions, facts, strict=True)):
                if interaction.interaction_id in self._interactions:
                    duplicates.append(interaction.interaction_id)
                else:
                    self._record(interaction, fact, now, self._change * BATCH + place)
        return tuple(duplicates)

    def _record(self, interaction: Interaction, fact: EventFacts, now: datetime, sequence: int) -> None:
        found = tie(interaction, self._sessions.get(interaction.session_id))
        self._interactions[interaction.interaction_id] = StoredInteraction(interaction, found, now, sequence)
        self._facts[interaction.interaction_id] = fact
        if not (fact.view or fact.counted):
            return
        key = (interaction.use_case, interaction.item_id)
        old = self._stats.get(key) or ItemStats(*key, 0, 0, 0.0, interaction.event_time)
        weight, time = merge_decayed(
            (old.decayed_weight, old.decay_time),
            (fact.weight, interaction.event_time),
            fact.half_life_seconds,
        )
        self._stats[key] = ItemStats(
            *key, old.views + fact.view, old.interactions + fact.counted, weight, time, self._change
        )

    def list_interactions(
        self, which: RecordFilter, *, before: int | None, limit: int
    ) -> list[StoredInteraction]:
        """See `Store`."""
        with self._lock:
            found = [
                s
                for s in self._interactions.values()
                if _is_within(
                    which,
                    s.interaction.use_case,
                    s.interaction.subject_id,
                    s.tie.release if s.tie else "",
                    s.interaction.event_time,
                )
                and (not which.item_id or which.item_id == s.interaction.item_id)
                and (before is None or s.sequence < before)
            ]
        return sorted(found, key=lambda s: s.sequence, reverse=True)[:limit]

    def record_dislike(
        self, dislike: Dislike, *, reason: DislikeReason, facts: EventFacts, item_kind: str, now: datetime
    ) -> Receipt:
        """See `Store`."""
        with self._lock:
            if dislike.dislike_id in self._dislikes:
                return replayed(self._dislikes[dislike.dislike_id], dislike)
            if dislike.dislike_id in self._interactions:
                raise Conflict(f"`{dislike.dislike_id}` is the id of a stored interaction")
            own = [
                kept
                for kept in self._dislikes.values()
                if (kept.dislike.use_case, kept.dislike.subject_id) == (dislike.use_case, dislike.subject_id)
            ]
            item = next(
                (e for k, e in self._entities.items() if (k.kind, k.id) == (item_kind, dislike.item_id)), None
            )
            stored, factors = judge(
                dislike,
                reason=reason,
                item=item,
                earlier=[cut for kept in own for cut in kept.cuts],
                session_score=self._session_score(dislike),
                receive_time=now,
            )
            interaction = Interaction(
                dislike.dislike_id,
                dislike.use_case,
                dislike.subject_id,
                dislike.item_id,
                "dislike",
                dislike.event_time,
                dislike.session_id,
            )
            self.record_interactions([interaction], [facts], now=now)
            self._dislikes[dislike.dislike_id] = replace(stored, sequence=self._change * BATCH)
            for factor in factors:
                key = (dislike.use_case, dislike.subject_id, factor.feature, factor.value)
                self._factors[key] = factor
            return Receipt(stored, duplicate=False)

    def _session_score(self, dislike: Dislike) -> float | None:
        session = self._sessions.get(dislike.session_id)
        if session is None or (session.use_case, session.subject_id) != (
            dislike.use_case,
            dislike.subject_id,
        ):
            return None
        rank = session.place_of(dislike.item_id)
        return session.scores[rank - 1] if rank else None

    def list_dislikes(
        self, which: RecordFilter, *, unused_only: bool, before: int | None, limit: int
    ) -> list[StoredDislike]:
        """See `Store`."""
        with self._lock:
            found = [
                s
                for s in self._dislikes.values()
                if _is_within(which, s.dislike.use_case, s.dislike.subject_id, "", s.dislike.event_time)
                and (not which.item_id or which.item_id == s.dislike.item_id)
                and not (unused_only and s.used_by_release)
                and (before is None or s.sequence < before)
            ]
        return sorted(found, key=lambda s: s.sequence, reverse=True)[:limit]

    def lookup_subject_state(self, use_case: str, subject: EntityKey, *, now: datetime) -> SubjectState:
        """See `Store`."""
        with self._lock:
            own = [
                s
                for s in self._interactions.values()
                if (s.interaction.use_case, s.interaction.subject_id) == (use_case, subject.id)
            ]
            own.sort(key=lambda s: (s.interaction.event_time, s.sequence), reverse=True)
            hidden = [s for s in own if self._facts[s.interaction.interaction_id].hides][:HIDDEN_ITEMS]
            factors = tuple(f for k, f in self._factors.items() if k[:2] == (use_case, subject.id))
            return SubjectState(
                entity=self._entities.get(subject),
                interaction_count=len(own),
                recent_events=RecentEvents(
                    tuple(s.interaction.item_id for s in own[:RECENT_EVENTS]),
                    tuple(s.interaction.event_type for s in own[:RECENT_EVENTS]),
                    tuple(microseconds(s.interaction.event_time) for s in own[:RECENT_EVENTS]),
                ),
                hidden_item_ids=tuple(dict.fromkeys(s.interaction.item_id for s in hidden)),
                factors=factors_now(factors, now),
            )

    def negative_numbers(self, use_case: str) -> NegativeNumbers:
        """See `Store`."""
        with self._lock:
            unused = [
                s for s in self._dislikes.values() if s.dislike.use_case == use_case and not s.used_by_release
            ]
            errors = [s.error for s in unused if s.error is not None]
            last = max(
                ((time, release) for (of, release), time in self._retrainings.items() if of == use_case),
                default=(None, ""),
            )
        mean = sum(errors) / len(errors) if errors else 0.0
        return NegativeNumbers(len(unused), len(errors), mean, *last)

    def mark_negatives_used(self, use_case: str, *, release: str, to_sequence: int, now: datetime) -> int:
        """See `Store`."""
        with self._lock:
            marked = [
                id_
                for id_, s in self._dislikes.items()
                if s.dislike.use_case == use_case and not s.used_by_release and s.sequence <= to_sequence
            ]
            for id_ in marked:
                self._dislikes[id_] = replace(self._dislikes[id_], used_by_release=release)
            self._retrainings.setdefault((use_case, release), now)
        return len(marked)


def _page(
    shown: Iterable[tuple[ChangePosition, T]], after: ChangePosition, limit: int, horizon: int
) -> ChangePage[T]:
    key: Callable[[ChangePosition], tuple[int, str, str]] = lambda p: (p.sequence, p.kind, p.id)  # noqa: E731
    rows = sorted((row for row in shown if key(row[0]) > key(after)), key=lambda row: key(row[0]))
    page, more = cut_page(rows, limit)
    position = page[-1][0] if more else None
    return ChangePage(tuple(row for _, row in page), position, position.sequence if position else horizon)


def _is_within(which: RecordFilter, use_case: str, subject: str, release: str, time: datetime) -> bool:
    return (
        which.use_case == use_case
        and which.subject_id in ("", subject)
        and which.release in ("", release)
        and (which.from_time is None or time >= which.from_time)
        and (which.to_time is None or time < which.to_time)
    )
