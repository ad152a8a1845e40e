"""The record in PostgreSQL."""

from __future__ import annotations

from feedback_svc.store.postgres.catalog import PostgresCatalog
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.postgres.dislikes import PostgresDislikes
from feedback_svc.store.postgres.embeddings import PostgresEmbeddings
from feedback_svc.store.postgres.erasure import PostgresErasure
from feedback_svc.store.postgres.insight import PostgresInsight
from feedback_svc.store.postgres.matches import PostgresMatches
from feedback_svc.store.postgres.operations import PostgresOperations
from feedback_svc.store.postgres.reactions import PostgresReactions
from feedback_svc.store.postgres.record import PostgresRecord
from feedback_svc.store.postgres.retention import PostgresRetention


class PostgresStore(
    PostgresCatalog,
    PostgresRecord,
    PostgresDislikes,
    PostgresMatches,
    PostgresRetention,
    PostgresEmbeddings,
    PostgresErasure,
    PostgresInsight,
    PostgresOperations,
    PostgresReactions,
):
    """A `Store` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        """Close every connection."""
        self._database.close()
