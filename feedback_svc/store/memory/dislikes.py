"""Dislikes, and how training uses them, in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from feedback_svc.dislikes import Dislike, Receipt, StoredDislike, dropped, judge, replayed
from feedback_svc.evidence import Retraining
from feedback_svc.interactions import EventFacts, Interaction
from feedback_svc.retraining import NegativeNumbers
from feedback_svc.sessions import RecordFilter
from feedback_svc.store.memory.record import MemoryRecord
from feedback_svc.store.memory.state import BATCH, is_within
from matchloop.errors import Conflict
from matchloop.usecase import DislikeReason


class MemoryDislikes(MemoryRecord):
    """The part of the store for dislikes."""

    def record_dislike(
        self, dislike: Dislike, *, reason: DislikeReason, facts: EventFacts, item_kind: str, now: datetime
    ) -> Receipt:
        """See `Store`."""
        with self._lock:
            if dislike.dislike_id in self._dislikes:
                return replayed(self._dislikes[dislike.dislike_id], dislike)
            late = self._is_late(
                dislike.use_case, dislike.event_time, subject=dislike.subject_id, item=dislike.item_id
            )
            if late:
                return dropped(dislike, receive_time=now)
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

    def list_dislikes(
        self, which: RecordFilter, *, unused_only: bool, before: int | None, limit: int
    ) -> list[StoredDislike]:
        """See `Store`."""
        with self._lock:
            found = [
                s
                for s in self._dislikes.values()
                if is_within(which, s.dislike.use_case, s.dislike.subject_id, "", s.dislike.event_time)
                and (not which.item_id or which.item_id == s.dislike.item_id)
                and not (unused_only and s.used_by_release)
                and (before is None or s.sequence < before)
            ]
        return sorted(found, key=lambda s: s.sequence, reverse=True)[:limit]

    def negative_numbers(self, use_case: str) -> NegativeNumbers:
        """See `Store`."""
        with self._lock:
            unused = [
                s for s in self._dislikes.values() if s.dislike.use_case == use_case and not s.used_by_release
            ]
            errors = [s.error for s in unused if s.error is not None]
            last = max(
                ((r.mark_time, r.release) for (of, _), r in self._retrainings.items() if of == use_case),
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
            kept = self._retrainings.get((use_case, release), Retraining(release, to_sequence, 0, now))
            self._retrainings[use_case, release] = replace(
                kept, to_sequence=max(kept.to_sequence, to_sequence), marked=kept.marked + len(marked)
            )
        return len(marked)
