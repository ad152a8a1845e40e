"""Restore a backup into an empty database, which nobody writes to before it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, make_url, text

from feedback_svc.backup.contents import DUMP_FOLDER, Backup
from feedback_svc.backup.database import rows_by_table, server_major
from feedback_svc.backup.programs import find_program, run_program
from feedback_svc.migrate import continue_sequences, migrate, revisions
from matchloop.errors import BackupRefused

READ_ONLY = "default_transaction_read_only"


def restore(url: str, folder: Path, *, jobs: int = 1) -> Backup:
    """Restore a backup, bring it to this release's schema, and let services write.

    Services may be running: until all is done the database is read-only to them, which they answer with
    UNAVAILABLE. Afterwards sequences go on above all that are stored, in another history of the record.

    Parameters
    ----------
    url
        SQLAlchemy URL of a database without a record, owned by the user it names.
    jobs
        Tables restored at a time. With 1 a restore that fails leaves the database empty, with more it leaves
        it read-only and in pieces, to be dropped.

    Raises
    ------
    BackupRefused
        When the backup is damaged or of a newer release, the database is not empty, its server is older than
        the backup's, or what is in it in the end is not what was counted.
    Unavailable
        When PostgreSQL or a pg_restore that fits is missing, or fails.
    """
    backup = Backup.read(folder)
    if backup.revision not in revisions():
        raise BackupRefused(
            f"{folder} has schema {backup.revision}, this release knows up to {revisions()[-1]}:"
            " restore it with the release that wrote it, or a newer one"
        )
    program = find_program("pg_restore", at_least=backup.pg_dump)
    writing = _that_writes(url)
    whole = "--single-transaction" if jobs == 1 else f"--jobs={jobs}"
    with _connected(writing) as connection:
        _check_place(connection, backup)
        _make_read_only(connection)
        try:
            run_program(
                program,
                writing,
                *("--exit-on-error", "--no-owner", "--no-privileges", whole, str(folder / DUMP_FOLDER)),
            )
        finally:
            if not rows_by_table(connection):
                _let_write(connection)
        _check_rows(rows_by_table(connection), backup)
        migrate(writing)
        continue_sequences(writing)
        connection.execute(text("ANALYZE"))
        _let_write(connection)
    return backup


def _that_writes(url: str) -> str:
    """Return the URL for connections that write though the database is read-only to others."""
    parts = make_url(url)
    own = parts.query.get("options", "")
    options = f"{own if isinstance(own, str) else ' '.join(own)} -c {READ_ONLY}=off -c statement_timeout=0"
    return parts.update_query_dict({"options": options.strip()}).render_as_string(hide_password=False)


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _check_place(connection: Connection, backup: Backup) -> None:
    taken = sorted(rows_by_table(connection).keys() & backup.rows.keys())
    if taken:
        raise BackupRefused(
            f"the database is not empty, it has {', '.join(taken[:3])} and so on:"
            " drop it, make a new one, and restore before anything is migrated"
        )
    major = server_major(connection)
    if major < backup.postgres:
        raise BackupRefused(f"the backup is of PostgreSQL {backup.postgres}, this server is of {major}")


def _check_rows(found: dict[str, int], backup: Backup) -> None:
    faults = [
        f"{table} has {found.get(table, 0):,} rows instead of {rows:,}"
        for table, rows in backup.rows.items()
        if found.get(table, 0) != rows
    ]
    if faults:
        raise BackupRefused(f"not restored, and left read-only: {'; '.join(faults)}")


def _make_read_only(connection: Connection) -> None:
    """Let new connections only read, and end those of before, which could write."""
    _alter(connection, f"SET {READ_ONLY} = on")
    connection.execute(
        text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND usename = current_user AND pid <> pg_backend_pid()"
        )
    )


def _let_write(connection: Connection) -> None:
    _alter(connection, f"RESET {READ_ONLY}")


def _alter(connection: Connection, what: str) -> None:
    name = connection.execute(text("SELECT quote_ident(current_database())")).scalar_one()
    connection.exec_driver_sql(f"ALTER DATABASE {name} {what}".replace("%", "%%"))
