"""Erasure in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from feedback_svc.dislikes import fold
from feedback_svc.erasure import Erased, Roles, places_of
from feedback_svc.store.memory.state import MemoryState
from matchloop.entities import EntityKey, Tombstone


class MemoryErasure(MemoryState):
    """The part of the store for erasing."""

    def keep_roles(self, roles: Sequence[Roles]) -> None:
        """See `Store`."""
        with self._lock:
            self._roles |= {role.use_case: role for role in roles}

    def erase_entity(self, key: EntityKey, *, roles: Sequence[Roles], now: datetime) -> Erased:
        """See `Store`."""
        with self._lock:
            self.keep_roles(roles)
            self._change += 1
            tombstone = self._entomb(key, now)
            subjects, items = places_of(key.kind, roles)
            id_ = str(key.id)
            places = {(use_case, id_) for use_case in subjects}, {(use_case, id_) for use_case in items}
            entity = self._entities.pop(key, None) is not None
            dislikes = self._erase_dislikes(*places)
            interactions = self._erase_interactions(*places)
            sessions = self._erase_sessions(*places)
            for place in places[1]:
                self._stats.pop(place, None)
            for place in places[0]:
                self._counts.pop(place, None)
            for match in list(self._matches):
                if (match[0], match[1]) in places[0] or (match[0], match[2]) in places[1]:
                    del self._matches[match]
            return Erased(entity, interactions, dislikes, sessions, tombstone.erase_time)

    def _entomb(self, key: EntityKey, now: datetime) -> Tombstone:
        id_hash = key.digest
        old = self._tombstones.get((key.kind, id_hash))
        time = max(now, old.erase_time) if old else now
        tombstone = Tombstone(key.kind, id_hash, time, self._change)
        self._tombstones[key.kind, id_hash] = tombstone
        return tombstone

    def _erase_interactions(self, subjects: set[tuple[str, str]], items: set[tuple[str, str]]) -> int:
        gone = [
            id_
            for id_, stored in self._interactions.items()
            if (stored.interaction.use_case, stored.interaction.subject_id) in subjects
            or (stored.interaction.use_case, stored.interaction.item_id) in items
        ]
        for id_ in gone:
            interaction = self._interactions[id_].interaction
            self._counts[interaction.use_case, interaction.subject_id] -= 1
            del self._interactions[id_], self._facts[id_]
        return len(gone)

    def _erase_dislikes(self, subjects: set[tuple[str, str]], items: set[tuple[str, str]]) -> int:
        gone = [
            stored
            for stored in self._dislikes.values()
            if (stored.dislike.use_case, stored.dislike.subject_id) in subjects
            or (stored.dislike.use_case, stored.dislike.item_id) in items
        ]
        for stored in gone:
            del self._dislikes[stored.dislike.dislike_id]
        for use_case, subject in {(s.dislike.use_case, s.dislike.subject_id) for s in gone}:
            self._refold(use_case, subject)
        return len(gone)

    def _refold(self, use_case: str, subject: str) -> None:
        """Make a subject's factors what its dislikes say."""
        own = [
            cut
            for stored in self._dislikes.values()
            if (stored.dislike.use_case, stored.dislike.subject_id) == (use_case, subject)
            for cut in stored.cuts
        ]
        for key in [key for key in self._factors if key[:2] == (use_case, subject)]:
            folded = fold(cut for cut in own if (cut.feature, cut.value) == key[2:])
            if folded is None:
                del self._factors[key]
            else:
                self._factors[key] = folded

    def _erase_sessions(self, subjects: set[tuple[str, str]], items: set[tuple[str, str]]) -> int:
        changed = 0
        for id_, session in list(self._sessions.items()):
            if (session.use_case, session.subject_id) in subjects:
                kept = None
            else:
                gone = {item for item in session.item_ids if (session.use_case, item) in items}
                if not gone:
                    continue
                kept = session.without(gone)
            changed += 1
            if kept is None:
                del self._sessions[id_], self._arrivals[id_]
            else:
                self._sessions[id_] = kept
        return changed
