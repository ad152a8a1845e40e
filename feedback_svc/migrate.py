"""Bring the database to the current schema: ``python -m feedback_svc.migrate``; again, it does nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from feedback_svc.command import run, told
from feedback_svc.settings import DatabaseSettings
from matchloop.errors import Reason, Unavailable
from matchloop.rpc.settings import read_settings

MIGRATIONS = Path(__file__).parent / "store" / "migrations"
ONE_AT_A_TIME = 74_000
"""Key of the advisory lock: two migrations started together run one after the other."""

LOCK_WAIT = "500ms"
"""How long a change waits for a table; whoever needs the table meanwhile waits behind it."""
IN_USE = ("55P03", "40P01")
"""Lock not available, deadlock."""
PAUSE = 1.0
"""Seconds between two attempts."""
PATIENCE = 600.0


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration for a connection."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def revisions() -> tuple[str, ...]:
    """Return every schema version that this release knows, the oldest first."""
    return tuple(reversed([each.revision for each in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]))


def migrate(
    url: str, *, revision: str = "head", patience: float = PATIENCE, on_wait: Callable[[str], object] = str
) -> None:
    """Migrate the database up to `revision`, or down with ``"-1"``, ``"base"`` and the like.

    Services may serve meanwhile. A change that does not get its tables within `LOCK_WAIT` lets go of all it
    holds, so that calls pass, and is tried again.

    Parameters
    ----------
    patience
        Seconds after which it is not tried again.
    on_wait
        Told who has the tables, before each pause.

    Raises
    ------
    Unavailable
        When the tables were in use all the time; names who has them. What was migrated until then stays.
    sqlalchemy.exc.DBAPIError
        When the database cannot be reached or refuses.
    """
    engine = create_engine(url)
    give_up = time.monotonic() + patience
    try:
        with engine.connect() as connection, _alone(connection):
            while not _migrated(connection, revision):
                users = _users_of_tables(connection)
                if time.monotonic() > give_up:
                    raise Unavailable(
                        f"the schema is as it was: its tables are in use by {users}",
                        reason=Reason.STORE_UNAVAILABLE,
                    )
                on_wait(users)
                time.sleep(PAUSE)
    finally:
        engine.dispose()


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Let no other migration run; those that are asked for meanwhile wait for this one."""
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ONE_AT_A_TIME})
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ONE_AT_A_TIME})


def _migrated(connection: Connection, revision: str) -> bool:
    """Try to migrate; say whether it was done. What is not done has changed nothing."""
    run = command.downgrade if revision.startswith("-") or revision == "base" else command.upgrade
    try:
        connection.execute(text("SELECT set_config('lock_timeout', :wait, false)"), {"wait": LOCK_WAIT})
        connection.commit()
        run(alembic_config(connection), revision)
        connection.commit()
    except DBAPIError as error:
        connection.rollback()
        if getattr(error.orig, "pgcode", None) in IN_USE:
            return False
        raise
    return True


def _users_of_tables(connection: Connection) -> str:
    """Name who has been in a transaction for longest."""
    found = connection.execute(
        text(
            "SELECT pid, application_name, date_trunc('second', clock_timestamp() - xact_start)::text"
            " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 3"
        )
    ).all()
    connection.commit()
    return (
        ", ".join(f"process {pid} ({name or 'unnamed'}) since {age}" for pid, name, age in found) or "nobody"
    )


def continue_sequences(url: str) -> int:
    """Lift change sequences over all that are stored: to be run once after a restore, before serving.

    The record's history is a new one from here: no export continues a snapshot of the old one.

    Returns
    -------
    int
        The offset now in force; it only grows.
    """
    engine = create_engine(url)
    highest = """
        SELECT greatest(
            (SELECT max(change_sequence) FROM entities), (SELECT max(change_sequence) FROM item_stats),
            (SELECT max(change_sequence) FROM tombstones),
            (SELECT max(sequence) >> 9 FROM interactions), (SELECT max(sequence) >> 9 FROM sessions),
            (SELECT max(sequence) >> 9 FROM matches), (SELECT max(change_sequence) FROM tombstones),
            (SELECT max(change_sequence) FROM amendments), 0)
    """
    try:
        with engine.begin() as connection:
            connection.execute(text("UPDATE record_history SET history = gen_random_uuid()"))
            return int(
                connection.execute(
                    text(
                        "UPDATE change_clock SET sequence_offset = greatest(sequence_offset,"  # noqa: S608
                        f" ({highest}) + 1 - pg_current_xact_id()::text::bigint) RETURNING sequence_offset"
                    )
                ).scalar_one()
            )
    finally:
        engine.dispose()


def lacks_matches(url: str) -> bool:
    """Say whether interactions are stored, but none in the match ledger: they came before it was kept."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            if connection.execute(text("SELECT to_regclass('matches')")).scalar_one() is None:
                return False
            statement = "SELECT EXISTS (SELECT FROM interactions) AND NOT EXISTS (SELECT FROM matches)"
            return bool(connection.execute(text(statement)).scalar_one())
    finally:
        engine.dispose()


def main(
    revision: Annotated[str, typer.Option(help="Where to go: head, base, -1, a revision.")] = "head",
    patience: Annotated[
        float, typer.Option(min=0.0, help="Seconds to go on trying while tables are in use.")
    ] = PATIENCE,
    restored: Annotated[  # noqa: FBT002 - a flag of the command line
        bool,
        typer.Option(
            "--restored",
            help="The database was restored or recovered by other means than feedback_svc.restore.",
        ),
    ] = False,
) -> None:
    """Bring the database named by FEEDBACK_DATABASE_URL to the current schema."""
    with told():
        settings = read_settings(DatabaseSettings)
        migrate(
            settings.database_url,
            revision=revision,
            patience=patience,
            on_wait=lambda users: typer.echo(f"tables are in use by {users}: trying again", err=True),
        )
        if restored:
            typer.echo(f"sequences go on with offset {continue_sequences(settings.database_url)}")
        behind = lacks_matches(settings.database_url)
    typer.echo(f"schema is at {revision}")
    if behind:
        typer.echo(
            "interactions are stored, but no matches: if a use case with a reverse is among them, run"
            " python -m feedback_svc.matches"
        )


if __name__ == "__main__":
    run(main, "migrate")
