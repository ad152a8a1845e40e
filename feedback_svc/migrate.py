"""Bring the database to the current schema: ``python -m feedback_svc.migrate``; again, it does nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text

from feedback_svc.command import run, told
from feedback_svc.settings import DatabaseSettings
from matchloop.rpc.settings import read_settings

MIGRATIONS = Path(__file__).parent / "store" / "migrations"
ONE_AT_A_TIME = 74_000
"""Key of the advisory lock: two migrations started together run one after the other."""


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration for a connection."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migrate(url: str, *, revision: str = "head") -> None:
    """Migrate the database up to `revision`, or down with ``"-1"``, ``"base"`` and the like.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        When the database cannot be reached or refuses.
    """
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ONE_AT_A_TIME})
            connection.commit()
            try:
                run = command.downgrade if revision.startswith("-") or revision == "base" else command.upgrade
                run(alembic_config(connection), revision)
                connection.commit()
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ONE_AT_A_TIME})
    finally:
        engine.dispose()


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
    restored: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--restored", help="The database was restored from a dump into a new cluster.")
    ] = False,
) -> None:
    """Bring the database named by FEEDBACK_DATABASE_URL to the current schema."""
    with told():
        settings = read_settings(DatabaseSettings)
        migrate(settings.database_url, revision=revision)
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
