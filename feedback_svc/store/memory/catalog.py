"""The catalogue in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from feedback_svc.catalog import (
    ChangePage,
    ChangePosition,
    Deactivated,
    ItemStats,
    UpsertCounts,
    split_page,
)
from feedback_svc.store.features import canonical, sent
from feedback_svc.store.memory.state import MemoryState, page_of
from matchloop.entities import Entity, EntityKey, Tombstone
from matchloop.errors import NotFound


class MemoryCatalog(MemoryState):
    """The part of the store for the catalogue."""

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
        same = old is not None and sent(old.features) == new.features
        if old and same and (old.create_time, old.active) == (new.create_time, True):
            return "unchanged"
        if old and same:
            new = replace(new, features=old.features)
        self._entities[entity.key] = new
        return "updated" if old else "created"

    def get_entity(self, key: EntityKey) -> Entity:
        """See `Store`."""
        with self._lock:
            if key not in self._entities:
                raise NotFound(f"no {key.kind} `{key.id}` is stored")
            return self._entities[key]

    def list_entities(
        self,
        *,
        kinds: Sequence[str],
        after: ChangePosition,
        limit: int,
        include_inactive: bool,
        erased_only: bool = False,
    ) -> ChangePage[Entity]:
        """See `Store`."""
        with self._lock:
            shown: list[tuple[ChangePosition, Entity | Tombstone]] = []
            if not erased_only:
                shown += [
                    (ChangePosition(e.change_sequence, e.key.kind, e.key.id), e)
                    for e in self._entities.values()
                    if (include_inactive or e.active) and (not kinds or e.key.kind in kinds)
                ]
            if include_inactive or erased_only:
                shown += [
                    (ChangePosition(t.change_sequence, t.kind, t.id_hash), t)
                    for t in self._tombstones.values()
                    if not kinds or t.kind in kinds
                ]
            page = page_of(shown, after, limit, self._change + 1)
            return split_page(page)

    def list_item_stats(self, use_case: str, *, after: ChangePosition, limit: int) -> ChangePage[ItemStats]:
        """See `Store`."""
        with self._lock:
            shown = [
                (ChangePosition(s.change_sequence, "", s.item_id), s)
                for s in self._stats.values()
                if s.use_case == use_case
            ]
            return page_of(shown, after, limit, self._change + 1)

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
