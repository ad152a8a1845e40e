"""What large catalogues do differently is as right as what small ones do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from matchloop.entities import Categorical, Embedding, Entity, EntityId, EntityKey, FeatureValue, Kind, Multi
from matchloop.errors import InvalidInput, ReleaseRefused
from matchloop.features import HashingEmbedder
from matchloop.retrieval.content import ContentIndex
from matchloop.retrieval.content_vectors import ContentVectors
from matchloop.retrieval.profile import ContentProfile
from matchloop.retrieval.ragged import Ragged
from matchloop.retrieval.vector_index import VectorIndex
from matchloop.usecase import load_use_cases

USE_CASE = load_use_cases()["investor_startup"]
WIDTH = USE_CASE.embedding_width


def unit_rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def test_a_graph_is_read_as_it_was_written_and_goes_on_from_there(tmp_path: Path) -> None:
    ids = [EntityId(f"i{at}") for at in range(500)]
    vectors = unit_rows(500, 8)
    index = VectorIndex(8, exact_below=10)
    index.upsert(ids, vectors)
    index.remove(ids[:50])
    kept = index.save(tmp_path / "items.faiss")
    again = VectorIndex.load(tmp_path / "items.faiss", kept, 8)
    assert (set(again.item_ids), len(again), again.has_graph) == (set(ids[50:]), 450, True)
    for query in vectors[100:110]:
        assert again.search(query, 10) == index.search(query, 10)
    assert again.recall(vectors[:50]) >= 0.95
    again.upsert([EntityId("new")], vectors[:1])
    assert again.search(vectors[0], 1)[0].item == "new"
    held = again.vector(ids[60])
    assert held is not None
    assert np.array_equal(held, vectors[60])
    for wrong in ({"ids": kept[1:], "width": 8}, {"ids": kept, "width": 9}):
        with pytest.raises(ReleaseRefused):
            VectorIndex.load(tmp_path / "items.faiss", **wrong)  # type: ignore[arg-type]
    (tmp_path / "items.faiss").write_bytes((tmp_path / "items.faiss").read_bytes()[:1000])
    with pytest.raises(ReleaseRefused):
        VectorIndex.load(tmp_path / "items.faiss", kept, 8)
    with pytest.raises(InvalidInput):
        VectorIndex(8).save(tmp_path / "none")


def test_vectors_in_bytes_are_nearly_the_vectors() -> None:
    vectors, query = unit_rows(300, 64), unit_rows(1, 64, seed=1)[0]
    exact, small = ContentVectors(64, exact_below=1000), ContentVectors(64, exact_below=100)
    for row, vector in enumerate(vectors):
        for each in (exact, small):
            each.grow(row + 1)
            each.put([row], [None if row == 7 else vector])
    assert (exact.exact, small.exact) == (True, False)
    assert exact.get(7) is small.get(7) is None
    assert np.allclose(exact.dot(query, 300), small.dot(query, 300), atol=0.01)
    rows = np.asarray([5, 7, 299])
    assert np.allclose(small.dot_rows(query, rows), small.dot(query, 300)[rows], atol=1e-6)


def test_content_of_many_items_finds_what_comparing_all_finds() -> None:
    rng = np.random.default_rng(2)
    vectors = unit_rows(6000, WIDTH)
    items = [
        Entity(
            EntityKey(Kind("startup"), EntityId(f"i{at}")),
            {
                "category": Categorical(f"c{rng.integers(20)}"),
                "tags": Multi(tuple({f"t{tag}" for tag in rng.integers(0, 50, 3).tolist()})),
                "embedding": Embedding(tuple(vectors[at].tolist())),
            },
        )
        for at in range(len(vectors))
    ]
    embedder = HashingEmbedder(WIDTH)
    exact, many = ContentIndex(USE_CASE, embedder), ContentIndex(USE_CASE, embedder, exact_below=100)
    for index in (exact, many):
        index.upsert(items)
    profile = ContentProfile(
        {"category": {"c3": 0.8, "c4": 0.2}, "tags": {"t1": 0.5, "t2": -0.5}}, vectors[9]
    )
    best = {hit.item: hit.score for hit in exact.search(profile, 20)}
    found = {hit.item: hit.score for hit in many.search(profile, 20)}
    assert len(best.keys() & found.keys()) >= 18
    assert all(abs(found[item] - best[item]) < 0.01 for item in best.keys() & found.keys())
    few = {f"i{at}" for at in range(0, 6000, 100)}
    assert {hit.item for hit in many.search(profile, 9, allow=few.__contains__)} <= few
    assert len(many.search(profile, 9, allow=few.__contains__)) == 9


def test_lines_of_numbers_are_what_was_put_last() -> None:
    rng, ragged, expected = np.random.default_rng(1), Ragged(), [[] for _ in range(40)]  # type: ignore[var-annotated]
    for _ in expected:
        ragged.add()
    for at in rng.integers(0, 40, 30_000).tolist():
        expected[at] = rng.integers(0, 99, rng.integers(0, 9)).tolist()
        ragged.put(at, expected[at])
    assert [ragged.get(at).tolist() for at in range(40)] == expected
    numbers, counts = ragged.of(np.asarray([3, 3, 0]))
    assert numbers.tolist() == [*expected[3], *expected[3], *expected[0]]
    assert counts.tolist() == [len(expected[at]) for at in (3, 3, 0)]
    assert len(ragged._numbers) < 300_000  # gaps are closed in time


def item(at: int, rng: np.random.Generator) -> Entity:
    features: dict[str, FeatureValue] = {
        "category": Categorical(f"c{rng.integers(4)}"),
        "tags": Multi(tuple({f"t{min(tag, 90)}" for tag in rng.zipf(1.5, 3).tolist()})),
    }
    if rng.random() < 0.1:
        del features["category"]
    return Entity(EntityKey(Kind("startup"), EntityId(f"i{at}")), features)


def test_content_of_many_items_stays_right_as_they_come_change_and_go() -> None:
    rng, embedder = np.random.default_rng(3), HashingEmbedder(WIDTH)
    exact, many = ContentIndex(USE_CASE, embedder), ContentIndex(USE_CASE, embedder, exact_below=300)
    profile = ContentProfile(
        {"category": {"c1": 0.9, "c2": -0.3}, "tags": {"t1": 0.3, "t2": -0.2, "t50": 0.4, "t90": 0.1}}, None
    )
    for step in range(30):
        changed = [item(at, rng) for at in rng.integers(0, 6000, 300).tolist()]
        gone = [EntityId(f"i{at}") for at in rng.integers(0, 6000, 40).tolist()]
        for index in (exact, many):
            index.upsert(changed)
            index.remove(gone)
        best = {hit.item: hit.score for hit in exact.search(profile, 10_000)}
        assert {hit.item: hit.score for hit in many.search(profile, 10_000)} == pytest.approx(best, abs=1e-6)
        for k in (1, 20):
            found = [hit.score for hit in many.search(profile, k)]
            assert found == pytest.approx(sorted(best.values(), reverse=True)[:k], abs=1e-6), step
    again = ContentIndex(USE_CASE, embedder, exact_below=300)
    again.restore(many.arrays()[0], *many.arrays()[1])  # type: ignore[arg-type]
    assert {hit.item: hit.score for hit in again.search(profile, 10_000)} == pytest.approx(best, abs=1e-6)
