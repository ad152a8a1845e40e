"""Migrations go up and down on a database that holds something, and lose nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text

from feedback_svc.catalog import ChangePosition
from feedback_svc.migrate import migrate, revisions
from feedback_svc.sessions import RecordFilter
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from matchloop.entities import Categorical, Embedding, Multi, Numeric, Text
from playground.postgres import EmbeddedPostgres
from tests.contract.test_feedback_store import dislike
from tests.feedback_worlds import NOW, TO_THE_FIRST, USE_CASE, event, facts, key, shown, startup

pytestmark = pytest.mark.processes

SUBJECTS, ITEMS, INTERACTIONS, SESSIONS, DISLIKES = 40, 60, 3000, 300, 50
EVERYTHING = RecordFilter(USE_CASE)

# As the first release's service left them: every table, tied interactions and others, used dislikes and
# unused ones. `sequence_offset` lifts what is recorded now over all of these.
FILL = """
UPDATE change_clock SET sequence_offset = 100000;
INSERT INTO entities
SELECT 'startup', 'i' || n, jsonb_build_object(
        'name', jsonb_build_array('t', 'Robots "' || n || '" \\ and ünïcode'),
        'category', jsonb_build_array('c', 'c' || n % 5), 'tags', jsonb_build_array('m', '["a", "b"]'::jsonb),
        'founded_year', jsonb_build_array('n', 2000 + n % 20))
        || CASE WHEN n % 4 = 0 THEN jsonb_build_object('embedding', '["e", "AACAPwAAAEAAAEBA"]'::jsonb)
            ELSE '{}' END,
    n % 7 > 0, time, time, n
FROM generate_series(1, 60) AS n, (VALUES ('2026-04-01 10:00+00'::timestamptz)) AS at (time)
UNION ALL
SELECT 'investor', 's' || n, jsonb_build_object('country', jsonb_build_array('c', 'at')), true, time, time, n
FROM generate_series(1, 40) AS n, (VALUES ('2026-04-01 10:00+00'::timestamptz)) AS at (time);
INSERT INTO sessions
SELECT 'x' || n, 'investor_startup', 's' || (n % 40 + 1), 'r1', '', 'warm', true, 'ranking',
    '2026-04-02'::timestamptz + n * interval '1 min', '2026-04-02'::timestamptz + n * interval '1 min',
    (200 + n / 100)::bigint << 9, '{model_score,recency}', ARRAY['i1', 'i' || (n % 60 + 1), 'i61'],
    '{0.9,0.5,0.25}', '{als,"",content}', CASE WHEN n % 2 = 0 THEN '{0.5,0.25,0.25}'::float8[] END,
    '{1,0.5,0.25,0,0,1}'
FROM generate_series(1, 300) AS n;
INSERT INTO interactions
SELECT ((1000 + n / 500)::bigint << 9) | (n % 500), 'e' || n, 'investor_startup', 's' || (n % 40 + 1),
    'i' || (n * 17 % 60 + 1), (ARRAY['view', 'click', 'like', 'dislike'])[n % 4 + 1],
    '2026-04-03'::timestamptz + n * interval '1 s', '2026-04-04'::timestamptz + n * interval '1 s',
    n % 4 >= 2, CASE WHEN n % 3 < 2 THEN 'x' || n % 400 END,
    CASE WHEN n % 3 = 0 THEN 2 END, CASE WHEN n % 3 = 0 THEN 0.5 END, NULL,
    CASE WHEN n % 3 = 0 THEN 'r1' END
FROM generate_series(1, 3000) AS n;
INSERT INTO item_stats
SELECT use_case, item_id, count(*) FILTER (WHERE event_type = 'view'),
    count(*) FILTER (WHERE event_type IN ('click', 'like')), 0.5 * count(*), max(event_time), 2592000, 1005
FROM interactions GROUP BY 1, 2;
INSERT INTO subject_counts SELECT use_case, subject_id, count(*) FROM interactions GROUP BY 1, 2;
INSERT INTO dislikes
SELECT interaction_id, sequence, use_case, subject_id, item_id, 'wrong_category', 'no "thanks"', session_id,
    0.5, 0.5, 0.8, event_time, receive_time, 0.15, '{category}', '{c1}', '{1}', '{0.85}',
    CASE WHEN sequence % 2 = 0 THEN 'r1' END
