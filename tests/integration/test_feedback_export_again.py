"""An export that continues another reads only what is new or amended, and equals a full one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from feedback_svc.export import Exported, export
from feedback_svc.migrate import continue_sequences
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from matchloop.errors import InvalidInput
from matchloop.snapshot import SnapshotManifest, TableName, read_snapshot
from tests.contract.test_feedback_store import dislike
from tests.feedback_worlds import NOW, USE_CASE, event, facts, shown, startup

pytestmark = pytest.mark.processes

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


def files(exported: Exported, table: TableName = INTERACTIONS) -> list[str]:
    return list(exported.manifest.files_of(table))


def test_only_what_is_new_is_read(world: World) -> None:
    first = world.export()
    assert [entry.rows for entry in first.manifest.files_of(INTERACTIONS).values()] == [10, 10, 10, 10]
    world.interact(40, 41, 42)
    second = world.export()
    world.check(second)
    assert second.rows_read == {INTERACTIONS: 3}
    assert files(second)[:4] == files(first)
    assert world.export().written is False


def test_lists_of_one_sequence_stay_in_one_part(world: World) -> None:
    world.show(10, 11, 12, 13, 14)
    world.show(15)
    exported = world.export()
    world.check(exported)
    assert [entry.rows for entry in exported.manifest.files_of(SESSIONS).values()] == [10, 5, 1]


def test_a_tie_is_read_again(world: World) -> None:
    first = world.export()
    world.store.record_sessions([shown("late-35")], now=NOW)
    second = world.export()
    world.check(second)
    assert second.rows_read == {INTERACTIONS: 10, SESSIONS: 1}
    assert files(second)[:3] == files(first)[:3]
    assert files(second)[3] != files(first)[3]
    ranks = {
        row["interaction_id"]: row["rank"] for row in read_snapshot(world.out).table(INTERACTIONS).to_pylist()
    }
    assert ranks["35"] == 1


def test_marks_and_late_scores_of_dislikes_move_the_watermark(world: World) -> None:
    dislike(world.store, "d", session_id="later")
    first = world.export()
    world.store.record_sessions([shown("later")], now=NOW)
    scored = world.export()
    world.check(scored)
    marked = world.store.mark_negatives_used(USE_CASE, release="r", to_sequence=scored.watermark, now=NOW)
    again = world.export()
    world.check(again)
    assert marked == 1
    assert first.watermark < scored.watermark < again.watermark
    (row,) = read_snapshot(world.out).table(TableName.DISLIKES).to_pylist()
    assert (row["predicted_score"] is not None, row["used_by_release"]) == (True, "r")
    assert again.rows_read == {TableName.DISLIKES: 1}


ERASE = """
WITH gone AS (DELETE FROM interactions WHERE interaction_id IN ('3', '4') RETURNING sequence),
changed AS (UPDATE sessions SET item_ids = '{i}', scores = '{0.9}', methods = '{als}',
    feature_values = '{0, 0.25}' WHERE session_id = 'list-3' RETURNING sequence),
buried AS (INSERT INTO tombstones SELECT 'startup', 'ff', now(), change_now() RETURNING 1),
dead AS (DELETE FROM entities WHERE id = 'j')
SELECT amend('interactions', (SELECT array_agg(sequence) FROM gone)),
    amend('sessions', (SELECT array_agg(sequence) FROM changed)), (SELECT count(*) FROM buried)
"""
RETAIN = """
WITH gone AS (DELETE FROM interactions WHERE sequence < (SELECT sequence FROM interactions
        WHERE interaction_id = '15') RETURNING sequence),
lists AS (DELETE FROM sessions RETURNING sequence)
SELECT amend('interactions', (SELECT array_agg(sequence) FROM gone)),
    amend('sessions', (SELECT array_agg(sequence) FROM lists))
