"""A small record and its exports in small parts, held against full ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feedback_svc.export import Exported, export
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from matchloop.snapshot import TableName, read_snapshot
from tests.feedback_worlds import NOW, event, facts, shown, startup

PARTS = {TableName.INTERACTIONS: 10, TableName.SESSIONS: 4}
INTERACTIONS, SESSIONS = TableName.INTERACTIONS, TableName.SESSIONS


class World:
    """A store with 40 interactions, 10 of them waiting for their sessions, and its exports."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.out, self._folder = url, folder / "out", folder
        self.store = PostgresStore(Database(url, pool_size=2))
        self._full = 0
        self.interact(*range(30))
        self.interact(*range(30, 40), session=True)
        self.show(*range(10))
        self.store.upsert_entities([startup("i"), startup("j")], now=NOW)

    def interact(self, *numbers: int, session: bool = False) -> None:
        """Record one interaction a call: each has a transaction of its own."""
        for number in numbers:
            own = event(str(number), session_id=f"late-{number}" if session else "")
            self.store.record_interactions([own], facts([own]), now=NOW)

    def show(self, *numbers: int, id_: str = "list") -> None:
        """Record lists in one call: they share a sequence."""
        self.store.record_sessions([shown(f"{id_}-{number}") for number in numbers], now=NOW)

    def run(self, statement: str) -> None:
        """Run SQL, committed."""
        with self.store._database.engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def export(self, **options: Any) -> Exported:
        """Export in small parts into `out`, unless the options say where."""
        out = options.pop("out", self.out)
        return export(self.url, out, now=NOW, part_rows=PARTS, **options)

    def check(self, exported: Exported) -> None:
        """Compare `out`, row for row, with a full export."""
        self._full += 1
        other = self._folder / f"full-{self._full}"
        full = export(self.url, other, now=NOW)
        mine, whole = read_snapshot(self.out), read_snapshot(other)
        assert exported.manifest == mine.manifest
        assert (mine.manifest.watermark, mine.manifest.counts) == (full.watermark, full.manifest.counts)
        for name in TableName:
            assert mine.table(name).equals(whole.table(name)), name
        assert mine.manifest.first_event_time == whole.manifest.first_event_time
        assert mine.manifest.last_event_time == whole.manifest.last_event_time
        files = {path.name for path in self.out.glob("*.parquet*")}
        assert files == set(mine.manifest.files)


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    world = World(database_url, tmp_path)
    yield world
    world.store.close()


ERASE = """
WITH gone AS (DELETE FROM interactions WHERE interaction_id IN ('3', '4') RETURNING sequence),
changed AS (UPDATE sessions SET item_ids = '{i}', scores = '{0.9}', methods = '{als}',
    feature_values = '{0, 0.25}' WHERE session_id = 'list-3' RETURNING sequence),
buried AS (INSERT INTO tombstones SELECT 'startup', 'ff', now(), change_now() RETURNING 1),
dead AS (DELETE FROM entities WHERE id = 'j')
SELECT amend('interactions', (SELECT array_agg(sequence) FROM gone)),
    amend('sessions', (SELECT array_agg(sequence) FROM changed)), (SELECT count(*) FROM buried)
"""
