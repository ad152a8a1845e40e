"""Recognising the erased by their tombstones, among what is held in memory and in releases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matchloop.entities import EntityKey, Kind
from matchloop.features.text import forget_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from candidate_svc.rows import ItemRows
    from matchloop.entities import EntityId, Tombstone


class Erasures:
    """When subjects were erased: what releases still hold of them must not be used.

    One writer, any number of readers.
    """

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], datetime] = {}

    def subjects_erased(self, tombstones: Sequence[Tombstone]) -> None:
        """Take tombstones; see `mirror.ErasureListener`."""
        for each in tombstones:
            self._times[each.kind, each.id_hash] = each.erase_time
        forget_words()

    def time(self, kind: str, entity_id: EntityId) -> datetime | None:
        """Return when an entity was last erased; None when it was not, as far as is known."""
        if not self._times:
            return None
        return self._times.get((kind, EntityKey(Kind(kind), entity_id).digest))


class HeldIds:
    """The ids of rows by their digests; hashed when the first is looked for, then as rows come."""

    def __init__(self, rows: ItemRows) -> None:
        self._rows = rows
        self._ids: dict[str, EntityId] = {}
        self._hashed = 0

    def find(self, id_hash: str) -> EntityId | None:
        """Return the id that a row holds, by its digest."""
        for row in range(self._hashed, self._rows.count):
            item_id = self._rows.id(row)
            self._ids[EntityKey(self._rows.kind, item_id).digest] = item_id
        self._hashed = self._rows.count
        return self._ids.get(id_hash)

    def forget(self, id_hash: str) -> None:
        """Forget an id."""
        self._ids.pop(id_hash, None)
