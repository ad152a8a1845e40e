"""The Two-Tower model at serving time, over small networks made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

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
from matchloop.features import EntityEncoder, HashingEmbedder
from matchloop.features.examples import entities_from_json
from matchloop.release import GoldenCase
from matchloop.retrieval.encoded import EncodedItems, History
from matchloop.retrieval.tower import history_vectors
from matchloop.retrieval.two_tower import TwoTowerModel
from matchloop.testing.worlds import checkerboard
from matchloop.usecase import FeatureType

EMBEDDER = HashingEmbedder(8)
WORLD = checkerboard(8)


def linear(weights: np.ndarray) -> bytes:
    """Return an ONNX network that multiplies by `weights`, shape (input width, output width)."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weights.shape[0]])
    result = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", weights.shape[1]])
    matrix = numpy_helper.from_array(weights.astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["vector"])], "tower", [given], [result], [matrix]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(onnx.load_model_from_string(model.SerializeToString()).SerializeToString())


def encoders() -> tuple[EntityEncoder, EntityEncoder]:
    subject = EntityEncoder.fit(
        {"categories": FeatureType.MULTI}, WORLD.subjects, embedder=EMBEDDER, embedding_width=8, buckets=1
    )
    item = EntityEncoder.fit(
        {"category": FeatureType.CATEGORICAL}, WORLD.items, embedder=EMBEDDER, embedding_width=8, buckets=1
    )
    return subject, item


def model(*, uses_history: bool = False) -> TwoTowerModel:
    """Both encoders give (black, white, bucket, missing); towers pass it on, history counts double."""
    subject, item = encoders()
    same = np.eye(4)
    subject_weights = np.vstack([same, 2.0 * same]) if uses_history else same
    built = TwoTowerModel(
        linear(subject_weights),
        linear(same),
        subject_encoder=subject,
        item_encoder=item,
        item_ids=[],
        item_vectors=np.zeros((0, 4), dtype=np.float32),
        uses_history=uses_history,
    )
    built.upsert_items(WORLD.items)
    return built


def test_the_towers_solve_the_checkerboard_from_features() -> None:
    built = model()
    vectors = built.embed_subjects(WORLD.subjects)
    assert vectors.shape == (8, built.width)
    for subject, vector in zip(WORLD.subjects, vectors, strict=True):
        seen = WORLD.seen(subject.key.id)
        best = built.search(vector, 1, exclude=seen)[0]
        assert best.item == WORLD.withheld[subject.key.id]
        assert best.score == pytest.approx(1.0)


def test_a_subject_with_only_history_is_answered_from_it() -> None:
    built = model(uses_history=True)
    nobody = Entity(EntityKey(Kind("investor"), EntityId("new")))
    white = [(WORLD.items[1], 2.0), (WORLD.items[0], -1.0)]
    vector = built.embed_subjects([nobody, nobody], [white, []])
    assert [hit.item for hit in built.search(vector[0], 4)] == ["i1", "i3", "i5", "i7"]
    assert np.allclose(vector[1], built.embed_subjects([nobody])[0])
    with pytest.raises(InvalidInput):
        built.embed_subjects([nobody], [white, white])


def test_encoded_items_are_kept_while_they_are_the_same_and_there_is_room() -> None:
    _, encoder = encoders()
    asked: list[str] = []
    encode = encoder.encode

    def recording(entities: Sequence[Entity]) -> NDArray[np.float32]:
        asked.extend(entity.key.id for entity in entities)
        return encode(entities)

    encoder.encode = recording  # type: ignore[method-assign]

    def rows(*items: Entity) -> NDArray[np.float32]:
        return kept.rows(history_of(*items))

    black, white = WORLD.items[:2]
    kept = EncodedItems(encoder)
    rows(black, white)
    room = kept.size
    asked.clear()
    kept = EncodedItems(encoder, most_bytes=room)
    for _ in range(2):
        np.testing.assert_array_equal(rows(white, black, white), encode([white, black, white]))
    assert asked == ["i1", "i0", "i1"]
    changed = replace(black, features=white.features)
    np.testing.assert_array_equal(rows(changed), encode([white]))
    rows(WORLD.items[2])
    assert (len(kept), kept.size) == (2, room)
    rows(white, changed)
    assert asked[3:] == ["i0", "i2", "i1"]
    assert rows().shape == (0, encoder.width)


def history_of(*items: Entity, weights: Sequence[float] = ()) -> History:
    return History([item.key.id for item in items], weights or [1.0] * len(items), items, items.__getitem__)


def test_one_subject_with_kept_items_is_embedded_as_many_are() -> None:
    built = model(uses_history=True)
    items, weights = WORLD.items[:3], (2.0, 0.5, 1.0)
    for subject in WORLD.subjects[:3]:
        events = list(zip(items, weights, strict=True))
        expected = built.embed_subjects([subject], [events])[0]
        for _ in range(2):
            found = built.embed_subject(subject, history_of(*items, weights=weights))
            np.testing.assert_array_equal(found, expected)
        alone = built.embed_subject(subject, history_of())
        np.testing.assert_array_equal(alone, built.embed_subjects([subject], [[]])[0])


def test_items_come_and_go_without_training() -> None:
    built = model()
    new = Entity(EntityKey(Kind("startup"), EntityId("new")), {"category": Categorical("black")})
    built.upsert_items([new])
    vector = built.embed_subjects(WORLD.subjects[:1])[0]
    assert "new" in {hit.item for hit in built.search(vector, 5)}
    built.remove_items([EntityId("new")])
    assert "new" not in {hit.item for hit in built.search(vector, 9)}


