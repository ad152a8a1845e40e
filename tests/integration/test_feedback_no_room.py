"""A store that cannot write, read-only or out of room, says so and comes back by itself; reads go on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
from sqlalchemy import create_engine, make_url, text

from matchloop.catalog.v1 import catalog_service_pb2 as catalog
from matchloop.errors import Reason
from playground.postgres import EmbeddedPostgres
from tests.feedback_bounds import base
from tests.feedback_rpc_world import methods, postgres_world, rows, startup, unavailable, upsert, value
from tests.feedback_worlds import fresh_database, open_folder

pytestmark = pytest.mark.processes

WRITING = (
    "UpsertEntities",
    "DeactivateEntities",
    "EraseEntity",
    "RecordSessions",
    "RecordInteractions",
    "RecordDislike",
    "MarkNegativesUsed",
    "AcquireLease",
    "ReleaseLease",
    "RecordAct",
    "StartExperiment",
    "StopExperiment",
)
ANSWERS = {
    Reason.ENTITY_NOT_FOUND,
    Reason.SESSION_NOT_FOUND,
    Reason.EXPERIMENT_NOT_FOUND,
    Reason.NOT_IMPLEMENTED,
}
MEGABYTE = 2**20
Give = Callable[[], None]


def administer(url: str, *statements: str) -> None:
    """Run statements, each by itself, and end every other connection to the database that `url` names."""
    ending = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in (*statements, ending):
            connection.execute(text(statement))
    engine.dispose()


def database_name(url: str) -> str:
    return str(make_url(url).database)


def test_a_read_only_store_says_so_reads_on_and_comes_back(
    postgres: EmbeddedPostgres, database_url: str
) -> None:
    with postgres_world(postgres, url=database_url, threads=4) as world:
        for method in WRITING:
            error = world.error(method, base(method))
            assert error is None or error.reason in ANSWERS
        before = rows(world.store)
        name = database_name(database_url)
        administer(database_url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        for method, _ in methods():
            error = world.error(method, base(method))
            if method not in WRITING:
                assert error is None or error.reason in ANSWERS
            elif error is None or error.reason is not Reason.NOT_IMPLEMENTED:
                assert "read-only" in unavailable(world, method, base(method))
        assert rows(world.store) == before
        # The service's connections stay: they were made while nothing could be written.
        administer(postgres.url(), f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        assert world.call("UpsertEntities", base("UpsertEntities")).created == 1


@contextmanager
def small_disk(server: EmbeddedPostgres) -> Iterator[tuple[str, Give]]:
    """A database on a file system of 16 MB, which grows when it is given room."""

    def mount(*options: str) -> None:
        done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"file systems cannot be mounted here, so no disk of its own: {done.stderr.strip()}")

    owner = psutil.Process(server.pid or 0).uids().real
    with open_folder() as folder:
        mount("-t", "tmpfs", "-o", f"size=16m,uid={owner},mode=0700", "none", str(folder))
        try:
            administer(server.url(), f"CREATE TABLESPACE small LOCATION '{folder}'")
            url = fresh_database(server)
            name = database_name(url)
            administer(server.url(), f'ALTER DATABASE "{name}" SET TABLESPACE small')
            yield url, lambda: mount("-o", "remount,size=64m", str(folder))
            administer(url)
            administer(server.url(), f'DROP DATABASE "{name}"', "DROP TABLESPACE small")
        finally:
            subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def small_files(server: EmbeddedPostgres) -> Iterator[tuple[str, Give]]:
    """A server whose files cannot grow over 16 MB (a quota fails alike), until it is given room."""
    process = psutil.Process(server.pid or 0)
    program = shutil.which("prlimit")
    if program is None:
        pytest.skip("no `prlimit` here, so no server whose files are bounded")

    # As who owns it: root itself may not be allowed to.
    own = {} if os.geteuid() else {"user": process.uids().real, "group": process.gids().real}

    def limit(size: str) -> None:
        for pid in (process.pid, *(child.pid for child in process.children())):
            done = subprocess.run([program, "--pid", str(pid), f"--fsize={size}:"], check=False, **own)
            assert not done.returncode or not psutil.pid_exists(pid)

    limit(str(16 * MEGABYTE))
    try:
        yield fresh_database(server), lambda: limit("unlimited")
    finally:
        limit("unlimited")


@pytest.mark.parametrize("cramped", [small_disk, small_files])
def test_without_room_it_says_so_reads_on_and_works_again(
    postgres: EmbeddedPostgres, cramped: Callable[[EmbeddedPostgres], Iterator[tuple[str, Give]]]
) -> None:
    name = value(text="x" * 1900)  # too short to be compressed
    with cramped(postgres) as (url, give_room), postgres_world(postgres, url=url) as world:  # type: ignore[attr-defined]
        for number in range(80):
            request = upsert(*[startup(f"{number} {n}", name=name) for n in range(250)])
            before = rows(world.store)
            if world.error("UpsertEntities", request) is not None:
                break
        assert before
        assert "no room" in unavailable(world, "UpsertEntities", request)
        assert rows(world.store) == before
        first = catalog.GetEntityRequest(key=startup("0 0").key)
        assert world.call("GetEntity", first).entity.features["name"] == name
        give_room()
        assert world.call("UpsertEntities", request).created == 250
        assert world.call("UpsertEntities", request).unchanged == 250
