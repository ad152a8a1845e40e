"""A snapshot holds the record as it was at one moment, once a watermark; what fails leaves the one before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from feedback_svc.export import export
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from matchloop.entities import Embedding, FeatureValue, Multi, Numeric, Text
from matchloop.errors import Conflict
from matchloop.snapshot import TableName, entities_of, read_snapshot
from playground.postgres import EmbeddedPostgres
from tests.contract.test_feedback_store import dislike
from tests.feedback_worlds import NOW, USE_CASE, event, facts, shown, startup

pytestmark = pytest.mark.processes


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresStore]:
    store = PostgresStore(Database(database_url, pool_size=2))
    yield store
    store.close()


def test_an_empty_store_gives_an_empty_snapshot(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    assert export(database_url, tmp_path, now=NOW).watermark == 0
    assert set(read_snapshot(tmp_path).manifest.counts.values()) == {0}


def test_a_snapshot_holds_everything_as_it_was(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    entity = startup("a", name=Text('a "b"\nc, d'), embedding=Embedding((0.5, -1.0)))
    store.upsert_entities([entity], now=NOW)
    client = shown("y", feature_names=(), feature_values=(), release="", methods=(None, None), tier=None)
    single = replace(
        client, session_id="z", item_ids=("q",), scores=(0.1,), methods=(None,), propensities=(0.25,)
    )
    scored = shown("x", retrieval_scores=(12.5, None))
    store.record_sessions([scored, client, single], now=NOW)
    events = [
        event("1", item="j", session_id="x", days=-1.5),
        event("2"),
        event("3", item="q", session_id="x"),
    ]
    store.record_interactions(events, facts(events), now=NOW + timedelta(microseconds=1))
    dislike(store, "d", session_id="x")
    watermark = export(database_url, tmp_path, now=NOW).watermark
    snapshot = read_snapshot(tmp_path)
    (found,) = entities_of(snapshot, "startup")
    assert found.features == dict(sorted(entity.features.items()))
    assert found.create_time == NOW
    rows = snapshot.table(TableName.INTERACTIONS).to_pylist()
    assert [r["interaction_id"] for r in rows] == ["1", "2", "3", "d"]
    assert rows[0]["event_time"] == NOW - timedelta(days=1.5)
    assert rows[0]["receive_time"] == NOW + timedelta(microseconds=1)
    assert (rows[0]["source"], rows[0]["rank"], rows[0]["method"]) == ("recommendation", 2, "als")
    assert (rows[1]["source"], rows[1]["rank"], rows[1]["session_id"]) == ("organic", None, None)
    assert (rows[2]["source"], rows[2]["rank"], rows[2]["release"]) == ("recommendation", None, "r1")
    assert rows[-1]["sequence"] <= watermark
    sessions = {r["session_id"]: r for r in snapshot.table(TableName.SESSIONS).to_pylist()}
    assert sessions["x"]["item_ids"] == ["i", "j"]
    assert sessions["x"]["scores"] == [0.9, pytest.approx(0.8)]
    assert sessions["x"]["feature_values"] == [0.0, 0.25, 0.5, 0.75]
    assert sessions["x"]["propensities"] is None
    assert (sessions["x"]["retrieval_scores"], sessions["y"]["retrieval_scores"]) == ([12.5, None], None)
    assert (sessions["y"]["feature_names"], sessions["y"]["feature_values"]) == ([], [])
    assert (sessions["y"]["methods"], sessions["y"]["release"]) == ([None, None], None)
    assert (sessions["z"]["methods"], sessions["z"]["propensities"]) == ([None], [0.25])
    (row,) = snapshot.table(TableName.DISLIKES).to_pylist()
    assert (row["dislike_id"], row["reason"], row["error"]) == ("d", "wrong_category", pytest.approx(0.9))
    assert store.mark_negatives_used(USE_CASE, release="r", to_sequence=watermark, now=NOW) == 1


def test_every_type_of_feature_travels(store: PostgresStore, database_url: str, tmp_path: Path) -> None:
    features: dict[str, FeatureValue] = {
        "vector": Embedding(tuple(float(number) / 8 for number in range(384))),
        "short": Embedding((1.0,)),
        "number": Numeric(-2.5e300),
        "multi": Multi(()),
        "text": Text("ünï \\ \n"),
        "empty": Text(""),
    }
    entities = [replace(startup(f"{number:03d}"), features=features) for number in range(50)] + [startup("x")]
    store.upsert_entities(entities, now=NOW)
    store.deactivate_entities([entities[-1].key], now=NOW)
    export(database_url, tmp_path, now=NOW)
    found = entities_of(read_snapshot(tmp_path), "startup")
    assert [entity.features for entity in found] == [dict(sorted(e.features.items())) for e in entities]
    assert [entity.active for entity in found] == [True] * 50 + [False]


def test_the_same_watermark_is_not_written_again(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    store.upsert_entities([startup("a")], now=NOW)
    first = export(database_url, tmp_path, now=NOW)
    store.upsert_entities([startup("a")], now=NOW)
    again = export(database_url, tmp_path, now=NOW + timedelta(days=1))
    assert (again.written, again.watermark) == (False, first.watermark)
    assert read_snapshot(tmp_path).manifest.created == NOW
    store.upsert_entities([startup("b")], now=NOW)
    third = export(database_url, tmp_path, now=NOW + timedelta(days=1))
    assert third.written
    assert third.watermark > first.watermark
    assert read_snapshot(tmp_path).manifest.counts[TableName.ENTITIES] == 2


def test_the_ledger_and_tombstones_are_in_it(store: PostgresStore, database_url: str, tmp_path: Path) -> None:
    with store._database.engine.connect() as connection:
        connection.exec_driver_sql(
            "INSERT INTO tombstones SELECT 'startup', 'ff', timestamptz '2026-05-01 12:00Z', change_now()"
        )
        connection.exec_driver_sql(
            "INSERT INTO matches (use_case, subject_id, item_id, subject_first, subject_last, change_time,"
            " sequence) SELECT 'investor_startup', 's', 'i', t, t, t, change_now() << 9"
            " FROM (VALUES (timestamptz '2026-05-01 12:00Z')) AS v (t)"
        )
    watermark = export(database_url, tmp_path, now=NOW).watermark
    snapshot = read_snapshot(tmp_path)
    (tombstone,) = snapshot.table(TableName.TOMBSTONES).to_pylist()
    (match,) = snapshot.table(TableName.MATCHES).to_pylist()
    assert (tombstone["kind"], tombstone["id_hash"], tombstone["erase_time"]) == ("startup", "ff", NOW)
    assert (match["state"], match["subject_time"], match["item_time"]) == ("one_sided", NOW, None)
    assert tombstone["sequence"] < match["sequence"] == watermark


def command(url: str, *arguments: str, file_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; `file_bytes` is all that a file may grow to, as on a disk that is full."""
    # The shell sets the limit: set between fork and exec, gRPC's threads in this process can abort the child.
    limit = "unlimited" if file_bytes is None else str(file_bytes // 1024)
    return subprocess.run(
        [
            *("bash", "-c", f'ulimit -f {limit}; exec "$@"', "export"),
            *(sys.executable, "-m", "feedback_svc.export", *arguments),
        ],
        env={**os.environ, "FEEDBACK_DATABASE_URL": url, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_tells_what_it_did(store: PostgresStore, database_url: str, tmp_path: Path) -> None:
    events = [event(str(number)) for number in range(20)]
    store.record_interactions(events, facts(events), now=NOW)
    first = command(database_url, "--out", str(tmp_path / "a"))
    assert first.returncode == 0, first.stderr
    assert "20 rows read" in first.stdout
    again = command(database_url, "--out", str(tmp_path / "a"))
    assert (again.returncode, "already" in again.stdout) == (0, True)
    other = command(database_url, "--out", str(tmp_path / "b"), "--base", str(tmp_path / "a"))
    assert (other.returncode, "0 rows read" in other.stdout) == (0, True)
    missing = command(database_url, "--out", str(tmp_path / "b"), "--base", str(tmp_path / "c"))
    assert (missing.returncode, "no finished snapshot" in missing.stderr) == (1, True)


def test_a_full_disk_leaves_the_snapshot_before_it(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    store.upsert_entities([startup("a")], now=NOW)
    before = export(database_url, tmp_path, now=NOW).manifest
    numbers = np.random.default_rng(0)
    vectors = (Embedding(tuple(numbers.random(384).tolist())) for _ in range(200))
    store.upsert_entities([startup(str(n), embedding=v) for n, v in enumerate(vectors)], now=NOW)
    ended = command(database_url, "--out", str(tmp_path), file_bytes=100_000)
    assert ended.returncode == 1
    assert "cannot be written" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert read_snapshot(tmp_path).manifest == before
    assert not list(tmp_path.glob("*.parquet.unfinished"))
    assert export(database_url, tmp_path, now=NOW).manifest.counts[TableName.ENTITIES] == 201


def test_a_folder_that_cannot_be_one_is_told(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = command(database_url, "--out", str(tmp_path / "file" / "snapshot"))
    assert (ended.returncode, "cannot be written" in ended.stderr) == (1, True)


def test_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    ended = command("postgresql+psycopg2://nobody@/none?host=%2Fnowhere", "--out", str(tmp_path))
    assert (ended.returncode, "the store cannot be read" in ended.stderr) == (1, True)
    assert "Traceback" not in ended.stderr


def test_a_database_that_was_not_migrated_is_told(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    ended = command(postgres.create_database("bare_for_export"), "--out", str(tmp_path))
    assert (ended.returncode, "feedback_svc.migrate" in ended.stderr) == (1, True)


def test_two_exports_do_not_mix(store: PostgresStore, database_url: str, tmp_path: Path) -> None:
    store.upsert_entities([startup("a")], now=NOW)

    def another(table: TableName, rows: int) -> None:
        with pytest.raises(Conflict):
            export(database_url, tmp_path, now=NOW)

    export(database_url, tmp_path, now=NOW, advance=another)
    assert read_snapshot(tmp_path).manifest.counts[TableName.ENTITIES] == 1
