"""The connection to PostgreSQL is cut in the middle: all or nothing, told as UNAVAILABLE, back by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google.protobuf.message import Message
from sqlalchemy import Connection, create_engine, text

from feedback_svc.store.postgres.database import ATTEMPTS
from playground.postgres import EmbeddedPostgres
from tests.cutting_proxy import CuttingProxy
from tests.feedback_rpc_world import (
    World,
    interaction,
    postgres_world,
    record,
    reject,
    rejection,
    rows,
    session,
    show,
    startup,
    unavailable,
    upsert,
)
from tests.feedback_worlds import fresh_database

pytestmark = pytest.mark.processes

BATCH = 300
SECONDS = 20.0

EVENTS = record(*[interaction(f"e{n}", item_id=f"i{n % 5}", session_id="x0") for n in range(BATCH)])
LISTS = show(*[session(f"x{n}") for n in range(50)])
ENTITIES = upsert(*[startup(f"i{n}") for n in range(BATCH)])
DISLIKE = reject(rejection("d"))

WRITES: dict[str, tuple[str, Message, bytes, Callable[[Any], int], Callable[[Any], int], int]] = {
    "interactions": (
        "RecordInteractions",
        EVENTS,
        b"record_interactions(",
        lambda reply: reply.stored,
        lambda reply: len(reply.duplicate_interaction_ids),
        BATCH,
    ),
    "sessions": (
        "RecordSessions",
        LISTS,
        b"record_sessions(",
        lambda reply: reply.stored,
        lambda reply: len(reply.duplicate_session_ids),
        50,
    ),
    "entities": (
        "UpsertEntities",
        ENTITIES,
        b"INSERT INTO entities",
        lambda reply: reply.created,
        lambda reply: reply.unchanged,
        BATCH,
    ),
    "dislike": (
        "RecordDislike",
        DISLIKE,
        b"COMMIT\x00",
        lambda reply: int(not reply.receipt.duplicate),
        lambda reply: int(reply.receipt.duplicate),
        1,
    ),
}
"""RPC, request, what PostgreSQL is sent last, what the reply counts as new and as known, how much in all."""


@pytest.fixture(scope="module")
def one_database(postgres: EmbeddedPostgres) -> str:
    return fresh_database(postgres)


@pytest.fixture
def database_url(one_database: str) -> str:
    """A database for all tests here, emptied for each."""
    engine = create_engine(one_database)
    listed = text(
        "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables WHERE schemaname = 'public'"
        " AND tablename NOT IN ('alembic_version', 'change_clock')"
    )
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {connection.execute(listed).scalar_one()}"))
    engine.dispose()
    return one_database


@pytest.fixture
def proxied(postgres: EmbeddedPostgres, database_url: str) -> Iterator[tuple[World, CuttingProxy]]:
    parts = urlsplit(database_url)
    asked = parse_qs(parts.query)
    target = Path(asked["host"][0]) / f".s.PGSQL.{asked['port'][0]}"
    with CuttingProxy(target) as proxy:
        url = f"postgresql+psycopg2://postgres@127.0.0.1:{proxy.port}{parts.path}?sslmode=disable"
        with postgres_world(postgres, url=url) as world:
            yield world, proxy


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("before", [True, False], ids=["before the commit", "after the commit"])
def test_a_cut_in_the_conversation(
    proxied: tuple[World, CuttingProxy], database_url: str, name: str, before: bool
) -> None:
    world, proxy = proxied
    method, request, word, new, known, whole = WRITES[name]
    proxy.cut(word, before=before, times=ATTEMPTS)
    unavailable(world, method, request)
    assert proxy.cuts == ATTEMPTS
    stored = rows(world.store)
    assert bool(stored) is not before
    reply = world.call(method, request)
    assert (new(reply), known(reply)) == ((whole, 0) if before else (0, whole))
    after = rows(world.store)
    assert before or after == stored
    assert known(world.call(method, request)) == whole
    assert rows(world.store) == after


def test_one_cut_is_not_noticed(proxied: tuple[World, CuttingProxy]) -> None:
    world, proxy = proxied
    for method, request, word, new, known, whole in WRITES.values():
        proxy.cut(word, before=True, times=1)
        reply = world.call(method, request)
        assert (proxy.cuts, new(reply), known(reply)) == (1, whole, 0)


@contextmanager
def holding(url: str, table: str) -> Iterator[Connection]:
    """Hold a table alone, so that who writes it waits in the middle of the work."""
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield connection
    engine.dispose()


def terminate_who_waits(holder: Connection) -> None:
    """End the service's session that waits for a lock, once there is one."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        holder.execute(text("SELECT pg_stat_clear_snapshot()"))  # it is kept for the whole transaction
        ended = holder.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'feedback_svc'"
                " AND wait_event_type = 'Lock'"
            )
        ).all()
        if ended:
            return
    raise AssertionError("nobody came to wait")


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("interactions", "subject_counts"),
        ("sessions", "dislikes"),
        ("dislike", "dislikes"),
        ("entities", "entities"),
    ],
)
def test_a_session_ended_while_its_statement_runs(
    postgres: EmbeddedPostgres, database_url: str, name: str, table: str
) -> None:
    method, request, _, new, known, whole = WRITES[name]
    with postgres_world(postgres, url=database_url) as world, ThreadPoolExecutor(1) as pool:
        with holding(database_url, table) as holder:
            failing: Future[str] = pool.submit(unavailable, world, method, request)
            for _ in range(ATTEMPTS):
                terminate_who_waits(holder)
            failing.result(SECONDS)
        assert rows(world.store) == {}
        with holding(database_url, table) as holder:
            repeated: Future[Any] = pool.submit(world.call, method, request)
            terminate_who_waits(holder)
        reply = repeated.result(SECONDS)
        assert (new(reply), known(reply)) == (whole, 0)
        assert known(world.call(method, request)) == whole
