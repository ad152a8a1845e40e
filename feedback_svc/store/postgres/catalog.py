"""The catalogue in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, literal_column, select, tuple_
from sqlalchemy.sql import ColumnElement

from feedback_svc.catalog import (
    ChangePage,
    ChangePosition,
    Deactivated,
    ItemStats,
    UpsertCounts,
    cut_page,
    split_page,
)
from feedback_svc.store.features import read_features, write_features
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.postgres.literals import flag_array, text_array, time_array
from feedback_svc.store.postgres.tables import EntityRow, ItemStatsRow, TombstoneRow
from matchloop.entities import Entity, EntityId, EntityKey, Kind, Tombstone
from matchloop.errors import NotFound

# One statement; rows in key order, so that two upserts of the same entities never wait for each other.
# What is stored as it is sent is left alone. xmax is 0 in a row that was not there before.
UPSERT = """
INSERT INTO entities AS kept (kind, id, features, active, create_time, update_time, change_sequence)
SELECT sent.kind, sent.id, sent.features::jsonb, true,
    CASE WHEN sent.given THEN sent.created ELSE coalesce(stored.create_time, sent.created) END,
    %(now)s, change_now()
FROM unnest(%(kinds)s::text[], %(ids)s::text[], %(features)s::text[], %(created)s::timestamptz[],
    %(given)s::boolean[]) AS sent (kind, id, features, created, given)
LEFT JOIN entities stored ON stored.kind = sent.kind AND stored.id = sent.id
ORDER BY sent.kind COLLATE "C", sent.id COLLATE "C"
ON CONFLICT (kind, id) DO UPDATE SET
    features = excluded.features, active = true, create_time = excluded.create_time,
    update_time = excluded.update_time, change_sequence = excluded.change_sequence,
    derived = CASE WHEN kept.features = excluded.features THEN kept.derived END
WHERE kept.features <> excluded.features OR NOT kept.active OR kept.create_time <> excluded.create_time
RETURNING kept.xmax = 0
"""

DEACTIVATE = """
WITH sent AS (
    SELECT kind, id FROM unnest(%(kinds)s::text[], %(ids)s::text[]) AS keys (kind, id)
), held AS (
    SELECT e.kind, e.id FROM entities e JOIN sent ON e.kind = sent.kind AND e.id = sent.id
    WHERE e.active ORDER BY e.kind, e.id FOR UPDATE OF e
), changed AS (
    UPDATE entities e SET active = false, update_time = %(now)s, change_sequence = change_now()
    FROM held WHERE e.kind = held.kind AND e.id = held.id RETURNING 1
)
SELECT (SELECT count(*) FROM changed),
    ARRAY(SELECT kind FROM sent WHERE NOT EXISTS (
        SELECT FROM entities e WHERE e.kind = sent.kind AND e.id = sent.id) ORDER BY kind, id),
    ARRAY(SELECT id FROM sent WHERE NOT EXISTS (
        SELECT FROM entities e WHERE e.kind = sent.kind AND e.id = sent.id) ORDER BY kind, id)
