"""What is done to real processes: killed, hung, slowed down, restarted, cut off. Left as they were found."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
import psycopg2

from matchloop.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playground.postgres import EmbeddedPostgres
    from playground.processes import ServiceProcess

SECRET = "planted-4711"  # noqa: S105 - must not be found in what clients are told
PLANTED = f"""
CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{SECRET}'; END $$;
CREATE TRIGGER planted BEFORE INSERT ON sessions EXECUTE FUNCTION planted();
CREATE TRIGGER planted BEFORE INSERT ON interactions EXECUTE FUNCTION planted();
"""
HEADER_BYTES = 100
GRACE_SECONDS = 30.0
"""From SIGTERM to SIGKILL, as Kubernetes has it."""
PULLED = "DROP FUNCTION IF EXISTS planted() CASCADE"


@contextmanager
def killed(service: ServiceProcess) -> Iterator[None]:
    """SIGKILL; at the end it is started again, and waited for."""
    service.kill()
    try:
        yield
    finally:
        service.start()
        service.wait_serving()


@contextmanager
def hung(pid: int) -> Iterator[None]:
    """SIGSTOP a process and its children: connections stay open, and nothing answers."""
    processes = _tree(pid)
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


@contextmanager
def slow(pid: int, *, runs: float = 0.02, stands: float = 0.1) -> Iterator[None]:
    """Let a process run for `runs` seconds of every `runs` + `stands`."""
    process, done = psutil.Process(pid), threading.Event()

    def pulse() -> None:
        while not done.is_set():
            process.suspend()
            done.wait(stands)
            process.resume()
            done.wait(runs)

    thread = threading.Thread(target=pulse)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def restart(service: ServiceProcess) -> None:
    """SIGTERM; start it again when it has drained.

    Raises
    ------
    Unavailable
        If it did not end by itself, with code 0.
    """
    code = service.stop(GRACE_SECONDS)
    if code:
        raise Unavailable(f"{service.name} ended with code {code}")
    service.start()
    service.wait_serving()


@contextmanager
def store_killed(postgres: EmbeddedPostgres) -> Iterator[None]:
    """SIGKILL PostgreSQL, all its processes; at the end it is started and recovers from its log."""
    assert postgres.pid is not None
    processes = _tree(postgres.pid)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)
    try:
        yield
    finally:
        postgres.start()


@contextmanager
def store_with_a_bug(database_url: str) -> Iterator[None]:
    """Make every write of a session or an interaction fail in a way that nobody has foreseen."""
    _execute(database_url, PLANTED)
    try:
        yield
    finally:
        _execute(database_url, PULLED)


@contextmanager
def registry_hangs(database: Path) -> Iterator[None]:
    """Hold the registry's SQLite file alone: who reads it waits, for 20 seconds by MLflow's setting."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None, timeout=30.0)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            holder.execute("ROLLBACK")


@contextmanager
def registry_broken(database: Path) -> Iterator[None]:
    """Spoil the header of the registry's SQLite file: who reads it is told at once that it is none."""
    with database.open("r+b", buffering=0) as file:
        header = file.read(HEADER_BYTES)
        file.seek(0)
        file.write(bytes(HEADER_BYTES))
        try:
            yield
        finally:
            file.seek(0)
            file.write(header)


def _tree(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _execute(database_url: str, statements: str) -> None:
    parts = urlsplit(database_url)
    own = psycopg2.connect(f"postgresql://{parts.netloc}{parts.path}?{parts.query}")
    with contextlib.closing(own), own, own.cursor() as cursor:
        cursor.execute(statements)
