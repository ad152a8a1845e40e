"""What the record in memory is made of, and how it is filtered and cut into pages."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeVar

from feedback_svc.catalog import (
    ChangePage,
    ChangePosition,
    ItemStats,
    cut_page,
)
from feedback_svc.dislikes import Dislike, Factor, StoredDislike
from feedback_svc.erasure import Roles
from feedback_svc.evidence import Retraining
from feedback_svc.interactions import EventFacts, StoredInteraction
from feedback_svc.matches.ledger import StoredMatch
from feedback_svc.sessions import RecordFilter, Session
from matchloop.entities import Entity, EntityId, EntityKey, Kind, Tombstone

T = TypeVar("T")
BATCH = 512
"""As in PostgreSQL: a sequence is the change's number times this, plus the place in the batch."""


class MemoryState:
    """The tables of the record; one lock over all, so every method is atomic.

    Counts of subjects stay when interactions go; `_arrivals` are the sequence and arrival of sessions.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._change = 0
        self._entities: dict[EntityKey, Entity] = {}
        self._stats: dict[tuple[str, str], ItemStats] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._sessions: dict[str, Session] = {}
        self._arrivals: dict[str, tuple[int, datetime]] = {}
        self._interactions: dict[str, StoredInteraction] = {}
        self._facts: dict[str, EventFacts] = {}
        self._dislikes: dict[str, StoredDislike] = {}
        self._factors: dict[tuple[str, str, str, str], Factor] = {}
        self._matches: dict[tuple[str, str, str], StoredMatch] = {}
        self._retrainings: dict[tuple[str, str], Retraining] = {}
        self._tombstones: dict[tuple[str, str], Tombstone] = {}
        self._roles: dict[str, Roles] = {}

    def _is_late(self, use_case: str, time: datetime, *, subject: str = "", item: str = "") -> bool:
        """Say whether the subject or the item was erased at `time` or later."""
        roles = self._roles.get(use_case)
        if roles is None or not self._tombstones:
            return False
        for kind, id_ in ((roles.subject, subject), (roles.item, item)):
            found = self._tombstones.get((kind, EntityKey(Kind(kind), EntityId(id_)).digest))
            if id_ and found is not None and time <= found.erase_time:
                return True
        return False

    def _session_score(self, dislike: Dislike) -> float | None:
        session = self._sessions.get(dislike.session_id)
        if session is None or (session.use_case, session.subject_id) != (
            dislike.use_case,
            dislike.subject_id,
        ):
            return None
        rank = session.place_of(dislike.item_id)
        return session.scores[rank - 1] if rank else None


def page_of(
    shown: Iterable[tuple[ChangePosition, T]], after: ChangePosition, limit: int, horizon: int
) -> ChangePage[T]:
    """Return the page after a position of rows with their positions, in any order."""
    key: Callable[[ChangePosition], tuple[int, str, str]] = lambda p: (p.sequence, p.kind, p.id)  # noqa: E731
    rows = sorted((row for row in shown if key(row[0]) > key(after)), key=lambda row: key(row[0]))
    page, more = cut_page(rows, limit)
    position = page[-1][0] if more else None
    return ChangePage(tuple(row for _, row in page), position, position.sequence if position else horizon)


def is_within(which: RecordFilter, use_case: str, subject: str, release: str, time: datetime) -> bool:
    """Say whether a row of these fields passes the filter."""
    return (
        which.use_case == use_case
        and which.subject_id in ("", subject)
        and which.release in ("", release)
        and (which.from_time is None or time >= which.from_time)
        and (which.to_time is None or time < which.to_time)
    )