"""


def test_what_is_erased_goes(world: World) -> None:
    first = world.export()
    world.run(ERASE)
    second = world.export()
    world.check(second)
    assert files(second)[1:] == files(first)[1:]
    assert second.manifest.counts[TableName.TOMBSTONES] == 1
    assert second.manifest.counts[TableName.ENTITIES] == 1
    lists = read_snapshot(world.out).table(SESSIONS).to_pylist()
    assert {row["session_id"]: row["item_ids"] for row in lists}["list-3"] == ["i"]


def test_what_retention_deletes_goes_whole_parts_too(world: World) -> None:
    world.export()
    world.run(RETAIN)
    exported = world.export()
    world.check(exported)
    assert [entry.rows for entry in exported.manifest.files_of(INTERACTIONS).values()] == [5, 10, 10]
    assert exported.manifest.counts[SESSIONS] == 0
    world.show(50)
    again = world.export()
    world.check(again)
    assert (again.manifest.counts[SESSIONS], len(files(again, SESSIONS))) == (1, 1)


def test_entities_are_read_when_one_changed(world: World) -> None:
    world.export()
    world.store.deactivate_entities([startup("i").key], now=NOW + timedelta(days=1))
    exported = world.export()
    world.check(exported)
    assert set(exported.rows_read) == {TableName.ENTITIES, TableName.FEATURES}


def test_what_runs_while_another_commits_is_not_lost(world: World) -> None:
    with world.store._database.engine.connect() as early:
        transaction = early.execution_options(isolation_level="READ COMMITTED").begin()
        early.exec_driver_sql(
            "INSERT INTO interactions SELECT (change_now() << 9), 'early', use_case, subject_id, item_id,"
            " event_type, event_time, receive_time, hides FROM interactions WHERE interaction_id = '1'"
        )
        world.interact(50)
        world.store.record_sessions([shown("late-31")], now=NOW)
        world.store.upsert_entities([startup("i", "other")], now=NOW)
        during = world.export()
        world.check(during)
        assert (during.manifest.counts[INTERACTIONS], during.manifest.counts[TableName.ENTITIES]) == (40, 2)
        world.store.record_sessions([shown("late-32")], now=NOW)
        unsettled = world.export()
        world.check(unsettled)
        assert unsettled.watermark == during.watermark
        transaction.commit()
    after = world.export()
    world.check(after)
    assert after.manifest.counts[INTERACTIONS] == 42


def test_a_snapshot_can_start_from_another(world: World, tmp_path: Path) -> None:
    first = world.export(out=tmp_path / "base")
    world.interact(60)
    second = world.export(base=tmp_path / "base")
    world.check(second)
    assert second.rows_read == {INTERACTIONS: 1}
    assert all((world.out / file).samefile(tmp_path / "base" / file) for file in files(first))
    assert read_snapshot(tmp_path / "base").manifest == first.manifest


def test_a_damaged_start_is_refused_a_damaged_part_read_again(world: World, tmp_path: Path) -> None:
    first = world.export()
    damaged = world.out / files(first)[1]
    damaged.write_bytes(b"x")
    with pytest.raises(InvalidInput):
        world.export(base=world.out, out=tmp_path / "other")
    (world.out / files(first)[2]).unlink()
    second = world.export()
    world.check(second)
    assert second.rows_read == {INTERACTIONS: 20}


@pytest.mark.parametrize(
    "forget",
    [
        lambda world: continue_sequences(world.url),
        lambda world: world.run("INSERT INTO retention_progress VALUES ('amendments', '', change_now() + 1)"),
    ],
    ids=["restored", "pruned"],
)
def test_without_a_common_history_everything_is_read(world: World, forget: Callable[[World], None]) -> None:
    world.export()
    forget(world)
    world.interact(70)
    exported = world.export()
    world.check(exported)
    assert (exported.rows_read[INTERACTIONS], exported.rows_read[SESSIONS]) == (41, 10)


def test_many_small_parts_are_joined(world: World) -> None:
    for number in range(100, 118):
        world.interact(number)
        exported = world.export()
    world.check(exported)
    assert exported.rows_read[INTERACTIONS] > 15
    assert len(files(exported)) < 8


def test_who_reads_meanwhile_sees_the_snapshot_before(world: World) -> None:
    before = world.export().manifest
    world.run(ERASE)
    world.interact(80)
    seen: list[SnapshotManifest] = []
    exported = world.export(advance=lambda table, rows: seen.append(read_snapshot(world.out).manifest))
    world.check(exported)
    assert len(seen) > 3
    assert all(manifest == before for manifest in seen)


HANGING = """
import sys, time
from datetime import datetime, UTC
from pathlib import Path
from feedback_svc.export import export
from matchloop.snapshot import TableName
told = []
def advance(table, rows):
    told.append(table)
    if len(told) == int(sys.argv[3]):
        print("here", flush=True)
        time.sleep(60)
export(sys.argv[1], Path(sys.argv[2]), now=datetime.now(UTC), advance=advance,
    part_rows={TableName.INTERACTIONS: 10, TableName.SESSIONS: 4})
"""


def killed_after(world: World, blocks: int) -> None:
    """Start an export in a process of its own and kill it when it has read so many blocks."""
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, world.url, str(world.out), str(blocks)],
        stdout=subprocess.PIPE,
        env=os.environ,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.kill()
    process.wait(10)
    process.stdout.close()


@pytest.mark.parametrize(("blocks", "kept"), [(1, 0), (3, 20), (6, 40)])
def test_a_killed_export_goes_on_where_it_was(world: World, blocks: int, kept: int) -> None:
    killed_after(world, blocks)
    world.interact(90)
    exported = world.export()
    world.check(exported)
    assert exported.rows_kept(INTERACTIONS) == kept


def test_a_killed_continuation_leaves_the_snapshot_and_goes_on(world: World) -> None:
    before = world.export().manifest
    world.run(ERASE)
    world.interact(*range(90, 105))
    killed_after(world, 2)
    assert read_snapshot(world.out).manifest == before
    world.store.record_sessions([shown("late-30")], now=NOW)
    exported = world.export()
    world.check(exported)
    # Of 15 new ones and the part of 8 that lost 2, the export that was killed had the part.
    assert exported.rows_read[INTERACTIONS] == 15 + 10
