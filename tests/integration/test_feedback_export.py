"""A snapshot holds the record as it was, once a watermark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from feedback_svc.export import export
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from matchloop.entities import Embedding, Text
from matchloop.snapshot import TableName, entities_of, read_snapshot
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
    assert export(database_url, tmp_path, now=NOW) == 0
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
    store.record_sessions([shown("x"), client, single], now=NOW)
    events = [
        event("1", item="j", session_id="x", days=-1.5),
        event("2"),
        event("3", item="q", session_id="x"),
    ]
    store.record_interactions(events, facts(events), now=NOW + timedelta(microseconds=1))
    dislike(store, "d", session_id="x")
    watermark = export(database_url, tmp_path, now=NOW)
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
    assert (sessions["y"]["feature_names"], sessions["y"]["feature_values"]) == ([], [])
    assert (sessions["y"]["methods"], sessions["y"]["release"]) == ([None, None], None)
    assert (sessions["z"]["methods"], sessions["z"]["propensities"]) == ([None], [0.25])
    (row,) = snapshot.table(TableName.DISLIKES).to_pylist()
    assert (row["dislike_id"], row["reason"], row["error"]) == ("d", "wrong_category", pytest.approx(0.9))
    assert store.mark_negatives_used(USE_CASE, release="r", to_sequence=watermark, now=NOW) == 1


def test_the_same_watermark_is_not_written_again(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    store.upsert_entities([startup("a")], now=NOW)
    first = export(database_url, tmp_path, now=NOW)
    store.upsert_entities([startup("a")], now=NOW)
    assert export(database_url, tmp_path, now=NOW + timedelta(days=1)) == first
    assert read_snapshot(tmp_path).manifest.created == NOW
    store.upsert_entities([startup("b")], now=NOW)
    assert export(database_url, tmp_path, now=NOW + timedelta(days=1)) > first
    assert read_snapshot(tmp_path).manifest.counts["entities"] == 2
