"""A vector derived from texts changes nothing of what is made of the texts themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np

from matchloop.catalog.v1 import entity_pb2
from matchloop.entities import Embedding, Entity, Text
from matchloop.features import EntityEncoder, HashingEmbedder
from matchloop.retrieval.profile import text_of, vectors_of
from matchloop.rpc.convert import entity_from_proto, entity_to_proto, read_entity
from matchloop.rpc.validation import Violations
from matchloop.snapshot import entities_of, entity_tables, read_snapshot, write_snapshot
from matchloop.usecase import FeatureType
from tests.feedback_worlds import startup

NOW = datetime(2026, 5, 1, tzinfo=UTC)
EMBEDDER = HashingEmbedder(16)
SCHEMA = {"name": FeatureType.TEXT, "category": FeatureType.CATEGORICAL, "embedding": FeatureType.EMBEDDING}
PLAIN = [startup("a", name=Text("cloud robots")), startup("b", name=Text("fish")), startup("c")]


def derived(entity: Entity, embedder: HashingEmbedder = EMBEDDER) -> Entity:
    row = embedder.embed([text_of(entity)])[0]
    vector = Embedding(tuple(row.tolist()), embedder.name)
    return replace(entity, features=MappingProxyType({**entity.features, "embedding": vector}))


DERIVED = [derived(PLAIN[0]), derived(PLAIN[1]), PLAIN[2]]


def fitted(entities: list[Entity]) -> EntityEncoder:
    return EntityEncoder.fit(SCHEMA, entities, embedder=EMBEDDER, embedding_width=16)


def test_an_encoder_is_the_same_with_and_without() -> None:
    before, after = fitted(PLAIN), fitted(DERIVED)
    assert before.to_state() == after.to_state()
    assert np.array_equal(before.encode(PLAIN), after.encode(DERIVED))
    brought = replace(PLAIN[2], features={**PLAIN[2].features, "embedding": Embedding((0.5,) * 16)})
    both = fitted([*PLAIN, brought])
    assert both.width > before.width
    assert np.array_equal(both.encode(PLAIN), both.encode(DERIVED))


def test_content_sees_the_same_vectors_with_and_without() -> None:
    before = vectors_of(PLAIN, EMBEDDER, 16)
    after = vectors_of(DERIVED, EMBEDDER, 16)
    for one, other in zip(before, after, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert np.allclose(one, other, atol=1e-6)  # type: ignore[arg-type]


def test_vectors_of_another_embedder_are_passed_over() -> None:
    (found,) = vectors_of([derived(PLAIN[0], HashingEmbedder(32))], EMBEDDER, 16)
    (expected,) = vectors_of(PLAIN[:1], EMBEDDER, 16)
    assert np.array_equal(found, expected)  # type: ignore[arg-type]
    same_width = derived(PLAIN[0], HashingEmbedder(16, ngram=4))
    (found,) = vectors_of([same_width], EMBEDDER, 16)
    assert np.array_equal(found, expected)  # type: ignore[arg-type]


def test_it_travels_marked_and_is_ignored_when_sent_back() -> None:
    message = entity_to_proto(DERIVED[0])
    assert read_entity(message).features == dict(DERIVED[0].features)
    violations = Violations(now=NOW)
    back = entity_from_proto(entity_pb2.Entity.FromString(message.SerializeToString()), violations)
    violations.raise_if_any()
    assert back.features == dict(PLAIN[0].features)


def test_a_snapshot_keeps_the_mark(tmp_path: Path) -> None:
    brought = startup("d", embedding=Embedding((0.5,) * 16))
    stored = [replace(e, create_time=NOW, update_time=NOW) for e in (*DERIVED, brought)]
    write_snapshot(tmp_path, entity_tables(stored), watermark=1, created=NOW)
    assert [e.features for e in entities_of(read_snapshot(tmp_path), "startup")] == [
        e.features for e in stored
    ]
