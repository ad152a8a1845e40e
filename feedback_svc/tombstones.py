"""Tell which erased entities a snapshot still holds: ``python -m feedback_svc.tombstones --snapshot FOLDER``.

A snapshot made before an erasure holds what was erased later. It has to be made again, or thrown away, and so
has what was built from it. What is in a snapshot because an entity came back after its erasure is not told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet as pq
import typer

from feedback_svc.command import run, told
from feedback_svc.erasure import Roles
from feedback_svc.settings import DatabaseSettings
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from matchloop.entities import EntityId, EntityKey, Kind, Tombstone
from matchloop.rpc.settings import read_settings
from matchloop.snapshot import Snapshot, TableName, read_snapshot

HOLDS = 1
"""Exit code of a snapshot that holds erased entities."""
FAULT = 2
"""Exit code of anything that kept the question from being answered."""
ROWS_AT_A_TIME = 65_536

Erased = Mapping[tuple[str, str], datetime]
"""Erase time by kind and hash."""


@dataclass(frozen=True, slots=True)
class Held:
    """An erased entity in a table of a snapshot, and in how many of its rows."""

    kind: str
    id_hash: str
    table: TableName
    rows: int


def read_tombstones(url: str) -> tuple[tuple[Tombstone, ...], tuple[Roles, ...]]:
    """Return every tombstone of a database and the kinds of its use cases.

    Raises Unavailable when it cannot be read.
    """
    store = PostgresStore(Database(url, pool_size=1))
    try:
        return store.tombstones(), store.roles()
    finally:
        store.close()


def still_held(
    snapshot: Snapshot, tombstones: Iterable[Tombstone], roles: Iterable[Roles]
) -> tuple[Held, ...]:
    """Return which erased entities a snapshot holds, by kind, hash and table.

    Parameters
    ----------
    roles
        Kinds by use case: rows name use cases. Rows of a use case without are not looked at.
    """
    erased: Erased = {(each.kind, each.id_hash): each.erase_time for each in tombstones}
    made = snapshot.manifest.created
    kinds = {role.use_case: role for role in roles}
    if not erased:
        return ()
    digests: dict[tuple[str, str], str] = {}
    counts: dict[tuple[str, str, TableName], int] = {}
    for table in (TableName.ENTITIES, TableName.INTERACTIONS, TableName.SESSIONS, TableName.DISLIKES):
        for row in _rows(snapshot, table):
            for kind, id_, time in _named(table, row, kinds):
                digest = digests.get((kind, id_))
                if digest is None:
                    digest = digests[kind, id_] = EntityKey(Kind(kind), EntityId(id_)).digest
                at = erased.get((kind, digest))
                if at is not None and (time is None or min(time, made) <= at):
                    counts[kind, digest, table] = counts.get((kind, digest, table), 0) + 1
    return tuple(Held(*key, rows) for key, rows in sorted(counts.items()))


COLUMNS: Mapping[TableName, tuple[str, ...]] = {
    TableName.ENTITIES: ("kind", "id", "update_time"),
    TableName.INTERACTIONS: ("use_case", "subject_id", "item_id", "event_time"),
    TableName.SESSIONS: ("use_case", "subject_id", "item_ids", "serve_time"),
    TableName.DISLIKES: ("use_case", "subject_id", "item_id", "event_time"),
}


def _rows(snapshot: Snapshot, table: TableName) -> Iterator[tuple[Any, ...]]:
    columns = COLUMNS[table]
    for path in snapshot.paths(table):
        file = pq.ParquetFile(path)
        for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME, columns=list(columns)):
            yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)


def _named(
    table: TableName, row: tuple[Any, ...], kinds: Mapping[str, Roles]
) -> Iterator[tuple[str, str, datetime | None]]:
    """Yield kind, id and time of every entity that a row names."""
    if table is TableName.ENTITIES:
        yield row
        return
    use_case, subject, item, time = row
    roles = kinds.get(use_case)
    if roles is None:
        return
    yield roles.subject, subject, time
    for each in item if table is TableName.SESSIONS else (item,):
        yield roles.item, each, time


def main(
    snapshot: Annotated[Path, typer.Option(help="Folder of the snapshot to look through.")],
) -> None:
    """Tell which erased entities a snapshot still holds, by hash; the database is FEEDBACK_DATABASE_URL's.

    Exit code 0: none; 1: it holds some; 2: it could not be told.
    """
    try:
        with told():
            settings = read_settings(DatabaseSettings)
            tombstones, roles = read_tombstones(settings.database_url)
            held = still_held(read_snapshot(snapshot), tombstones, roles)
    except typer.Exit:
        raise typer.Exit(FAULT) from None
    for each in held:
        typer.echo(f"{each.kind} {each.id_hash}: {each.rows} rows of {each.table}")
    entities = len({(each.kind, each.id_hash) for each in held})
    typer.echo(f"{entities} of {len(tombstones)} erased entities are in {snapshot}")
    raise typer.Exit(HOLDS if held else 0)


if __name__ == "__main__":
    run(main, "tombstones")