"""

ENTITY_COLUMNS = (
    EntityRow.kind,
    EntityRow.id,
    EntityRow.features.op("||")(func.coalesce(EntityRow.derived, literal_column("'{}'::jsonb"))),
    EntityRow.active,
    EntityRow.create_time,
    EntityRow.update_time,
    EntityRow.change_sequence,
)
TOMBSTONE_COLUMNS = (
    TombstoneRow.kind,
    TombstoneRow.id_hash,
    TombstoneRow.erase_time,
    TombstoneRow.change_sequence,
)


class PostgresCatalog:
    """The catalogue's part of the store."""

    _database: Database

    def upsert_entities(self, entities: Sequence[Entity], *, now: datetime) -> UpsertCounts:
        """Create or replace; an entity sent as it is stored is not touched."""
        parameters = {
            "now": now,
            "kinds": text_array([e.key.kind for e in entities]),
            "ids": text_array([e.key.id for e in entities]),
            "features": text_array([write_features(e.features) for e in entities]),
            "created": time_array([e.create_time or now for e in entities]),
            "given": flag_array([e.create_time is not None for e in entities]),
        }

        def work(connection: Connection) -> UpsertCounts:
            written = connection.exec_driver_sql(UPSERT, parameters).scalars().all()
            created = sum(written)
            return UpsertCounts(created, len(written) - created, len(entities) - len(written))

        return self._database.run(work)

    def get_entity(self, key: EntityKey) -> Entity:
        """Return an entity, also an inactive one; raises NotFound."""
        statement = select(*ENTITY_COLUMNS).where(EntityRow.kind == key.kind, EntityRow.id == key.id)
        row = self._database.run(lambda connection: connection.execute(statement).one_or_none())
        if row is None:
            raise NotFound(f"no {key.kind} `{key.id}` is stored")
        return entity_of(row)

    def list_entities(
        self,
        *,
        kinds: Sequence[str],
        after: ChangePosition,
        limit: int,
        include_inactive: bool,
        erased_only: bool = False,
    ) -> ChangePage[Entity]:
        """List by change sequence, kind, id (or its hash); `kinds` empty means all."""
        entities = _listing(EntityRow, of_kinds=bool(kinds), active=not include_inactive)
        tombstones = _listing(TombstoneRow, of_kinds=bool(kinds))
        asked: dict[str, Any] = {
            "sequence": after.sequence,
            "kind": after.kind,
            "name": after.id,
            "rows": limit + 1,
        }
        if kinds:
            asked["kinds"] = list(kinds)

        def work(connection: Connection) -> tuple[int, list[tuple[ChangePosition, Entity | Tombstone]]]:
            horizon = _horizon_before(connection)
            rows: list[tuple[ChangePosition, Entity | Tombstone]] = []
            if not erased_only:
                found = map(entity_of, connection.execute(entities, asked))
                rows += [(ChangePosition(e.change_sequence, e.key.kind, e.key.id), e) for e in found]
            if include_inactive or erased_only:
                graves = (Tombstone(*row) for row in connection.execute(tombstones, asked))
                rows += [(ChangePosition(t.change_sequence, t.kind, t.id_hash), t) for t in graves]
            return horizon, sorted(rows, key=lambda row: astuple(row[0]))

        horizon, rows = self._database.run(work)
        page, more = cut_page(rows, limit)
        position = page[-1][0] if more else None
        return split_page(
            ChangePage(tuple(row for _, row in page), position, position.sequence if position else horizon)
        )

    def list_item_stats(self, use_case: str, *, after: ChangePosition, limit: int) -> ChangePage[ItemStats]:
        """List by change sequence, item id."""
        asked = {"use_case": use_case, "sequence": after.sequence, "item_id": after.id, "rows": limit + 1}

        def work(connection: Connection) -> tuple[int, list[tuple[Any, ...]]]:
            horizon = _horizon_before(connection)
            return horizon, [tuple(row) for row in connection.execute(_stats_listing(), asked)]

        horizon, rows = self._database.run(work)
        page, more = cut_page([ItemStats(*row) for row in rows], limit)
        last = page[-1] if page else None
        return ChangePage(
            page,
            ChangePosition(last.change_sequence, "", last.item_id) if last and more else None,
            last.change_sequence if last and more else horizon,
        )

    def deactivate_entities(self, keys: Sequence[EntityKey], *, now: datetime) -> Deactivated:
        """Make entities inactive."""
        distinct = sorted(set(keys), key=lambda key: (key.kind, key.id))
        parameters = {
            "now": now,
            "kinds": text_array([key.kind for key in distinct]),
            "ids": text_array([key.id for key in distinct]),
        }
        row = self._database.run(lambda connection: connection.exec_driver_sql(DEACTIVATE, parameters).one())
        unknown = (EntityKey(Kind(kind), EntityId(id_)) for kind, id_ in zip(row[1], row[2], strict=True))
        return Deactivated(row[0], tuple(unknown))


@cache
def _listing(table: type[EntityRow | TombstoneRow], *, of_kinds: bool, active: bool = False) -> Select[Any]:
    """Select a page, and one row more, of entities or tombstones; made once, for it is asked every second."""
    columns, name = (
        (ENTITY_COLUMNS, EntityRow.id) if table is EntityRow else (TOMBSTONE_COLUMNS, TombstoneRow.id_hash)
    )
    position = (table.change_sequence, table.kind, name)
    after = tuple_(bindparam("sequence"), bindparam("kind"), bindparam("name"))
    statement = (
        select(*columns)
        .where(tuple_(*position) > after, table.change_sequence < _horizon())
        .order_by(*position)
        .limit(bindparam("rows"))
    )
    if active:
        statement = statement.where(EntityRow.active)
    return statement.where(table.kind.in_(bindparam("kinds", expanding=True))) if of_kinds else statement


@cache
def _stats_listing() -> Select[*tuple[Any, ...]]:
    """Select a page, and one row more, of item counts; made once, as `_listing` is."""
    position = (ItemStatsRow.change_sequence, ItemStatsRow.item_id)
    return (
        select(
            ItemStatsRow.use_case,
            ItemStatsRow.item_id,
            ItemStatsRow.views,
            ItemStatsRow.interactions,
            ItemStatsRow.decayed_weight,
            ItemStatsRow.decay_time,
            ItemStatsRow.change_sequence,
        )
        .where(
            ItemStatsRow.use_case == bindparam("use_case"),
            tuple_(*position) > tuple_(bindparam("sequence"), bindparam("item_id")),
            ItemStatsRow.change_sequence < _horizon(),
        )
        .order_by(*position)
        .limit(bindparam("rows"))
    )


def _horizon() -> ColumnElement[int]:
    """Return what all changes below have been committed or undone; see the first migration."""
    return func.change_horizon()


def _horizon_before(connection: Connection) -> int:
    """Read the horizon before the page: what the page does not show yet is at it or above."""
    return int(connection.exec_driver_sql("SELECT change_horizon()").scalar_one())


def entity_of(row: Sequence[Any]) -> Entity:
    """Build an entity from its row, in the order of `ENTITY_COLUMNS`."""
    kind, id_, features, active, create_time, update_time, change_sequence = row
    return Entity(
        EntityKey(Kind(kind), EntityId(id_)),
        read_features(features),
        create_time=create_time,
        update_time=update_time,
        active=active,
        change_sequence=change_sequence,
    )
