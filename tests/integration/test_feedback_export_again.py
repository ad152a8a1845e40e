"""An export that continues another reads only what is new or amended, and equals a full one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from feedback_svc.export import Exported
from feedback_svc.migrate import continue_sequences
from matchloop.errors import InvalidInput
from matchloop.snapshot import SnapshotManifest, TableName, read_snapshot
from tests.contract.test_feedback_store import dislike
from tests.export_world import ERASE, INTERACTIONS, SESSIONS, World, world
from tests.feedback_worlds import NOW, USE_CASE, shown, startup

pytestmark = pytest.mark.processes

__all__ = ["world"]


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


@pytest.mark.parametrize("name", ["manifest.json", "progress.json"])
def test_a_snapshot_of_another_version_is_read_anew(world: World, name: str) -> None:
    world.export()
    told = json.loads((world.out / "manifest.json").read_text())
    noted = {"watermark": told["watermark"], "store": told["store"], "files": told["files"]}
    covered = {"interactions": told["watermark"], "sessions": told["watermark"]}
    before = told if name == "manifest.json" else {**noted, "covered": covered}
    (world.out / "manifest.json").unlink()
    (world.out / name).write_text(json.dumps({**before, "schema_version": told["schema_version"] - 1}))
    again = world.export()
    world.check(again)
    assert (again.rows_read[INTERACTIONS], again.rows_read[SESSIONS]) == (40, 10)


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
