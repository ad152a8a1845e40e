"""Embeddings derived from texts: which entities want one, and the walk that gives it to them.

A derived vector is what serving would work out itself: the embedder's row for all the entity's texts
(`text_of`). It is kept so that a costly embedder runs once a text, not once a text in every process. It
never replaces what a client brought, and it is marked, so that an encoder, which has columns for the texts
themselves, does not take it for a feature of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from matchloop.entities import Embedding, EntityKey
from matchloop.features import TextEmbedder
from matchloop.usecase import FeatureType, UseCases


@dataclass(frozen=True, slots=True)
class EmbeddedKind:
    """A kind whose entities want an embedding.

    Parameters
    ----------
    features
        Its embedding features in order of name; a derived one goes to the first.
    width
        Of its embeddings.
    """

    kind: str
    features: tuple[str, ...]
    width: int


@dataclass(frozen=True, slots=True)
class TextsOf:
    """The texts of an entity as of a change sequence, as `text_of` joins them; not empty."""

    key: EntityKey
    text: str
    change_sequence: int


@dataclass(frozen=True, slots=True)
class Derived:
    """A vector made of an entity's texts as they were at a change sequence, for one of its features."""

    key: EntityKey
    change_sequence: int
    feature: str
    embedding: Embedding


class Embedded(Protocol):
    """The part of the store for derived embeddings; see `Store`."""

    def texts_to_embed(
        self, kind: str, features: Sequence[str], *, embedder: str, after: str, limit: int
    ) -> tuple[list[TextsOf], str | None]:
        """Return texts of entities that lack an embedding by this embedder."""
        ...

    def write_derived(self, derived: Sequence[Derived]) -> int:
        """Give entities the vectors made of their texts, unless they changed since."""
        ...


def embedded_kinds(use_cases: UseCases) -> tuple[EmbeddedKind, ...]:
    """Return the kinds with both embedding and text features, in order of name.

    Where use cases disagree about a kind's embedding width, the width of the last one counts, as it does for
    what clients send.
    """
    features: dict[str, dict[str, FeatureType]] = {}
    widths: dict[str, int] = {}
    for use_case in use_cases.values():
        for kind, own in (
            (use_case.subject, use_case.subject_features),
            (use_case.item, use_case.item_features),
        ):
            features.setdefault(kind, {}).update(own)
            widths[kind] = use_case.embedding_width
    found = []
    for kind, types in sorted(features.items()):
        names = tuple(sorted(name for name, type_ in types.items() if type_ is FeatureType.EMBEDDING))
        if names and FeatureType.TEXT in types.values():
            found.append(EmbeddedKind(kind, names, widths[kind]))
    return tuple(found)


def embed_kind(
    store: Embedded,
    kind: EmbeddedKind,
    embedder: TextEmbedder,
    *,
    batch: int,
    after_batch: Callable[[int], object] = lambda _: None,
) -> int:
    """Give the entities of a kind what they lack; return how many got a vector.

    Each batch is written before the next is read, so a run that is broken off goes on where it was.

    Parameters
    ----------
    embedder
        As wide as the kind's embeddings.
    batch
        Entities looked at together, 1 or more.
    after_batch
        Told of each batch how many vectors it wrote.
    """
    written, after = 0, ""
    while True:
        lacking, position = store.texts_to_embed(
            kind.kind, kind.features, embedder=embedder.name, after=after, limit=batch
        )
        rows = embedder.embed([each.text for each in lacking]) if lacking else ()
        derived = [
            Derived(
                each.key,
                each.change_sequence,
                kind.features[0],
                Embedding(tuple(row.tolist()), embedder.name),
            )
            for each, row in zip(lacking, rows, strict=True)
            if row.any()
        ]
        count = store.write_derived(derived) if derived else 0
        written += count
        after_batch(count)
        if position is None:
            return written
        after = position
