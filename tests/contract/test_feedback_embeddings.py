"""What every store promises of embeddings derived from texts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np

from feedback_svc.catalog import ChangePosition, UpsertCounts
from feedback_svc.embeddings import EmbeddedKind, embed_kind, embedded_kinds
from feedback_svc.store.features import sent
from feedback_svc.store.protocol import Store
from matchloop.entities import Embedding, Entity, Text
from matchloop.features import HashingEmbedder
from matchloop.retrieval.profile import text_of
from tests.feedback_worlds import NOW, USE_CASE, key, startup, use_cases

KIND = EmbeddedKind("startup", ("embedding",), 16)
EMBEDDER = HashingEmbedder(16)
LATER = NOW + timedelta(hours=1)


def named(id_: str, name: str, **features: object) -> Entity:
    return startup(id_, name=Text(name), **features)  # type: ignore[arg-type]


def run(store: Store, embedder: HashingEmbedder = EMBEDDER, batch: int = 2) -> int:
    return embed_kind(store, replace(KIND, width=embedder.width), embedder, batch=batch)


def embedding(store: Store, id_: str) -> Embedding | None:
    found = store.get_entity(key("startup", id_)).features.get("embedding")
    assert found is None or isinstance(found, Embedding)
    return found


def test_what_lacks_one_gets_the_vector_that_serving_would_compute(store: Store) -> None:
    own = Embedding((0.5,) * 16)
    entities = [named("a", "cloud robots"), named("b", "x", embedding=own), startup("c"), named("d", "!")]
    store.upsert_entities(entities, now=NOW)
    store.upsert_entities([replace(startup("s"), key=key("investor", "s"))], now=NOW)
    assert run(store) == 1
    found = embedding(store, "a")
    assert found is not None
    assert found.embedder == EMBEDDER.name
    expected = EMBEDDER.embed([text_of(entities[0])])[0]
    assert np.array_equal(np.asarray(found.vector, np.float32), expected)
    assert embedding(store, "b") == own
    assert embedding(store, "c") is None
    assert embedding(store, "d") is None
    assert run(store) == 0


def test_a_mirror_learns_of_it_and_it_is_in_every_read(store: Store) -> None:
    store.upsert_entities([named("a", "robots")], now=NOW)
    start = ChangePosition()
    seen = store.list_entities(kinds=(), after=start, limit=9, include_inactive=True)
    run(store)
    changed = store.list_entities(
        kinds=(), after=ChangePosition(seen.next_sequence), limit=9, include_inactive=True
    )
    assert changed.rows == (store.get_entity(key("startup", "a")),)
    assert "embedding" in changed.rows[0].features
    assert changed.rows[0].update_time == NOW
    state = store.lookup_subject_state(USE_CASE, key("startup", "a"), now=NOW)
    assert state.entity is None or state.entity.features == changed.rows[0].features


def test_it_stays_while_what_is_sent_stays_and_goes_when_that_changes(store: Store) -> None:
    store.upsert_entities([named("a", "robots")], now=NOW)
    run(store)
    made = embedding(store, "a")
    assert store.upsert_entities([named("a", "robots")], now=LATER) == UpsertCounts(0, 0, 1)
    assert embedding(store, "a") == made
    store.deactivate_entities([key("startup", "a")], now=LATER)
    assert store.upsert_entities([named("a", "robots")], now=LATER) == UpsertCounts(0, 1, 0)
    assert embedding(store, "a") == made
    assert store.upsert_entities([named("a", "fish")], now=LATER) == UpsertCounts(0, 1, 0)
    assert embedding(store, "a") is None
    assert run(store) == 1
    assert embedding(store, "a") != made
    own = Embedding((0.25,) * 16)
    store.upsert_entities([named("a", "fish", embedding=own)], now=LATER)
    assert run(store) == 0
    assert sent(store.get_entity(key("startup", "a")).features)["embedding"] == own


def test_texts_that_changed_meanwhile_do_not_get_the_old_vector(store: Store) -> None:
    store.upsert_entities([named("a", "robots")], now=NOW)

    class Racing(HashingEmbedder):
        def embed(self, texts):  # type: ignore[no-untyped-def]
            store.upsert_entities([named("a", "fish")], now=LATER)
            return super().embed(texts)

    assert run(store, Racing(16)) == 0
    assert embedding(store, "a") is None


def test_another_embedder_replaces_what_the_first_one_made(store: Store) -> None:
    store.upsert_entities([named(f"a{n}", "robots") for n in range(5)], now=NOW)
    assert run(store) == 5
    wider = HashingEmbedder(32)
    assert run(store, wider) == 5
    assert run(store, wider) == 0
    found = embedding(store, "a3")
    assert found is not None
    assert (len(found.vector), found.embedder) == (32, wider.name)


def test_a_broken_off_run_goes_on(store: Store) -> None:
    store.upsert_entities([named(f"{n:02}", f"robots {n}") for n in range(7)], now=NOW)

    class Breaking(HashingEmbedder):
        left = 2

        def embed(self, texts):  # type: ignore[no-untyped-def]
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().embed(texts)

    try:
        run(store, Breaking(16))
    except KeyboardInterrupt:
        assert run(store) == 3
    else:
        raise AssertionError("it was to break off")


def test_the_kinds_that_want_one_are_those_with_texts_and_embeddings() -> None:
    found = {kind.kind: kind for kind in embedded_kinds(use_cases())}
    assert found["startup"] == EmbeddedKind("startup", ("embedding",), 384)
    assert "movie" in found
    assert "user" not in found