FROM interactions WHERE event_type = 'dislike' ORDER BY sequence LIMIT 50;
INSERT INTO weight_factors
SELECT use_case, subject_id, 'category', 'c1', 0.85, max(event_time) FROM dislikes GROUP BY 1, 2;
INSERT INTO retrainings VALUES ('investor_startup', 'r1', 600000, 25, '2026-04-05 10:00+00');
"""


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def columns_of(url: str) -> dict[str, list[str]]:
    with connected(url) as connection:
        rows = connection.execute(
            text(
                "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
                " AND table_name <> 'alembic_version' ORDER BY 1, 2"
            )
        ).all()
    found: dict[str, list[str]] = {}
    for table, column in rows:
        found.setdefault(table, []).append(column)
    return found


def rows_of(url: str, columns: dict[str, list[str]]) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of these tables, these columns of it, sorted."""
    with connected(url) as connection:
        return {
            table: sorted(
                tuple(map(repr, row))
                for row in connection.exec_driver_sql(f"SELECT {', '.join(names)} FROM {table}")
            )
            for table, names in columns.items()
        }


def functions_of(url: str) -> list[tuple[str, ...]]:
    with connected(url) as connection:
        rows = connection.execute(
            text(
                "SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace"
                " WHERE nspname = 'public' ORDER BY 1"
            )
        )
        return [tuple(row) for row in rows]


def indexes_of(url: str) -> list[tuple[str, ...]]:
    with connected(url) as connection:
        rows = connection.execute(
            text("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")
        )
        return [tuple(row) for row in rows]


@dataclass(frozen=True)
class Schema:
    """What a database is made of, and what is in it."""

    columns: dict[str, list[str]]
    functions: list[tuple[str, ...]]
    indexes: list[tuple[str, ...]]
    rows: dict[str, list[tuple[Any, ...]]]

    @classmethod
    def of(cls, url: str) -> Schema:
        columns = columns_of(url)
        return cls(columns, functions_of(url), indexes_of(url), rows_of(url, columns))


@contextmanager
def opened(url: str) -> Iterator[PostgresStore]:
    store = PostgresStore(Database(url, pool_size=1))
    yield store
    store.close()


@pytest.fixture(scope="module")
def first_release(postgres: EmbeddedPostgres) -> str:
    """The name of a database filled under the first schema."""
    name = "filled_first"
    url = postgres.create_database(name)
    migrate(url, revision="0001")
    with connected(url) as connection:
        connection.exec_driver_sql(FILL.replace("%", "%%"))
    return name


@pytest.fixture
def filled(postgres: EmbeddedPostgres, first_release: str, request: pytest.FixtureRequest) -> str:
    """A copy of it."""
    return postgres.create_database(f"filled_{abs(hash(request.node.name))}", template=first_release)


def every_page(store: PostgresStore) -> list[Any]:
    found: list[Any] = []
    position = ChangePosition()
    while True:
        page = store.list_entities(kinds=(), after=position, limit=37, include_inactive=True)
        found += page.rows
        if page.position is None:
            return found
        position = page.position


def test_up_everything_is_read_as_it_was(filled: str) -> None:
    migrate(filled)
    with opened(filled) as store:
        entities = {e.key: e for e in every_page(store)}
        assert len(entities) == ITEMS + SUBJECTS
        found = store.get_entity(key("startup", "i8"))
        assert found == entities[found.key]
        assert found.features == {
            "name": Text('Robots "8" \\ and ünïcode'),
            "category": Categorical("c3"),
            "tags": Multi(("a", "b")),
            "founded_year": Numeric(2008.0),
            "embedding": Embedding((1.0, 2.0, 3.0)),
        }
        assert not store.get_entity(key("startup", "i7")).active
        interactions = store.list_interactions(EVERYTHING, before=None, limit=9999)
        assert len(interactions) == INTERACTIONS
        assert sum(stored.tie is not None for stored in interactions) == INTERACTIONS // 3
        sessions = store.list_sessions(EVERYTHING, after=None, limit=9999)
        assert len(sessions) == SESSIONS
        assert store.get_session("x2").propensities == (0.5, 0.25, 0.25)
        dislikes = store.list_dislikes(EVERYTHING, unused_only=False, before=None, limit=9999)
        assert len(dislikes) == DISLIKES
        assert sum(not d.used_by_release for d in dislikes) == store.negative_numbers(USE_CASE).unused
        assert store.negative_numbers(USE_CASE).last_release == "r1"
        stats = store.list_item_stats(USE_CASE, after=ChangePosition(), limit=999).rows
        assert sum(s.views for s in stats) == INTERACTIONS // 4
        counts = 0
        for number in range(1, SUBJECTS + 1):
            state = store.lookup_subject_state(USE_CASE, key("investor", f"s{number}"), now=NOW)
            assert state.entity is not None
            own = [i for i in interactions if i.interaction.subject_id == f"s{number}"]
            assert state.interaction_count == len(own) == len(state.recent_events.item_ids)
            hides = {i.interaction.item_id for i in own if i.interaction.event_type in ("like", "dislike")}
            assert set(state.hidden_item_ids) == hides
            assert len(state.factors) == len({d.dislike.subject_id for d in dislikes} & {f"s{number}"})
            counts += state.interaction_count
        assert counts == INTERACTIONS


