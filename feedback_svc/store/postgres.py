"""The record in PostgreSQL."""

from __future__ import annotations

from feedback_svc.store.catalog_sql import CatalogSql
from feedback_svc.store.database import Database
from feedback_svc.store.dislike_sql import DislikeSql
from feedback_svc.store.record_sql import RecordSql


class PostgresStore(CatalogSql, RecordSql, DislikeSql):
    """A `Store` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        """Close every connection."""
        self._database.close()
