"""What a backup and a restore ask a database."""

from __future__ import annotations

from sqlalchemy import Connection, text

REVISION_TABLE = "alembic_version"
"""Where Alembic keeps the version of the schema."""


def server_major(connection: Connection) -> int:
    """Return the server's major version."""
    version = connection.execute(text("SELECT current_setting('server_version_num')::int")).scalar_one()
    return int(version) // 10_000


def rows_by_table(connection: Connection) -> dict[str, int]:
    """Count the rows of every table, by its name."""
    found = connection.execute(
        text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
    )
    return {
        str(table): int(connection.execute(text(f'SELECT count(*) FROM public."{table}"')).scalar_one())  # noqa: S608
        for table in found.scalars().all()
    }