def use(store: PostgresStore, mark: str, now: datetime) -> None:
    """Write something of everything, and see it."""
    store.upsert_entities([startup(f"new{mark}")], now=now)
    waiting = [
        event(f"w{mark}", item="j", session_id=f"new{mark}"),
        event(f"v{mark}", type_="like", item="q"),
    ]
    replayed = [event("e1", subject="s2", item="i18")]
    assert store.record_interactions([*waiting, *replayed], facts([*waiting, *replayed]), now=now) == ("e1",)
    assert store.record_sessions([shown(f"new{mark}"), shown("x1")], now=now).tied == 1
    dislike(store, f"d{mark}", item_id=f"new{mark}")
    assert dislike(store, f"d{mark}", item_id=f"new{mark}").duplicate
    state = store.lookup_subject_state(USE_CASE, key("investor", "s"), now=now)
    assert {"q", f"new{mark}"} <= set(state.hidden_item_ids)
    latest = store.list_interactions(EVERYTHING, before=None, limit=9)
    assert {f"d{mark}", f"w{mark}", f"v{mark}"} <= {i.interaction.interaction_id for i in latest}
    store.deactivate_entities([key("startup", f"new{mark}")], now=now)


def test_the_store_works_on_what_was_there_before(filled: str) -> None:
    migrate(filled)
    with opened(filled) as store:
        use(store, "up", NOW)
        # "x300" to "x399" had not arrived under the first schema.
        tied = store.record_sessions([shown("x301", ("i1",), subject="s22")], now=NOW).tied
        waiting = [
            i
            for i in store.list_interactions(EVERYTHING, before=None, limit=9999)
            if i.interaction.session_id == "x301" and i.interaction.subject_id == "s22" and i.tie
        ]
        assert len(waiting) >= tied > 0
        scored = shown("raw", retrieval_scores=(3.5, None))
        store.record_sessions([scored], now=NOW)
        with connected(filled) as connection:  # a service that is not replaced yet
            connection.exec_driver_sql(SESSION_AS_THE_FIRST_DID, {"now": NOW})
        assert (store.get_session("raw"), store.get_session("down").retrieval_scores) == (scored, ())


def test_each_step_up_and_down_loses_and_changes_nothing(filled: str) -> None:
    below: list[Schema] = []
    for revision in revisions()[1:]:
        below.append(Schema.of(filled))
        migrate(filled, revision=revision)
        assert rows_of(filled, below[-1].columns) == below[-1].rows
        functions = [definition.partition("(")[0] for (definition,) in functions_of(filled)]
        assert len(functions) == len(set(functions)), "calls of the running release are ambiguous"
    for schema in reversed(below):
        migrate(filled, revision="-1")
        assert Schema.of(filled) == schema
    assert len(below[0].rows["interactions"]) == INTERACTIONS
    migrate(filled)
    assert rows_of(filled, below[0].columns) == below[0].rows


def test_what_the_new_schema_wrote_is_there_after_down_and_up(filled: str) -> None:
    columns = columns_of(filled)
    migrate(filled)
    with opened(filled) as store:
        use(store, "up", NOW)
    written = rows_of(filled, columns)
    migrate(filled, revision=TO_THE_FIRST)
    assert rows_of(filled, columns) == written
    with connected(filled) as connection:
        stored = connection.exec_driver_sql(RECORD_AS_THE_FIRST_DID, {"id": "down", "now": NOW}).scalar_one()
        assert stored == []
        stored = connection.exec_driver_sql(RECORD_AS_THE_FIRST_DID, {"id": "down", "now": NOW}).scalar_one()
        assert stored == ["down"]
        connection.exec_driver_sql(SESSION_AS_THE_FIRST_DID, {"now": NOW + timedelta(days=1)})
        count = connection.exec_driver_sql(
            "SELECT interaction_count FROM subject_state('investor_startup', 'investor', 's', 9, 9)"
        ).scalar_one()
        assert count == 4
    migrate(filled)
    with opened(filled) as store:
        found = store.list_interactions(EVERYTHING, before=None, limit=1)[0]
        assert found.interaction.interaction_id == "down"
        assert found.tie is not None
        assert found.tie.rank == 1
        use(store, "again", NOW + timedelta(days=2))


RECORD_AS_THE_FIRST_DID = """
SELECT record_interactions(ARRAY[%(id)s], '{investor_startup}', '{s}', '{i}', '{like}', ARRAY[%(now)s],
    '{down}', '{t}', '{0}', '{1}', '{2.0}', '{2592000}', %(now)s)
"""
SESSION_AS_THE_FIRST_DID = """
SELECT * FROM record_sessions('{down}', '{investor_startup}', '{s}', '{r2}', '{""}', '{cold}', '{f}',
    '{ranking}', ARRAY[%(now)s], '{"{}"}', '{"{i}"}', '{"{0.5}"}', '{"{als}"}', '{NULL}', '{"{}"}', %(now)s)
"""
