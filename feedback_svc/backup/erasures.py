"""Erase again who was erased after a backup was made: a restored record has them back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import pyarrow.parquet as pq
from sqlalchemy import Connection

from feedback_svc.erasure import places_of
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from matchloop.entities import EntityId, EntityKey, Kind
from matchloop.snapshot import Snapshot, TableName

STATEMENT_SECONDS = 3600.0
"""Every row is looked at once."""

ENTOMB = """
INSERT INTO tombstones AS kept (kind, id_hash, erase_time, change_sequence)
SELECT %(kind)s, sent.id_hash, sent.erase_time, change_now()
FROM unnest(%(hashes)s::text[], %(times)s::timestamptz[]) AS sent (id_hash, erase_time)
ON CONFLICT (kind, id_hash) DO UPDATE SET
    erase_time = excluded.erase_time, change_sequence = excluded.change_sequence
"""
FIND = """
SELECT DISTINCT id, erased_hash(%(kind)s, id) FROM (
    SELECT id FROM entities WHERE kind = %(kind)s
    UNION SELECT subject_id FROM interactions WHERE use_case = ANY (%(as_subject)s)
    UNION SELECT item_id FROM interactions WHERE use_case = ANY (%(as_item)s)
    UNION SELECT subject_id FROM sessions WHERE use_case = ANY (%(as_subject)s)
    UNION SELECT unnest(item_ids) FROM sessions WHERE use_case = ANY (%(as_item)s)
) AS named (id) WHERE erased_hash(%(kind)s, id) = ANY (%(hashes)s)
"""


def erase_again(url: str, snapshot: Snapshot) -> int:
    """Erase whom a snapshot knows as erased and the database does not, or not since then.

    Their tombstones come back too: late reactions about them are dropped, as they were before. Done again, it
    does nothing; broken off, the one it was at is to be erased by hand, or the backup restored once more.

    Returns
    -------
    int
        How many there were.

    Raises
    ------
    Unavailable
        When the database cannot be reached or has another schema.
    """
    database = Database(url, pool_size=1, statement_timeout=STATEMENT_SECONDS)
    store = PostgresStore(database)
    try:
        missing = _missing(store, snapshot)
        for kind, erasures in missing.items():
            _erase(database, store, kind, erasures)
        return sum(map(len, missing.values()))
    finally:
        store.close()


def _erase(database: Database, store: PostgresStore, kind: str, erasures: Mapping[str, datetime]) -> None:
    """Erase entities of a kind, given when by hash of their ids, and entomb them whether found or not."""
    roles = store.roles()
    as_subject, as_item = places_of(kind, roles)
    parameters = {
        "kind": kind,
        "hashes": list(erasures),
        "times": list(erasures.values()),
        "as_subject": as_subject,
        "as_item": as_item,
    }

    def found(connection: Connection) -> list[tuple[str, str]]:
        return [(row[0], row[1]) for row in connection.exec_driver_sql(FIND, parameters)]

    def entomb(connection: Connection) -> None:
        connection.exec_driver_sql(ENTOMB, parameters)

    for id_, digest in database.run(found):
        store.erase_entity(EntityKey(Kind(kind), EntityId(id_)), roles=roles, now=erasures[digest])
    database.run(entomb)


def _missing(store: PostgresStore, snapshot: Snapshot) -> dict[str, dict[str, datetime]]:
    """Return by kind who was erased later than the database knows."""
    known = {(each.kind, each.id_hash): each.erase_time for each in store.tombstones()}
    missing: dict[str, dict[str, datetime]] = {}
    for path in snapshot.paths(TableName.TOMBSTONES):
        for row in pq.read_table(path, columns=["kind", "id_hash", "erase_time"]).to_pylist():
            before = known.get((row["kind"], row["id_hash"]))
            if before is None or before < row["erase_time"]:
                missing.setdefault(row["kind"], {})[row["id_hash"]] = row["erase_time"]
    return missing
