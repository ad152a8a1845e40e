"""What patterns and metrics are computed from, in memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from feedback_svc.dislikes import StoredDislike
from feedback_svc.evidence import (
    LISTS_PER_DAY,
    PLACES,
    REJECTIONS,
    DislikeCell,
    Rejection,
    Retraining,
    Shown,
    Value,
    Window,
)
from feedback_svc.sessions import Session
from feedback_svc.store.memory.state import MemoryState
from matchloop.entities import EntityId, EntityKey, Kind, discrete_values


class MemoryInsight(MemoryState):
    """The part of the store for what is learned from rejections."""

    def list_retrainings(self, use_case: str, *, limit: int) -> tuple[Retraining, ...]:
        """See `Store`."""
        with self._lock:
            found = [kept for (of, _), kept in self._retrainings.items() if of == use_case]
        return tuple(sorted(found, key=lambda r: (r.mark_time, r.release), reverse=True)[:limit])

    def count_dislikes(self, use_case: str, *, subject_id: str, window: Window) -> tuple[DislikeCell, ...]:
        """See `Store`."""
        cells = defaultdict(list)
        for kept in self._own_dislikes(use_case, subject_id):
            cells[kept.dislike.reason, window.week_of(kept.dislike.event_time)].append(kept.error)
        return tuple(_cell(reason, week, errors) for (reason, week), errors in cells.items())

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
        """See `Store`."""
        found = [
            kept
            for kept in self._own_dislikes(use_case, subject_id)
            if kept.dislike.event_time >= since and not (unused_only and kept.used_by_release)
        ]
        if unused_only:
            found.sort(key=lambda kept: kept.sequence)
            found = found[-REJECTIONS:]
        found.sort(key=lambda kept: (kept.dislike.event_time, kept.dislike.dislike_id))
        with self._lock:
            return tuple(
                Rejection(
                    dislike_id=kept.dislike.dislike_id,
                    subject_id=kept.dislike.subject_id,
                    item_id=kept.dislike.item_id,
                    reason=kept.dislike.reason,
                    event_time=kept.dislike.event_time,
                    used=bool(kept.used_by_release),
                    values=self._values(item_kind, kept.dislike.item_id, features),
                    cut_values=tuple(
                        (change.feature, change.value) for change in kept.changes if not features
                    ),
                    falls=tuple(change.before - change.after for change in kept.changes if not features),
                )
                for kept in found[-REJECTIONS:]
            )

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
        """See `Store`."""
        items = [0] * window.weeks
        counts: dict[Value, list[int]] = {}
        rejected: Counter[Value] = Counter()
        with self._lock:
            disliked = {
                (kept.dislike.session_id, kept.dislike.item_id) for kept in self._own_dislikes(use_case, "")
            }
            lists = self._sampled(use_case, subject_id, window)
            for week, session in lists:
                for item_id in session.item_ids[:PLACES]:
                    held = self._values(item_kind, item_id, features)
                    items[week] += held is not None
                    for value in held or ():
                        counts.setdefault(value, [0] * window.weeks)[week] += 1
                        rejected[value] += (session.session_id, item_id) in disliked
        wanted = counts.keys() if values is None else counts.keys() & set(values)
        return Shown(
            len(lists),
            tuple(items),
            {value: tuple(counts[value]) for value in wanted},
            Counter(feature for feature, _ in counts),
            {value: count for value, count in rejected.items() if count and value in wanted},
        )

    def _own_dislikes(self, use_case: str, subject_id: str) -> list[StoredDislike]:
        with self._lock:
            return [
                kept
                for kept in self._dislikes.values()
                if kept.dislike.use_case == use_case and subject_id in ("", kept.dislike.subject_id)
            ]

    def _sampled(self, use_case: str, subject_id: str, window: Window) -> list[tuple[int, Session]]:
        days = defaultdict(list)
        for session in self._sessions.values():
            if session.use_case == use_case and subject_id in ("", session.subject_id):
                days[(session.serve_time - window.start) // timedelta(days=1)].append(session)
        return [
            (day // 7, session)
            for day, own in days.items()
            if 0 <= day < 7 * window.weeks
            for session in sorted(own, key=lambda s: (s.serve_time, s.session_id))[-LISTS_PER_DAY:]
        ]

    def _values(self, kind: str, item_id: str, features: Sequence[str]) -> tuple[Value, ...] | None:
        entity = self._entities.get(EntityKey(Kind(kind), EntityId(item_id)))
        if entity is None:
            return None
        return tuple(
            (name, value) for name in features for value in discrete_values(entity.features.get(name))
        )


def _cell(reason: str, week: int | None, errors: Sequence[float | None]) -> DislikeCell:
    scored = [error for error in errors if error is not None]
    least, greatest = (min(scored), max(scored)) if scored else (None, None)
    return DislikeCell(reason, week, len(errors), len(scored), sum(scored), least, greatest)
