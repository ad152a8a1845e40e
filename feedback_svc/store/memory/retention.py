"""Retention in memory."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from feedback_svc.dislikes import fold
from feedback_svc.expiry import ExpiryPosition, ExpiryRule, ExpiryStep, Kept
from feedback_svc.store.memory.state import MemoryState

Candidate = tuple[str, int, datetime, bool, str]
"""Use case, sequence, arrival, whether it goes, id."""


class MemoryRetention(MemoryState):
    """The part of the store for retention.

    No progress is kept, for looking is cheap; and no amendments, for nothing is exported from memory.
    """

    def expire(
        self, rule: ExpiryRule, *, after: ExpiryPosition | None, batch: int, dry_run: bool
    ) -> ExpiryStep:
        """See `Store`."""
        start = ("", -1) if after is None else (after.use_case, after.sequence)
        with self._lock:
            left = sorted(row for row in self._candidates(rule) if row[:2] > start)
            rows = left[:batch]
            rows += [row for row in left[batch:] if row[:2] == rows[-1][:2]]
            due = [id_ for *_, goes, id_ in rows if goes]
            for id_ in due if not dry_run else ():
                self._drop(rule.kept, id_)
        full = len(rows) >= batch
        return ExpiryStep(
            len(due), ExpiryPosition(*rows[-1][:2]) if full else None, rows[-1][2] if rows else None
        )

    def note_changes(self, *, now: datetime) -> None:
        """See `Store`."""

    def prune_amendments(self, *, before: datetime, batch: int) -> int:
        """See `Store`."""
        del before, batch
        return 0

    def count_old_amendments(self, *, before: datetime) -> int:
        """See `Store`."""
        del before
        return 0

    def _candidates(self, rule: ExpiryRule) -> Iterable[Candidate]:
        if rule.kept is Kept.SESSIONS:
            for id_, (sequence, arrival) in self._arrivals.items():
                yield "", sequence, arrival, arrival < rule.before, id_
        elif rule.kept is Kept.DISLIKES:
            for id_, kept in self._dislikes.items():
                bound = rule.before if kept.used_by_release else rule.unused_before
                arrival = kept.receive_time
                yield kept.dislike.use_case, kept.sequence, arrival, arrival < bound, id_
        else:
            for id_, stored in self._interactions.items():
                own = stored.interaction
                mine = rule.takes(own.use_case, own.event_type) and id_ not in self._dislikes
                arrival = stored.receive_time
                yield "", stored.sequence, arrival, mine and arrival < rule.before, id_

    def _drop(self, kept: Kept, id_: str) -> None:
        if kept is Kept.SESSIONS:
            del self._sessions[id_], self._arrivals[id_]
            return
        del self._interactions[id_], self._facts[id_]
        if kept is Kept.DISLIKES:
            self._forget_dislike(id_)

    def _forget_dislike(self, id_: str) -> None:
        gone = self._dislikes.pop(id_)
        owner = (gone.dislike.use_case, gone.dislike.subject_id)
        left = [
            cut
            for kept in self._dislikes.values()
            if (kept.dislike.use_case, kept.dislike.subject_id) == owner
            for cut in kept.cuts
        ]
        for lost in gone.cuts:
            name = (lost.feature, lost.value)
            factor = fold(cut for cut in left if (cut.feature, cut.value) == name)
            if factor is None:
                self._factors.pop((*owner, *name), None)
            else:
                self._factors[(*owner, *name)] = factor
