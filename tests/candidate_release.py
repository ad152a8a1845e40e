"""A release whose right answers are known: towers that compare categories, one ALS factor per category."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from matchloop.entities import Categorical, Entity, EntityId, Multi, discrete_values
from matchloop.features import EntityEncoder, HashingEmbedder
from matchloop.release import GoldenCase, Manifest, SnapshotReference, write_golden
from matchloop.retrieval.als import AlsModel
from matchloop.retrieval.choices import ENSEMBLE, Choices
from matchloop.retrieval.popular import PopularModel
from matchloop.retrieval.two_tower import TwoTowerModel
from matchloop.usecase import FeatureType
from tests.candidate_world import CATEGORIES, NOW, developer, startup, use_case

PARTS = ("als", "two_tower", "popular")


def linear(weights: NDArray[np.float64]) -> bytes:
    """Return an ONNX network that multiplies by `weights`, (input width, output width)."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weights.shape[0]])
    result = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", weights.shape[1]])
    matrix = numpy_helper.from_array(weights.astype(np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["vector"])
    graph = helper.make_graph([node], "tower", [given], [result], [matrix])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def two_tower(items: Sequence[Entity], *, uses_history: bool = True) -> TwoTowerModel:
    """Both towers pass the category's columns on; history counts as much as the subject's own."""
    embedder = HashingEmbedder(use_case().embedding_width)
    width = use_case().embedding_width
    fitted = [startup(name, category=Categorical(name)) for name in CATEGORIES]
    wanted = [developer(name, categories=Multi((name,))) for name in CATEGORIES]
    item = EntityEncoder.fit(
        {"category": FeatureType.CATEGORICAL}, fitted * 2, embedder=embedder, embedding_width=width, buckets=1
    )
    subject = EntityEncoder.fit(
        {"categories": FeatureType.MULTI}, wanted * 2, embedder=embedder, embedding_width=width, buckets=1
    )
    same = np.eye(item.width)
    model = TwoTowerModel(
        linear(np.vstack([same, same]) if uses_history else same),
        linear(same),
        subject_encoder=subject,
        item_encoder=item,
        item_ids=[],
        item_vectors=np.zeros((0, item.width), dtype=np.float32),
        uses_history=uses_history,
    )
    vectors = model.embed_items(items)
    return TwoTowerModel(
        linear(np.vstack([same, same]) if uses_history else same),
        linear(same),
        subject_encoder=subject,
        item_encoder=item,
        item_ids=[each.key.id for each in items],
        item_vectors=vectors,
        uses_history=uses_history,
    )


def als(items: Sequence[Entity], subjects: Mapping[str, str]) -> AlsModel:
    """One factor per category; `subjects` by id have the category they like."""
    axis = {name: np.eye(len(CATEGORIES), dtype=np.float32)[at] for at, name in enumerate(CATEGORIES)}
    return AlsModel(
        [each.key.id for each in items],
        np.stack([axis[discrete_values(each.features["category"])[0]] for each in items]),
        [EntityId(name) for name in subjects],
        np.stack([axis[liked] for liked in subjects.values()]),
        regularization=0.1,
    )


def popular(items: Sequence[Entity]) -> PopularModel:
    """Overall the first item; within country `us` the last."""
    last = len(items) - 1
    rows = np.array([0] * 10 + [last] * 3)
    segments = {"country": [("de",)] * 10 + [("us",)] * 3}
    return PopularModel.build(
        [each.key.id for each in items],
        rows,
        np.zeros(13),
        np.ones(13),
        segments,
        half_life_days=30.0,
        smoothing=1.0,
    )


def write_release(
    folder: Path,
    items: Sequence[Entity],
    *,
    release: str = "r1",
    created: datetime = NOW,
    parts: Sequence[str] = PARTS,
    orders: Mapping[str, Sequence[str]] | None = None,
    choices: Choices | None = None,
) -> Path:
    """Write a release over `items` (each with a category) and return its folder."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    golden: dict[str, GoldenCase] = {}
    if "als" in parts:
        factors = als(items, {"trained": "games"})
        factors.save(folder / "als")
        golden["als"] = factors.golden_case(rng)
    if "two_tower" in parts:
        model = two_tower(items)
        model.subject_encoder.save(folder / "encoder" / "subject.json")
        model.item_encoder.save(folder / "encoder" / "item.json")
        model.save(folder / "two_tower")
        golden["two_tower"] = model.golden_case(rng)
    if "popular" in parts:
        popular(items).save(folder / "popular")
    if orders is not None:
        (folder / "routing.json").write_text(json.dumps(orders), encoding="utf-8")
    if choices is not None:
        choices.write(folder)
        golden[ENSEMBLE] = choices.golden_case()
    write_golden(folder, golden)
    write_manifest(folder, release=release, created=created, parts=parts)
    return folder


def write_manifest(
    folder: Path, *, release: str, created: datetime = NOW, parts: Sequence[str] = PARTS
) -> None:
    """Write a release's manifest; again, to make a change look meant."""
    Manifest.write(
        folder,
        release=release,
        use_case=use_case(),
        created=created,
        snapshot=SnapshotReference(watermark="1", manifest_sha256="0" * 64),
        parts=list(parts),
        metrics={"ndcg_at_10": 0.5},
    )
