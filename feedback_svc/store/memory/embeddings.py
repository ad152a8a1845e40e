"""Derived embeddings in memory: among an entity's features, told from what was sent by their embedder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from feedback_svc.embeddings import Derived, TextsOf
from feedback_svc.store.features import canonical
from feedback_svc.store.memory.state import MemoryState
from matchloop.entities import Embedding
from matchloop.retrieval.profile import text_of


class MemoryEmbeddings(MemoryState):
    """The part of the store for derived embeddings."""

    def texts_to_embed(
        self, kind: str, features: Sequence[str], *, embedder: str, after: str, limit: int
    ) -> tuple[list[TextsOf], str | None]:
        """See `Store`."""
        with self._lock:
            keys = sorted(key.id for key in self._entities if key.kind == kind and key.id > after)[:limit]
            entities = [e for e in self._entities.values() if e.key.kind == kind and e.key.id in set(keys)]
        entities.sort(key=lambda entity: entity.key.id)
        found = []
        for entity in entities:
            held = [v for name in features if isinstance(v := entity.features.get(name), Embedding)]
            text = text_of(entity)
            if text and all(value.embedder not in ("", embedder) for value in held):
                found.append(TextsOf(entity.key, text, entity.change_sequence))
        return found, keys[-1] if len(keys) == limit else None

    def write_derived(self, derived: Sequence[Derived]) -> int:
        """See `Store`."""
        written = 0
        with self._lock:
            self._change += 1
            for each in derived:
                entity = self._entities.get(each.key)
                if entity is not None and entity.change_sequence == each.change_sequence:
                    features = canonical({**entity.features, each.feature: each.embedding})
                    self._entities[each.key] = replace(
                        entity, features=features, change_sequence=self._change
                    )
                    written += 1
        return written
