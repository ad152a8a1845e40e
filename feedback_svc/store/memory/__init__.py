"""The record in memory: the same promises as PostgreSQL's, for tests; nothing is durable."""

from __future__ import annotations

from feedback_svc.store.memory.catalog import MemoryCatalog
from feedback_svc.store.memory.dislikes import MemoryDislikes
from feedback_svc.store.memory.embeddings import MemoryEmbeddings
from feedback_svc.store.memory.erasure import MemoryErasure
from feedback_svc.store.memory.insight import MemoryInsight
from feedback_svc.store.memory.matches import MemoryMatches
from feedback_svc.store.memory.operations import MemoryOperations
from feedback_svc.store.memory.retention import MemoryRetention


class MemoryStore(
    MemoryCatalog,
    MemoryDislikes,
    MemoryMatches,
    MemoryRetention,
    MemoryEmbeddings,
    MemoryErasure,
    MemoryInsight,
    MemoryOperations,
):
    """A `Store` in memory."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""
