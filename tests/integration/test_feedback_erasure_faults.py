"""Erasure in PostgreSQL when it is cut off, and beside writers; the command that looks through snapshots."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection, create_engine, text

from feedback_svc.erasure import roles_of
from feedback_svc.export import export
from feedback_svc.sessions import RecordFilter
from feedback_svc.store.postgres import PostgresStore, erasure
from feedback_svc.store.postgres.database import Database
from matchloop.errors import Reason, Unavailable
from tests.contract.test_feedback_store import dislike
from tests.feedback_worlds import NOW, USE_CASE, event, facts, key, shown, startup, use_cases

pytestmark = pytest.mark.processes

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
ROLES = roles_of(use_cases())
ITEM = key("startup", "i")
LATER = NOW + timedelta(hours=1)
ALL = RecordFilter(USE_CASE)


class Cut(Database):
    """Breaks off before its n-th piece of work."""

    left = 10_000

    def _attempt(self, work: Callable[[Connection], T]) -> T:
        self.left -= 1
        if self.left < 0:
            raise Unavailable("cut", reason=Reason.STORE_UNAVAILABLE)
        return super()._attempt(work)


@pytest.fixture
def database(database_url: str) -> Iterator[Cut]:
    database = Cut(database_url, pool_size=3)
    yield database
    database.close()


def fill(store: PostgresStore) -> None:
    store.upsert_entities([startup("i"), startup("j")], now=NOW)
    store.record_sessions([shown(f"x{n}", subject=f"s{n}") for n in range(9)], now=NOW)
    batch = [event(f"e{n}", subject=f"s{n % 9}", item="i" if n % 3 else "j") for n in range(60)]
    store.record_interactions(batch, facts(batch), now=NOW)
    for n in range(6):
        dislike(store, f"d{n}", subject_id=f"s{n}", item_id="i" if n % 2 else "j")


def left(url: str) -> dict[str, list[str]]:
    """Return every table's rows as text; times and sequences of changes apart."""
    tables = ("entities", "interactions", "sessions", "dislikes", "item_stats", "subject_counts")
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = {
            table: sorted(
                connection.execute(
                    text(f"SELECT (to_jsonb(t) - 'change_sequence' - 'sequence')::text FROM {table} t")
                ).scalars()
            )
            for table in (*tables, "weight_factors")
        }
    engine.dispose()
    return rows


def test_an_erasure_cut_off_anywhere_is_finished_by_the_next(
    postgres: object, database: Cut, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INTERACTIONS_AT_A_TIME", "SESSIONS_AT_A_TIME", "DISLIKES_AT_A_TIME"):
        monkeypatch.setattr(erasure, name, 2)
    store = PostgresStore(database)
    fill(store)
    total, cuts = [0, 0, 0], 0
    for allowed in range(3, 60, 4):
        database.left = allowed
        try:
            erased = store.erase_entity(ITEM, roles=ROLES, now=LATER)
        except Unavailable:
            cuts += 1
            continue
        total = [erased.interactions, erased.dislikes, erased.sessions]
        break
    assert cuts > 3
    assert sum(total) > 0
    database.left = 10_000
    assert not store.erase_entity(ITEM, roles=ROLES, now=LATER).anything
    found = left(database_url)
    assert not any('"i"' in row for rows in found.values() for row in rows)
    assert len(found["interactions"]) == 20 + 3
    assert len(found["sessions"]) == 9


def test_a_write_that_began_before_the_erasure_does_not_outlive_it(database: Cut, database_url: str) -> None:
    """A writer that asked for tombstones and has not committed is waited for, and its rows go."""
    store = PostgresStore(database)
    store.keep_roles(ROLES)
    batch = [event("late"), event("later", days=1)]
    engine = create_engine(database_url)
    done = threading.Event()
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_current_xact_id()"))
        connection.execute(
            text(
                "SELECT record_interactions(ARRAY['late'], ARRAY[:use_case], ARRAY['s'], ARRAY['i'],"
                " ARRAY['click'], ARRAY[:time]::timestamptz[], ARRAY[''], ARRAY[false], ARRAY[0], ARRAY[1],"
                " ARRAY[1.0]::float8[], ARRAY[1.0]::float8[], :time)"
            ),
            {"use_case": USE_CASE, "time": NOW},
        )

        def erase() -> None:
            assert store.erase_entity(ITEM, roles=ROLES, now=LATER).interactions == 1
            done.set()

        thread = threading.Thread(target=erase)
        thread.start()
        assert not done.wait(0.3)
        connection.commit()
        thread.join(10)
    engine.dispose()
    assert done.is_set()
    assert store.record_interactions(batch, facts(batch), now=LATER) == ("late",)
    kept = store.list_interactions(ALL, before=None, limit=9)
    assert [s.interaction.interaction_id for s in kept] == ["later"]


def look(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "feedback_svc.tombstones", "--snapshot", str(folder)],
        cwd=ROOT,
        env=os.environ | {"FEEDBACK_DATABASE_URL": url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_snapshot_made_earlier_is_told_and_a_new_one_is_clean(
    database: Cut, database_url: str, tmp_path: Path
) -> None:
    store = PostgresStore(database)
    fill(store)
    export(database_url, tmp_path / "before", now=NOW)
    assert look(database_url, tmp_path / "before").returncode == 0
    store.erase_entity(ITEM, roles=ROLES, now=LATER)
    store.erase_entity(key("investor", "s0"), roles=ROLES, now=LATER)
    store.erase_entity(key("startup", "never"), roles=ROLES, now=LATER)
    told = look(database_url, tmp_path / "before")
    assert told.returncode == 1
    assert f"startup {ITEM.digest}: 43 rows of interactions" in told.stdout
    assert "2 of 3 erased entities" in told.stdout
    store.upsert_entities([startup("i")], now=LATER + timedelta(hours=1))
    export(database_url, tmp_path / "after", now=LATER + timedelta(hours=2))
    clean = look(database_url, tmp_path / "after")
    assert (clean.returncode, clean.stderr) == (0, "")
    assert "0 of 3 erased entities" in clean.stdout
    for url, folder in (
        (database_url, tmp_path),
        ("postgresql+psycopg2://nobody@127.0.0.1:1/none", tmp_path / "after"),
    ):
        fault = look(url, folder)
        assert fault.returncode == 2
        assert "Traceback" not in fault.stderr
        assert len(fault.stderr.strip().splitlines()) == 1
