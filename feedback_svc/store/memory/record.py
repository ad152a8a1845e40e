"""Sessions, interactions and subject states in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from feedback_svc.catalog import (
    ItemStats,
    merge_decayed,
)
from feedback_svc.insight import (
    HIDDEN_ITEMS,
    RECENT_EVENTS,
    RecentEvents,
    SubjectState,
    factors_now,
    microseconds,
)
from feedback_svc.interactions import EventFacts, Interaction, StoredInteraction, tie
from feedback_svc.matches.ledger import Match, StoredMatch, said
from feedback_svc.sessions import RecordFilter, Session, SessionsRecorded
from feedback_svc.store.memory.state import BATCH, MemoryState, is_within
from matchloop.entities import EntityKey
from matchloop.errors import NotFound, Reason


class MemoryRecord(MemoryState):
    """The part of the store for lists shown and reactions."""

    def record_sessions(self, sessions: Sequence[Session], *, now: datetime) -> SessionsRecorded:
        """See `Store`."""
        with self._lock:
            self._change += 1
            sent = [session for session in sessions if session.session_id not in self._sessions]
            new = [kept for session in sent if (kept := self._without_late(session)) is not None]
            stored = {session.session_id for session in new}
            duplicates = tuple(s.session_id for s in sessions if s.session_id not in stored)
            self._sessions |= {session.session_id: session for session in new}
            self._arrivals |= {session.session_id: (self._change * BATCH, now) for session in new}
            tied = sum(self._tie(session) for session in new)
        return SessionsRecorded(len(new), duplicates, tied)

    def _without_late(self, session: Session) -> Session | None:
        time = session.serve_time
        if self._is_late(session.use_case, time, subject=session.subject_id):
            return None
        gone = {item for item in session.item_ids if self._is_late(session.use_case, time, item=item)}
        return session.without(gone) if gone else session

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
                if is_within(which, s.use_case, s.subject_id, s.release, s.serve_time)
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
            duplicates, matches = [], []
            for place, (interaction, fact) in enumerate(zip(interactions, facts, strict=True)):
                late = self._is_late(
                    interaction.use_case,
                    interaction.event_time,
                    subject=interaction.subject_id,
                    item=interaction.item_id,
                )
                if late or interaction.interaction_id in self._interactions:
                    duplicates.append(interaction.interaction_id)
                else:
                    self._record(interaction, fact, now, self._change * BATCH + place)
                    if fact.match is not None:
                        matches.append(
                            said(
                                fact.match,
                                interaction.subject_id,
                                interaction.item_id,
                                interaction.event_time,
                            )
                        )
            self._note_matches(matches, now)
        return tuple(duplicates)

    def _note_matches(self, matches: Sequence[Match], now: datetime) -> None:
        """Add what a batch says; the batch is one change, its matches in the order of their keys."""
        merged: dict[tuple[str, str, str], Match] = {}
        for match in matches:
            key = (match.use_case, match.subject_id, match.item_id)
            merged[key] = merged[key].merge(match) if key in merged else match
        for place, (key, match) in enumerate(sorted(merged.items(), key=lambda each: each[0])):
            old = self._matches.get(key)
            new = old.match.merge(match) if old else match
            if old is None or new != old.match:
                time = max(now, old.change_time) if old else now
                self._matches[key] = StoredMatch(new, time, self._change * BATCH + place)

    def _record(self, interaction: Interaction, fact: EventFacts, now: datetime, sequence: int) -> None:
        found = tie(interaction, self._sessions.get(interaction.session_id))
        self._interactions[interaction.interaction_id] = StoredInteraction(interaction, found, now, sequence)
        self._facts[interaction.interaction_id] = fact
        self._counts[interaction.use_case, interaction.subject_id] += 1
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
                if is_within(
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
                interaction_count=self._counts[use_case, subject.id],
                recent_events=RecentEvents(
                    tuple(s.interaction.item_id for s in own[:RECENT_EVENTS]),
                    tuple(s.interaction.event_type for s in own[:RECENT_EVENTS]),
                    tuple(microseconds(s.interaction.event_time) for s in own[:RECENT_EVENTS]),
                    {
                        place: self._dislikes[s.interaction.interaction_id].dislike.reason
                        for place, s in enumerate(own[:RECENT_EVENTS])
                        if s.interaction.interaction_id in self._dislikes
                    },
                ),
                hidden_item_ids=tuple(dict.fromkeys(s.interaction.item_id for s in hidden)),
                factors=factors_now(factors, now),
            )