def test_one_at_a_time_equals_many() -> None:
    built = model()
    many = built.embed_items(WORLD.items)
    alone = np.vstack([built.embed_items([item]) for item in WORLD.items])
    assert np.allclose(many, alone, atol=1e-6)
    assert built.embed_items([]).shape == (0, built.width)


def test_a_saved_model_answers_alike(tmp_path: Path) -> None:
    subject, item = encoders()
    vectors = model().embed_items(WORLD.items)
    built = TwoTowerModel(
        linear(np.eye(4)),
        linear(np.eye(4)),
        subject_encoder=subject,
        item_encoder=item,
        item_ids=[entity.key.id for entity in WORLD.items],
        item_vectors=vectors,
    )
    built.save(tmp_path / "two_tower")
    again = TwoTowerModel.load(tmp_path / "two_tower", subject_encoder=subject, item_encoder=item)
    query = built.embed_subjects(WORLD.subjects[3:4])[0]
    assert again.search(query, 8) == built.search(query, 8)
    assert not again.uses_history
    for name in ("subject.onnx", "item_vectors.npy", "two_tower.json", "item_ids.json"):
        kept = (tmp_path / "two_tower" / name).read_bytes()
        (tmp_path / "two_tower" / name).write_bytes(b"[")
        with pytest.raises(ReleaseRefused):
            TwoTowerModel.load(tmp_path / "two_tower", subject_encoder=subject, item_encoder=item)
        (tmp_path / "two_tower" / name).write_bytes(kept)


def test_a_golden_request_reaches_both_towers_through_json() -> None:
    schema = {
        "category": FeatureType.CATEGORICAL,
        "tags": FeatureType.MULTI,
        "year": FeatureType.NUMERIC,
        "name": FeatureType.TEXT,
        "embedding": FeatureType.EMBEDDING,
    }
    features: list[dict[str, FeatureValue]] = [
        {
            "category": Categorical(f"c{at}"),
            "tags": Multi((f"t{at}", "t")),
            "year": Numeric(2000.0 + at),
            "name": Text(f"name {at}"),
            "embedding": Embedding((1.0,) * 8),
        }
        for at in (0, 0, 1, 1)
    ]
    fitted = [Entity(EntityKey(Kind("startup"), EntityId(str(at))), each) for at, each in enumerate(features)]
    encoder = EntityEncoder.fit(schema, fitted, embedder=EMBEDDER, embedding_width=8, buckets=1)
    weights = np.random.default_rng(1).normal(size=(2 * encoder.width, 4))
    built = TwoTowerModel(
        linear(weights),
        linear(weights[: encoder.width]),
        subject_encoder=encoder,
        item_encoder=encoder,
        item_ids=[],
        item_vectors=np.zeros((0, 4), dtype=np.float32),
        uses_history=True,
    )
    case = GoldenCase.model_validate_json(built.golden_case(np.random.default_rng(0), 32).model_dump_json())
    drawn = entities_from_json(case.inputs["items"])
    assert {name for entity in drawn for name in entity.features} == schema.keys()
    assert built.item_encoder.encode(drawn).any(axis=0).all()
    answers = built.answer(case.inputs)
    assert answers.keys() == case.outputs.keys()
    for name, expected in case.outputs.items():
        np.testing.assert_allclose(answers[name], expected, atol=1e-6)
    without_history = built.answer({**case.inputs, "history": [[]] * 32})
    assert np.abs(without_history["subjects"] - case.outputs["subjects"]).max() > 0.1


@pytest.mark.parametrize(
    ("subject_shape", "item_shape"), [((5, 4), (4, 4)), ((4, 4), (4, 3)), ((4, 4), (6, 4))]
)
def test_networks_that_do_not_fit_are_refused(
    subject_shape: tuple[int, int], item_shape: tuple[int, int]
) -> None:
    subject, item = encoders()
    with pytest.raises(ReleaseRefused):
        TwoTowerModel(
            linear(np.ones(subject_shape)),
            linear(np.ones(item_shape)),
            subject_encoder=subject,
            item_encoder=item,
            item_ids=[],
            item_vectors=np.zeros((0, 4), dtype=np.float32),
        )


def test_a_network_that_gives_nan_is_refused() -> None:
    subject, item = encoders()
    built = TwoTowerModel(
        linear(np.full((4, 4), np.nan)),
        linear(np.eye(4)),
        subject_encoder=subject,
        item_encoder=item,
        item_ids=[],
        item_vectors=np.zeros((0, 4), dtype=np.float32),
    )
    with pytest.raises(ReleaseRefused, match="subject tower"):
        built.embed_subjects(WORLD.subjects)


def test_history_is_the_weighted_mean_of_positive_events() -> None:
    items = np.asarray([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]], dtype=np.float32)
    found = history_vectors(items, np.asarray([0, 0, 1]), np.asarray([3.0, 1.0, -1.0]), 3)
    assert found.tolist() == [[0.75, 0.25], [0.0, 0.0], [0.0, 0.0]]
    with pytest.raises(InvalidInput):
        history_vectors(items, np.asarray([0, 0, 1]), np.asarray([np.nan, 1.0, 1.0]), 3)
    with pytest.raises(InvalidInput):
        history_vectors(items, np.asarray([0]), np.asarray([1.0]), 1)
