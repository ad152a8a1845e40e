"""The embedder and the encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from matchloop.entities import (
    Categorical,
    Embedding,
    Entity,
    EntityId,
    EntityKey,
    FeatureValue,
    Kind,
    Multi,
    Numeric,
    Text,
)
from matchloop.errors import InvalidInput, ReleaseRefused
from matchloop.features import EntityEncoder, HashingEmbedder, load_embedder
from matchloop.usecase import FeatureType

SCHEMA = {
    "category": FeatureType.CATEGORICAL,
    "tags": FeatureType.MULTI,
    "year": FeatureType.NUMERIC,
    "name": FeatureType.TEXT,
    "embedding": FeatureType.EMBEDDING,
}
EMBEDDER = HashingEmbedder(16)


def entity(id_: str, **features: FeatureValue) -> Entity:
    return Entity(EntityKey(Kind("startup"), EntityId(id_)), features)


CATALOGUE = [
    entity(
        "a",
        category=Categorical("red"),
        tags=Multi(("x", "y")),
        year=Numeric(2000.0),
        name=Text("Deep Sea Robots"),
        embedding=Embedding((3.0, 4.0)),
    ),
    entity("b", category=Categorical("red"), tags=Multi(("x",)), year=Numeric(2010.0), name=Text("Robots")),
    entity("c", category=Categorical("blue"), tags=Multi(("y", "rare"))),
    entity("d"),
]


def fitted(**changes: int) -> EntityEncoder:
    return EntityEncoder.fit(SCHEMA, CATALOGUE, embedder=EMBEDDER, embedding_width=2, **changes)


def test_texts_that_share_words_or_stems_are_nearer() -> None:
    embedder = HashingEmbedder()
    rows = embedder.embed(["cloud robotics", "Robotics, CLOUD!", "robots in clouds", "fresh fish market", ""])
    assert rows.shape == (5, 384)
    assert rows.dtype == np.float32
    assert rows[0] @ rows[1] == pytest.approx(1.0)
    assert rows[0] @ rows[2] > rows[0] @ rows[3] + 0.1
    assert not rows[4].any()
    assert np.allclose(np.linalg.norm(rows[:4], axis=1), 1.0, atol=1e-6)


def test_the_embedders_name_says_what_its_output_depends_on() -> None:
    names = {HashingEmbedder(16).name, HashingEmbedder(32).name, HashingEmbedder(16, ngram=4).name}
    assert len(names) == 3


def test_an_embedder_at_a_path_is_refused_by_name(tmp_path: Path) -> None:
    assert load_embedder(None, 64).width == 64
    with pytest.raises(InvalidInput, match="sbert"):
        load_embedder(tmp_path / "sbert", 384)


def test_known_values_have_columns_and_the_others_share_buckets() -> None:
    encoder = fitted(buckets=2, min_count=1, max_values=8)
    category, tags = encoder.slices["category"], encoder.slices["tags"]
    rows = encoder.encode([*CATALOGUE, entity("e", category=Categorical("never seen"))])
    assert rows[0, category].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]  # red, the most frequent, first
    assert np.linalg.norm(rows[0, tags]) == pytest.approx(1.0)
    assert rows[3, category][-1] == 1.0
    assert rows[4, category][2:4].sum() == 1.0  # a bucket
    assert rows[4, category][[0, 1, 4]].sum() == 0.0


def test_values_few_entities_have_go_to_the_buckets() -> None:
    encoder = fitted(buckets=3)
    assert encoder.slices["tags"].stop - encoder.slices["tags"].start == 2 + 3 + 1  # x and y, not `rare`


def test_numbers_are_standardised_clipped_and_may_be_missing() -> None:
    encoder = fitted()
    year = encoder.slices["year"]
    rows = encoder.encode([*CATALOGUE, entity("far", year=Numeric(1e12))])
    assert rows[:2, year].tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert rows[3, year].tolist() == [0.0, 1.0]
    assert rows[4, year].tolist() == [5.0, 0.0]


def test_texts_and_embeddings_stand_as_unit_vectors() -> None:
    encoder = fitted()
    rows = encoder.encode(CATALOGUE)
    assert np.allclose(rows[0, encoder.slices["embedding"]], [0.6, 0.8, 0.0])
    assert rows[1, encoder.slices["embedding"]].tolist() == [0.0, 0.0, 1.0]
    assert np.array_equal(rows[0, encoder.slices["name"]][:-1], EMBEDDER.embed(["Deep Sea Robots"])[0])
    assert rows[2, encoder.slices["name"]][-1] == 1.0


def test_a_feature_nobody_had_gets_no_columns() -> None:
    encoder = EntityEncoder.fit(SCHEMA, CATALOGUE[1:2], embedder=EMBEDDER, embedding_width=2)
    assert "embedding" not in encoder.slices
    assert encoder.encode([CATALOGUE[0]]).shape == (1, encoder.width)


def test_nothing_to_fit_on_encodes_to_nothing() -> None:
    encoder = EntityEncoder.fit(SCHEMA, [], embedder=EMBEDDER, embedding_width=2)
    assert encoder.encode(CATALOGUE).shape == (4, 0)
    assert fitted().encode([]).shape == (0, fitted().width)


def test_every_violation_is_named() -> None:
    bad = [
        entity("p", year=Numeric(float("nan")), category=Text("red")),
        entity("q", embedding=Embedding((1.0,))),
        entity("r", embedding=Embedding((1.0, float("inf")))),
    ]
    with pytest.raises(InvalidInput) as caught:
        fitted().encode(bad)
    assert [violation.field for violation in caught.value.violations] == [
        "startup/p: year",
        "startup/p: category",
        "startup/q: embedding",
        "startup/r: embedding",
    ]
    with pytest.raises(InvalidInput):
        EntityEncoder.fit(SCHEMA, bad, embedder=EMBEDDER, embedding_width=2)
    with pytest.raises(InvalidInput):
        fitted(buckets=0)


def test_a_saved_encoder_encodes_alike(tmp_path: Path) -> None:
    encoder = fitted()
    encoder.save(tmp_path / "encoder" / "item.json")
    again = EntityEncoder.load(tmp_path / "encoder" / "item.json", EMBEDDER)
    assert np.array_equal(again.encode(CATALOGUE), encoder.encode(CATALOGUE))
    assert again.to_state() == encoder.to_state()


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"columns": {"nope": {}}}, {"schema": None}, {"columns": {"year": {"mean": 1}}}],
)
def test_a_malformed_state_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ReleaseRefused):
        EntityEncoder.from_state({**fitted().to_state(), **change}, EMBEDDER)


def test_another_embedder_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match="hashing-16"):
        EntityEncoder.from_state(fitted().to_state(), HashingEmbedder(32))
    broken = tmp_path / "item.json"
    for text in ("{", json.dumps([1])):
        broken.write_text(text)
        with pytest.raises(ReleaseRefused, match=r"item\.json"):
            EntityEncoder.load(broken, EMBEDDER)
    with pytest.raises(ReleaseRefused):
        EntityEncoder.load(tmp_path / "none.json", EMBEDDER)
