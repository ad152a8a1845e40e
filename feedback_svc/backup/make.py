"""Make a backup while the service serves: a dump of one moment, and how many rows were in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, create_engine, text

from feedback_svc.backup.contents import CONTENTS_FILE, DUMP_FOLDER, Backup, entries_of
from feedback_svc.backup.database import REVISION_TABLE, rows_by_table, server_major
from feedback_svc.backup.programs import find_program, run_program
from matchloop.errors import BackupRefused, Conflict

LOCK_WAIT_MILLISECONDS = 10_000
"""A migration that has the tables ends within it, or the backup gives up."""
UNFINISHED = ".unfinished-"
TIME = "%Y%m%dT%H%M%S.%fZ"
"""A backup is called by its moment, UTC: names sort as times do."""


def back_up(
    url: str, folder: Path, *, clock: Callable[[], datetime], jobs: int = 1, keep: int | None = None
) -> tuple[Path, Backup]:
    """Write a backup into a folder of its own below `folder`, whole or not at all.

    Reads a moment in a read-only transaction: no call waits for it, changes of the schema do.

    Parameters
    ----------
    jobs
        Tables dumped at a time.
    keep
        How many backups stay, the newest; None: all.

    Returns
    -------
    tuple
        Where it is, and what is in it.

    Raises
    ------
    Conflict
        When another backup is being written there.
    Unavailable
        When PostgreSQL or a pg_dump that fits is missing, or fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder), _moment(url) as connection:
        for leftover in folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(leftover)
        now = (
            clock()
        )  # what was acknowledged before is in sight of the next statement, which takes the moment
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
        backup = _dumped(connection, url, unfinished, now=now, jobs=jobs)
        target = folder / now.strftime(TIME)
        unfinished.rename(target)
        if keep is not None:
            for older in backups_in(folder)[:-keep]:
                shutil.rmtree(older)
    return target, backup


def backups_in(folder: Path) -> list[Path]:
    """Return every whole backup below a folder, the oldest first."""
    return sorted(path.parent for path in folder.glob(f"[0-9]*/{CONTENTS_FILE}"))


def _dumped(connection: Connection, url: str, folder: Path, *, now: datetime, jobs: int) -> Backup:
    snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
    postgres, rows = server_major(connection), rows_by_table(connection)
    if REVISION_TABLE not in rows or not rows[REVISION_TABLE]:
        raise BackupRefused("the database holds no record: run python -m feedback_svc.migrate")
    revision = connection.execute(text(f"SELECT version_num FROM {REVISION_TABLE}")).scalar_one()  # noqa: S608
    program = find_program("pg_dump", at_least=postgres)
    run_program(
        program,
        url,
        *("--format=directory", f"--file={folder / DUMP_FOLDER}", f"--jobs={jobs}"),
        *(f"--snapshot={snapshot}", f"--lock-wait-timeout={LOCK_WAIT_MILLISECONDS}"),
        *("--no-owner", "--no-privileges"),
    )
    backup = Backup(
        moment=now,
        revision=str(revision),
        postgres=postgres,
        pg_dump=program.major,
        rows=rows,
        files=entries_of(folder),
    )
    backup.write(folder)
    return backup


@contextmanager
def _moment(url: str) -> Iterator[Connection]:
    """Open a transaction whose first statement takes the moment that all of it sees."""
    engine = create_engine(
        url,
        isolation_level="REPEATABLE READ",
        connect_args={"options": "-c idle_in_transaction_session_timeout=0 -c statement_timeout=0"},
    )
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder: what is unfinished in it is nobody's then."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Conflict(f"another backup is being written to {folder}") from None
    finally:
        os.close(handle)
