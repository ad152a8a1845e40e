"""Derived embeddings in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from feedback_svc.embeddings import Derived, TextsOf
from feedback_svc.store.features import read_features, write_features
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.postgres.literals import number_array, text_array
from matchloop.entities import Entity, EntityId, EntityKey, Kind
from matchloop.retrieval.profile import text_of

LOOK = """
SELECT id, change_sequence, CASE WHEN NOT jsonb_exists_any(features, %(names)s::text[])
    AND derived -> %(name)s ->> 2 IS DISTINCT FROM %(embedder)s THEN features END
FROM entities WHERE kind = %(kind)s AND id > %(after)s ORDER BY kind, id LIMIT %(limit)s
"""

# In key order, as all that writes entities; only where the texts are still those that were embedded.
WRITE = """
WITH sent AS (
    SELECT * FROM unnest(%(kinds)s::text[], %(ids)s::text[], %(changes)s::bigint[], %(derived)s::text[])
        AS each (kind, id, change_sequence, derived)
), held AS (
    SELECT e.kind, e.id, sent.derived::jsonb AS derived
    FROM sent JOIN entities e ON e.kind = sent.kind AND e.id = sent.id
    WHERE e.change_sequence = sent.change_sequence ORDER BY e.kind, e.id FOR UPDATE OF e
)
UPDATE entities e SET derived = held.derived, change_sequence = change_now()
FROM held WHERE e.kind = held.kind AND e.id = held.id
"""


class PostgresEmbeddings:
    """The part of the store for derived embeddings."""

    _database: Database

    def texts_to_embed(
        self, kind: str, features: Sequence[str], *, embedder: str, after: str, limit: int
    ) -> tuple[list[TextsOf], str | None]:
        """Return texts of those that lack an embedding by this embedder, of the next `limit` after an id."""
        parameters = {
            "names": text_array(features),
            "name": features[0],
            "embedder": embedder,
            "kind": kind,
            "after": after,
            "limit": limit,
        }
        rows = self._database.run(lambda connection: connection.exec_driver_sql(LOOK, parameters).all())
        found = []
        for id_, change_sequence, stored in rows:
            if stored is not None:
                key = EntityKey(Kind(kind), EntityId(id_))
                if text := text_of(Entity(key, read_features(stored))):
                    found.append(TextsOf(key, text, change_sequence))
        return found, rows[-1].id if len(rows) == limit else None

    def write_derived(self, derived: Sequence[Derived]) -> int:
        """Give entities the vectors made of their texts, unless they changed since; return how many."""
        parameters = {
            "kinds": text_array([each.key.kind for each in derived]),
            "ids": text_array([each.key.id for each in derived]),
            "changes": number_array([each.change_sequence for each in derived]),
            "derived": text_array([write_features({each.feature: each.embedding}) for each in derived]),
        }

        def work(connection: Connection) -> int:
            return connection.exec_driver_sql(WRITE, parameters).rowcount

        return self._database.run(work)
