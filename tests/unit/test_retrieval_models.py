"""ALS, popular and the vector index: right answers, saved and loaded, bad input refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from matchloop.entities import EntityId
from matchloop.errors import InvalidInput, ReleaseRefused
from matchloop.retrieval.als import AlsModel
from matchloop.retrieval.popular import PopularModel
from matchloop.retrieval.scored import top_k
from matchloop.retrieval.vector_index import VectorIndex
from matchloop.testing.worlds import checkerboard


def ids(n: int) -> list[EntityId]:
    return [EntityId(f"i{row}") for row in range(n)]


def als(items: int = 3) -> AlsModel:
    factors = np.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=np.float32)[:items]
    subjects = np.asarray([[1.0, 0.5]], dtype=np.float32)
    return AlsModel(ids(items), factors, [EntityId("s")], subjects, regularization=0.1, alpha=2.0)


def popular() -> PopularModel:
    return PopularModel.build(
        ids(3),
        np.asarray([0, 0, 1, 2]),
        np.asarray([0.0, 0.0, 0.0, 10.0]),
        np.asarray([1.0, 1.0, 1.0, 1.0]),
        {"country": [("GB",), ("GB",), ("FR",), ("FR",)]},
        half_life_days=10.0,
        smoothing=1.0,
    )


def test_top_k_orders_ties_by_row_and_leaves_out_what_is_excluded() -> None:
    found = top_k(np.asarray([1.0, 3.0, 3.0, 2.0, 3.0]), 3, exclude=np.asarray([1]))
    assert found.item.tolist() == [2, 4, 3]
    assert found.score.tolist() == [3.0, 3.0, 2.0]
    assert len(top_k(np.ones(3), 9)) == 3
    assert len(top_k(np.ones(3), 2, exclude=np.arange(3))) == 0
    assert len(top_k(np.zeros(0), 2)) == 0


@pytest.mark.parametrize(("scores", "k"), [([1.0, np.nan], 1), ([1.0], -1)])
def test_top_k_refuses_nan_and_negative_k(scores: list[float], k: int) -> None:
    with pytest.raises(InvalidInput):
        top_k(np.asarray(scores), k)


def test_als_finds_the_nearest_less_what_is_excluded_or_not_allowed() -> None:
    model = als()
    vector = model.subject_vector(EntityId("s"))
    assert vector is not None
    assert [hit.item for hit in model.search(vector, 2)] == ["i2", "i0"]
    excluded = [EntityId("i2"), EntityId("unknown")]
    assert [hit.item for hit in model.search(vector, 3, exclude=excluded)] == ["i0", "i1"]
    assert [hit.item for hit in model.search(vector, 3, allow=lambda item: item == "i1")] == ["i1"]
    assert model.search(vector, 3, exclude=ids(3)) == []
    assert model.search(np.zeros(2, dtype=np.float32), 3) == []
    assert model.subject_vector(EntityId("nobody")) is None


def test_als_folds_in_positive_weights_only_and_sums_repeats() -> None:
    model = als()
    once = model.fold_in(np.asarray([0, 1]), np.asarray([3.0, -1.0]))
    summed = model.fold_in(np.asarray([0, 0, 1]), np.asarray([1.0, 2.0, 0.0]))
    assert np.array_equal(once, summed)
    assert not model.fold_in(np.asarray([1]), np.asarray([-1.0])).any()
    assert not model.fold_in(np.zeros(0, dtype=np.int64), np.zeros(0)).any()


def test_als_refuses_what_is_not_finite_or_does_not_fit() -> None:
    model = als()
    nan = np.asarray([np.nan, 0.0], dtype=np.float32)
    for call in (
        lambda: model.search(nan, 1),
        lambda: model.fold_in(np.asarray([0]), np.asarray([np.inf])),
        lambda: model.fold_in(np.asarray([3]), np.asarray([1.0])),
        lambda: model.fold_in(np.asarray([0, 1]), np.asarray([1.0])),
        lambda: AlsModel(ids(1), nan[None, :], [], np.zeros((0, 2), dtype=np.float32), regularization=0.1),
    ):
        with pytest.raises(InvalidInput):
            call()


def test_als_over_an_empty_catalogue_finds_nothing() -> None:
    none = np.zeros((0, 2), dtype=np.float32)
    model = AlsModel([], none, [], none, regularization=0.0)
    assert model.search(np.ones(2, dtype=np.float32), 5) == []


def test_als_answers_golden_requests_about_what_it_was_trained_on() -> None:
    model = als(3)
    case = model.golden_case(np.random.default_rng(0))
    assert sorted(case.inputs["items"]) == ["i0", "i1", "i2"]
    assert model.answer(case.inputs)["trained"].tolist() == case.outputs["trained"]
    with pytest.raises(InvalidInput, match="stranger"):
        model.answer({**case.inputs, "subjects": ["stranger"]})
    with pytest.raises(InvalidInput):
        als(2).answer(case.inputs)


def test_als_saved_and_loaded_answers_alike(tmp_path: Path) -> None:
    als().save(tmp_path / "als")
    again = AlsModel.load(tmp_path / "als")
    vector = als().fold_in(np.asarray([0]), np.asarray([1.0]))
    assert np.array_equal(again.fold_in(np.asarray([0]), np.asarray([1.0])), vector)
    assert again.search(vector, 3) == als().search(vector, 3)


def test_als_keeps_what_it_was_trained_with(tmp_path: Path) -> None:
    factors, subjects = np.eye(3, 2, dtype=np.float32), np.ones((1, 2), dtype=np.float32)
    told = {"regularization": 0.1, "alpha": 2.0, "half_life_days": 9.0, "saturation": 0.5}
    AlsModel(ids(3), factors, [EntityId("s")], subjects, **told).save(tmp_path)  # type: ignore[arg-type]
    again = AlsModel.load(tmp_path)
    assert {name: getattr(again, name) for name in told} == told


def test_als_finds_by_graph_what_comparing_all_finds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items, subjects = (rng.gamma(2.0, size=(count, 12)).astype(np.float32) for count in (3000, 50))
    names = [EntityId(f"i{at}") for at in range(len(items))]
    people = [EntityId(f"s{at}") for at in range(len(subjects))]
    exact = AlsModel(names, items, people, subjects, regularization=0.1)
    model = AlsModel(names, items, people, subjects, regularization=0.1)
    assert exact.build_graph() is None  # few items
    recall = model.build_graph(exact_below=1000)
    assert recall is not None
    assert recall >= 0.95
    model.save(tmp_path)
    again = AlsModel.load(tmp_path)
    assert np.array_equal(again.item_factors, items)
    agreed = 0
    for vector in subjects[:20]:
        left_out = [hit.item for hit in exact.search(vector, 40)][::2]
        expected = {hit.item for hit in exact.search(vector, 20, exclude=left_out)}
        found = [hit.item for hit in again.search(vector, 20, exclude=left_out)]
        assert found == [hit.item for hit in model.search(vector, 20, exclude=left_out)]
        assert len(found) == 20
        agreed += len(expected.intersection(found))
        few = set(names[::500])
        assert {hit.item for hit in again.search(vector, 6, allow=few.__contains__)} == few
    assert agreed >= 0.95 * 20 * 20
    (tmp_path / "items.faiss").unlink()
    with pytest.raises(ReleaseRefused, match=r"items\.faiss"):
        AlsModel.load(tmp_path)


@pytest.mark.parametrize("name", ["als.json", "item_ids.json", "item_factors.npy", "subject_factors.npy"])
def test_a_damaged_als_part_is_refused(tmp_path: Path, name: str) -> None:
    als().save(tmp_path)
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ReleaseRefused):
        AlsModel.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ReleaseRefused):
        AlsModel.load(tmp_path)


def test_als_factors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    als().save(tmp_path)
    np.save(tmp_path / "item_factors.npy", np.full((3, 2), np.nan, dtype=np.float32))
    with pytest.raises(ReleaseRefused, match="not finite"):
        AlsModel.load(tmp_path)


def test_popular_counts_decay_and_segments_speak() -> None:
    model = popular()
    assert model.overall.tolist() == [2.0, 1.0, 0.5]
    assert [hit.item for hit in model.search({}, 3)] == ["i0", "i1", "i2"]
    # France: (1 + 1/3.5) / 2.5 and (0.5 + 0.5/3.5) / 2.5 against (2/3.5) / 2.5.
    french = model.search({"country": ["FR"]}, 3)
    assert [hit.item for hit in french] == ["i1", "i2", "i0"]
    assert [hit.score for hit in french] == pytest.approx([0.5142857, 0.2571429, 0.2285714])
    assert [hit.item for hit in model.search({"country": ["??"], "age": ["9"]}, 1)] == ["i0"]
    assert [hit.item for hit in model.search({}, 9, exclude=[EntityId("i0")])] == ["i1", "i2"]
    assert model.search({}, 9, exclude=ids(3)) == []


def test_popular_takes_live_counts_and_new_items() -> None:
    live = popular().with_overall({EntityId("new"): 9.0, EntityId("i0"): 0.0})
    assert [hit.item for hit in live.search({}, 2)] == ["new", "i1"]
    with pytest.raises(InvalidInput):
        popular().with_overall({EntityId("i0"): float("nan")})


def test_popular_over_nothing_answers_in_row_order() -> None:
    none = np.zeros(0)
    rows = np.zeros(0, dtype=np.int64)
    quiet = PopularModel.build(ids(2), rows, none, none, {"country": []}, half_life_days=1.0)
    assert [hit.item for hit in quiet.search({"country": ["GB"]}, 5)] == ["i0", "i1"]
    assert PopularModel.build([], rows, none, none, {}, half_life_days=1.0).search({}, 5) == []


def test_popular_saved_and_loaded_answers_alike(tmp_path: Path) -> None:
    popular().save(tmp_path)
    again = PopularModel.load(tmp_path)
    for values in ({}, {"country": ["FR"]}, {"country": ["GB", "FR"]}):
        assert again.search(values, 3) == popular().search(values, 3)
    np.save(tmp_path / "segment0_item.npy", np.asarray([0, 1, 7]))
    with pytest.raises(ReleaseRefused, match="country"):
        PopularModel.load(tmp_path)


def test_popular_refuses_bad_events() -> None:
    for rows, ages, weights, half_life in (
        ([0], [np.nan], [1.0], 1.0),
        ([0], [1.0], [np.nan], 1.0),
        ([5], [1.0], [1.0], 1.0),
        ([0], [1.0], [1.0], 0.0),
        ([0, 1], [1.0], [1.0], 1.0),
    ):
        with pytest.raises(InvalidInput):
            PopularModel.build(
                ids(2), np.asarray(rows), np.asarray(ages), np.asarray(weights), {}, half_life_days=half_life
            )


@pytest.mark.parametrize("exact_below", [10_000, 1])
def test_the_index_keeps_up_with_changes(exact_below: int) -> None:
    index = VectorIndex(2, exact_below=exact_below)
    query = np.asarray([1.0, 0.0], dtype=np.float32)
    assert index.search(query, 3) == []
    angles = np.linspace(0.0, np.pi / 2, 5)
    index.upsert(ids(5), np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))
    assert [hit.item for hit in index.search(query, 2)] == ["i0", "i1"]
    index.upsert([EntityId("i4")], np.asarray([[2.0, 0.0]], dtype=np.float32))
    index.remove([EntityId("i0"), EntityId("unknown")])
    assert [hit.item for hit in index.search(query, 9)] == ["i4", "i1", "i2", "i3"]
    assert len(index) == 4
    assert "i0" not in index
    assert index.search(query, 1, exclude=[EntityId("i4")])[0].item == "i1"
    assert [hit.item for hit in index.search(query, 9, allow=lambda item: item > "i2")] == ["i4", "i3"]
    index.remove(index.item_ids)
    assert index.search(query, 1) == []


def test_the_graph_finds_nearly_all_that_comparing_everything_finds() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    exact, graph = VectorIndex(16), VectorIndex(16, exact_below=100)
    for index in (exact, graph):
        index.upsert(ids(3000), vectors)
        index.upsert(ids(500), vectors[500:1000])  # replaced
        index.remove(ids(2900)[2800:])
    kept = 0
    for query in vectors[1000:1050]:
        excluded = [hit.item for hit in exact.search(query, 20)]
        best = {hit.item for hit in exact.search(query, 10, exclude=excluded)}
        found = [hit.item for hit in graph.search(query, 10, exclude=excluded)]
        assert len(found) == 10
        assert not set(found) & set(excluded)
        kept += len(best & set(found))
    assert kept >= 475


def test_the_index_refuses_what_does_not_fit() -> None:
    index = VectorIndex(2)
    nan = np.asarray([[np.nan, 0.0]], dtype=np.float32)
    for call in (
        lambda: index.upsert(ids(1), nan),
        lambda: index.upsert(ids(2), np.zeros((1, 2), dtype=np.float32)),
        lambda: index.search(nan[0], 1),
        lambda: index.search(np.zeros(3, dtype=np.float32), 1),
    ):
        with pytest.raises(InvalidInput):
            call()
    assert len(index) == 0


def test_als_solves_the_checkerboard() -> None:
    """One alternation from the exact two colour factors ranks every withheld diagonal first."""
    world = checkerboard(8)
    colours = np.asarray([[j % 2 == 0, j % 2 == 1] for j in range(8)], dtype=np.float32)
    item_ids = [item.key.id for item in world.items]
    none = np.zeros((0, 2), dtype=np.float32)
    model = AlsModel(item_ids, colours, [], none, regularization=0.01, alpha=10.0)
    for subject, wanted in world.withheld.items():
        seen = world.seen(subject)
        vector = model.fold_in(model.item_rows(seen), np.ones(len(seen)))
        assert model.search(vector, 1, exclude=seen)[0].item == wanted
