"""The match ledger in memory."""

from __future__ import annotations

from feedback_svc.matches.ledger import MatchFilter, StoredMatch
from feedback_svc.store.memory.state import MemoryState


class MemoryMatches(MemoryState):
    """The part of the store for matches; `MemoryRecord` writes them."""

    def list_matches(self, which: MatchFilter, *, before: int | None, limit: int) -> list[StoredMatch]:
        """See `Store`."""
        with self._lock:
            found = [
                stored
                for stored in self._matches.values()
                if stored.match.use_case == which.use_case
                and which.subject_id in ("", stored.match.subject_id)
                and which.item_id in ("", stored.match.item_id)
                and which.state in (None, stored.match.state)
                and (before is None or stored.sequence < before)
            ]
        return sorted(found, key=lambda stored: stored.sequence, reverse=True)[:limit]
