"""What only PostgreSQL can get wrong: late commits, races, lost connections, migrations."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from feedback_svc.catalog import ChangePosition
from feedback_svc.migrate import continue_sequences, migrate
from feedback_svc.sessions import RecordFilter
from feedback_svc.store.memory import MemoryStore
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.postgres.tables import Base
from feedback_svc.store.protocol import Store
from matchloop.errors import Conflict, Overloaded, Reason, Unavailable
from playground.postgres import EmbeddedPostgres
from tests.feedback_worlds import NOW, USE_CASE, event, facts, key, shown, startup

pytestmark = pytest.mark.processes

START = ChangePosition()


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresStore]:
    store = PostgresStore(Database(database_url, pool_size=8))
    yield store
    store.close()


def entities(store: Store, after: ChangePosition) -> tuple[list[str], ChangePosition]:
    page = store.list_entities(kinds=(), after=after, limit=100, include_inactive=True)
    return [e.key.id for e in page.rows], ChangePosition(page.next_sequence)


def test_a_change_that_commits_late_is_not_skipped(store: PostgresStore, database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.connect() as slow:
        slow.execute(
            text("INSERT INTO entities VALUES ('startup', 'late', '{}', true, now(), now(), change_now())")
        )
        store.upsert_entities([startup("early")], now=NOW)
        seen, position = entities(store, START)
        assert seen == []
        slow.commit()
    seen, position = entities(store, position)
    assert seen == ["late", "early"]
    assert entities(store, position)[0] == []
    engine.dispose()


def test_sequences_go_on_after_a_restore(store: PostgresStore, database_url: str) -> None:
    store.upsert_entities([startup("old")], now=NOW)
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE entities SET change_sequence = change_sequence + 1000000"))
    assert entities(store, START)[0] == []
    assert continue_sequences(database_url) > 0
    store.upsert_entities([startup("new")], now=NOW)
    assert entities(store, START)[0] == ["old", "new"]
    engine.dispose()


def in_threads(count: int, work: Callable[[int], Any]) -> None:
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work, number) for number in range(count)]:
            done.result(60)


def test_replays_by_8_clients_in_any_order_leave_one_state(store: PostgresStore) -> None:
    events = [
        event(
            f"{n:03}",
            subject=f"s{n % 3}",
            item=f"i{n % 7}",
            type_=type_,
            days=-n / 10,
            session_id=f"x{n % 9}",
        )
        for n, type_ in enumerate(["view", "click", "like", "dislike", "apply"] * 40)
    ]
    sessions = [shown(f"x{n}", subject=f"s{n % 3}", items=("i0", "i1", "i2", "i3")) for n in range(9)]

    def replay(number: int) -> None:
        rng = random.Random(number)
        own = rng.sample(events, len(events))
        for first in range(0, len(own), 25):
            batch = own[first : first + 25]
            store.record_interactions(batch, facts(batch), now=NOW)
            store.record_sessions(rng.sample(sessions, 3), now=NOW)
        store.record_sessions(sessions, now=NOW)

    in_threads(8, replay)
    expected = MemoryStore()
    expected.record_interactions(events, facts(events), now=NOW)
    expected.record_sessions(sessions, now=NOW)
    assert summary(store) == summary(expected)


def summary(store: Store) -> dict[str, Any]:
    stats = store.list_item_stats(USE_CASE, after=START, limit=99).rows
    states = [store.lookup_subject_state(USE_CASE, key("investor", f"s{n}"), now=NOW) for n in range(3)]
    kept = store.list_interactions(RecordFilter(USE_CASE), before=None, limit=999)
    return {
        "stats": sorted(
            (s.item_id, s.views, s.interactions, round(s.decayed_weight, 6), s.decay_time) for s in stats
        ),
        "states": [(s.interaction_count, s.recent_events, s.hidden_item_ids) for s in states],
        "ties": sorted((k.interaction.interaction_id, k.tie) for k in kept if k.tie),
        "kept": len(kept),
    }


def test_a_session_and_its_interaction_written_at_once_are_tied(store: PostgresStore) -> None:
    for n in range(40):
        barrier = threading.Barrier(2)
        late = event(f"{n}", session_id=f"x{n}")

        def work(which: int, n: int = n, barrier: threading.Barrier = barrier, late: Any = late) -> None:
            barrier.wait(10)
            if which:
                store.record_sessions([shown(f"x{n}")], now=NOW)
            else:
                store.record_interactions([late], facts([late]), now=NOW)

        in_threads(2, work)
    kept = store.list_interactions(RecordFilter(USE_CASE), before=None, limit=99)
    assert [k.interaction.interaction_id for k in kept if k.tie is None] == []


def test_lost_connections_are_replaced(store: PostgresStore, database_url: str) -> None:
    store.upsert_entities([startup("a")], now=NOW)
    cut(database_url)
    store.upsert_entities([startup("b")], now=NOW)
    assert entities(store, START)[0] == ["a", "b"]


def cut(url: str) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'feedback_svc'"
            )
        )
    engine.dispose()


def test_a_statement_past_the_toolkit_fails_and_recovers_as_any_other(database_url: str) -> None:
    database = Database(database_url, pool_size=1, statement_timeout=0.05)
    assert database.one("SELECT %s, %s::int[]", ("a", "{1,2}")) == ("a", [1, 2])
    with pytest.raises(Overloaded, match="too long"):
        database.one("SELECT pg_sleep(9)", ())
    with pytest.raises(Conflict):
        database.one("INSERT INTO change_clock VALUES (true, 0) RETURNING 1", ())
    with pytest.raises(Unavailable, match="another schema"):
        database.one("SELECT no_such_function()", ())
    cut(database_url)
    assert database.one("SELECT 1", ()) == (1,)
    database.close()


def test_a_store_that_is_away_is_unavailable_and_comes_back(server_folder: Path) -> None:
    with EmbeddedPostgres(server_folder / "data", {"fsync": "off"}) as server:
        url = server.create_database("away")
        migrate(url)
        store = PostgresStore(Database(url, pool_size=2, connect_timeout=2))
        store.upsert_entities([startup("a")], now=NOW)
        server.stop()
        for _ in range(2):
            with pytest.raises(Unavailable) as error:
                store.upsert_entities([startup("b")], now=NOW)
            assert error.value.reason is Reason.STORE_UNAVAILABLE
        server.start()
        assert store.upsert_entities([startup("b")], now=NOW).created == 1
        store.close()


def test_migrations_make_the_tables_and_go_up_and_down(database_url: str) -> None:
    migrate(database_url)
    store = PostgresStore(Database(database_url, pool_size=1))
    store.upsert_entities([startup("a")], now=NOW)
    store.close()
    engine = create_engine(database_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    migrate(database_url, revision="base")
    with engine.connect() as connection:
        left = connection.execute(
            text("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        ).scalars()
        assert set(left) <= {"alembic_version", "alembic_version_pkc"}
    migrate(database_url)
    engine.dispose()


def test_a_state_goes_by_its_indexes(store: PostgresStore, database_url: str) -> None:
    batch = [event(f"{n}", item=f"i{n}", type_="like", days=-n / 100) for n in range(500)]
    store.record_interactions(batch, facts(batch), now=NOW)
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("VACUUM ANALYZE interactions"))
        connection.execute(text("SELECT pg_stat_reset()"))
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
    assert len(store.lookup_subject_state(USE_CASE, key("investor", "s"), now=NOW).hidden_item_ids) == 500
    store.close()
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT seq_scan, idx_scan FROM pg_stat_user_tables WHERE relname = 'interactions'")
        ).one()
    engine.dispose()
    assert found.seq_scan == 0
