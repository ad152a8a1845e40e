"""Retention over PostgreSQL: what it tells the export, whom it waits for, and its command."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from feedback_svc.expiry import ExpiryRule, Kept, rules_of, walk
from feedback_svc.retention import prune
from feedback_svc.sessions import RecordFilter
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from matchloop.entities import Text
from tests.contract.test_feedback_retention import dislike
from tests.feedback_worlds import NOW, USE_CASE, event, facts, shown, startup, use_cases

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
DAY = timedelta(days=1)
OLD = NOW - 40 * DAY


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresStore]:
    store = PostgresStore(Database(database_url, pool_size=4))
    yield store
    store.close()


def rule(kept: Kept, days: int = 30) -> ExpiryRule:
    (found,) = rules_of({kept: days}, use_cases(), NOW)
    return found


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]
    finally:
        engine.dispose()


def record(store: PostgresStore, count: int, type_: str = "view", mark: str = "") -> None:
    for first in range(0, count, 500):
        events = [event(f"{type_}{mark}{n}", type_=type_) for n in range(first, min(first + 500, count))]
        store.record_interactions(events, facts(events), now=OLD)


def test_the_export_is_told_of_every_row_that_went(store: PostgresStore, database_url: str) -> None:
    store.upsert_entities([startup("i")], now=OLD)
    record(store, 3)
    record(store, 2, "like")
    dislike(store, "d", days_ago=100)
    store.record_sessions([shown("x"), shown("y")], now=OLD)
    sequences = {
        table: {row[0] for row in rows(database_url, f"SELECT sequence FROM {table}")}
        for table in ("interactions", "sessions")
    }
    for kept in (Kept.VIEWS, Kept.INTERACTIONS, Kept.DISLIKES, Kept.SESSIONS):
        walk(store, rule(kept), batch=2, dry_run=True)
    assert rows(database_url, "SELECT 1 FROM amendments") == []
    for kept in (Kept.VIEWS, Kept.INTERACTIONS, Kept.DISLIKES, Kept.SESSIONS):
        walk(store, rule(kept), batch=2, dry_run=False)
    for table in ("interactions", "sessions"):
        assert rows(database_url, f"SELECT 1 FROM {table}") == []
        told = rows(database_url, f"SELECT sequence FROM amendments WHERE table_name = '{table}'")
        assert {row[0] for row in told} == sequences[table]


def test_amendments_are_pruned_once_a_run_that_saw_them_is_old(
    store: PostgresStore, database_url: str
) -> None:
    record(store, 5)
    walk(store, rule(Kept.VIEWS), batch=9, dry_run=False)
    store.note_changes(now=NOW)
    record(store, 3, "like")
    walk(store, rule(Kept.INTERACTIONS), batch=9, dry_run=False)
    assert prune(store, before=NOW, batch=2, dry_run=False, rest=lambda: None) == 0
    later = NOW + DAY
    assert prune(store, before=later, batch=2, dry_run=True, rest=lambda: None) == 5
    assert prune(store, before=later, batch=2, dry_run=False, rest=lambda: None) == 5
    assert prune(store, before=later, batch=2, dry_run=False, rest=lambda: None) == 0
    assert len(rows(database_url, "SELECT 1 FROM amendments")) == 3
    ((to,),) = rows(database_url, "SELECT to_sequence FROM retention_progress WHERE rule = 'amendments'")
    ((least,),) = rows(database_url, "SELECT min(change_sequence) FROM amendments")
    assert isinstance(to, int)
    assert isinstance(least, int)
    assert to <= least
    store.note_changes(now=later)
    assert prune(store, before=later + DAY, batch=2, dry_run=False, rest=lambda: None) == 3


def test_a_run_starts_where_the_last_one_left_nothing(store: PostgresStore, database_url: str) -> None:
    record(store, 20)
    record(store, 20, "click")
    walk(store, rule(Kept.VIEWS), batch=7, dry_run=False)
    ((to,),) = rows(database_url, "SELECT to_sequence FROM retention_progress WHERE rule = 'views'")
    ((highest,),) = rows(database_url, "SELECT max(sequence) FROM interactions")
    assert to == highest
    step = store.expire(rule(Kept.VIEWS), after=None, batch=7, dry_run=False)
    assert (step.expired, step.position, step.reached) == (0, None, None)
    others = ExpiryRule(Kept.VIEWS, NOW, NOW, views=frozenset({(USE_CASE, "click")}))
    assert walk(store, others, batch=7, dry_run=False) == 20


def test_a_row_that_is_held_is_passed_by_and_goes_with_the_next_run(
    store: PostgresStore, database_url: str
) -> None:
    record(store, 9)
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT 1 FROM interactions WHERE interaction_id = 'view4' FOR UPDATE")
        assert walk(store, rule(Kept.VIEWS), batch=2, dry_run=False) == 8
    engine.dispose()
    assert walk(store, rule(Kept.VIEWS), batch=2, dry_run=False) == 1


def test_it_runs_twice_at_a_time_and_while_events_are_recorded(store: PostgresStore) -> None:
    record(store, 2000)
    store.upsert_entities([startup("i")], now=OLD)
    for number in range(20):
        dislike(store, f"d{number}", days_ago=100)
    done: list[int] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            done.append(
                sum(walk(store, rule(kept), batch=50, dry_run=False) for kept in (Kept.VIEWS, Kept.DISLIKES))
            )
        except BaseException as error:  # noqa: BLE001 - seen by the test
            faults.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(30):
        dislike(store, f"new{number}", days_ago=0)
        fresh = [event(f"fresh{number}", type_="view")]
        store.record_interactions(fresh, facts(fresh), now=NOW)
    for thread in threads:
        thread.join(60)
    assert not faults
    assert sum(done) + sum(walk(store, rule(k), batch=99, dry_run=False) for k in Kept) == 2020
    left = store.list_interactions(RecordFilter(USE_CASE), before=None, limit=999)
    assert len(left) == 60


def command(url: str, *arguments: str, module: str = "retention", **settings: str) -> tuple[int, str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith("FEEDBACK_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"feedback_svc.{module}", *arguments],
        cwd=ROOT,
        env=own | {"FEEDBACK_DATABASE_URL": url, "PYTHONPATH": str(ROOT)} | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_the_command_counts_then_deletes_then_has_nothing_to_do(
    store: PostgresStore, database_url: str
) -> None:
    record(store, 12)
    assert "no FEEDBACK_RETAIN_* is set: everything is kept" in command(database_url)[1]
    settings = {"FEEDBACK_RETAIN_VIEWS_DAYS": "30", "FEEDBACK_RETAIN_AMENDMENTS_DAYS": "7"}
    code, out, _ = command(database_url, "--dry-run", **settings)
    assert code == 0
    assert "views: 12 would go" in out
    code, out, _ = command(database_url, "--batch", "5", "--pause", "0", **settings)
    assert code == 0
    assert "views: 12 deleted" in out
    assert "amendments: 0 deleted" in out
    assert "views: 0 deleted" in command(database_url, **settings)[1]


def test_the_command_refuses_what_it_does_not_know(database_url: str) -> None:
    code, _, told = command(database_url, FEEDBACK_RETAIN_VIEW_DAYS="30")
    assert code == 2
    assert "FEEDBACK_RETAIN_VIEW_DAYS" in told
    assert command(database_url, FEEDBACK_RETAIN_VIEWS_DAYS="0")[0] == 2
    assert command(database_url.replace("mlpg", "gone"), FEEDBACK_RETAIN_VIEWS_DAYS="3")[0] == 1


def test_the_embed_command_embeds_once(store: PostgresStore, database_url: str, tmp_path: Path) -> None:
    store.upsert_entities([startup("a", name=Text("robots")), startup("b")], now=NOW)
    code, out, _ = command(database_url, module="embed")
    assert code == 0
    assert "startup: 1 embedded" in out
    assert "startup: 0 embedded" in command(database_url, module="embed")[1]
    code, _, told = command(database_url, "--embedder", str(tmp_path / "none"), module="embed")
    assert code == 2
    assert "is no folder" in told
