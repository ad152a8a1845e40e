"""What migrations are made of: files of SQL, and indexes built while everybody writes."""

from __future__ import annotations

from pathlib import Path

from alembic import op

BUILD_WAIT = "10min"
"""An index is built between transactions: it waits for those that run, and nobody waits for it."""


def run(*files: Path) -> None:
    """Run files of SQL, in this order, in the migration's transaction."""
    for file in files:
        op.get_bind().exec_driver_sql(file.read_text(encoding="utf-8"))


def build_index(name: str, definition: str) -> None:
    """Build an index without holding writers up; one that was broken off is built again.

    It commits what the migration did so far, so it has a migration of its own.

    Parameters
    ----------
    definition
        What follows ``CREATE INDEX CONCURRENTLY name``, e.g. ``ON interactions (session_id)``.
    """
    wait = op.get_bind().exec_driver_sql("SHOW lock_timeout").scalar_one()
    with op.get_context().autocommit_block():
        op.execute(f"SET lock_timeout = '{BUILD_WAIT}'")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute(f"CREATE INDEX CONCURRENTLY {name} {definition}")
        op.execute(f"SET lock_timeout = '{wait}'")
