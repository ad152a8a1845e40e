"""The record in memory: the same promises as PostgreSQL's, for tests; nothing is durable."""

from __future__ import annotations

from feedback_svc.store.memory.catalog import MemoryCatalog
from feedback_svc.store.memory.dislikes import MemoryDislikes


class MemoryStore(MemoryCatalog, MemoryDislikes):
    """A `Store` in memory."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""
