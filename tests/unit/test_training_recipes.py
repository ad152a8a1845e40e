"""Recipes find what is there to be found in small worlds whose right answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from matchloop.entities import EntityId
from matchloop.errors import InvalidInput, TooFewExamples
from matchloop.position import Weighting
from matchloop.rerank.calibration import DEFAULT_PLATT, logit
from matchloop.rerank.scorer import Ranker
from matchloop.testing.worlds import checkerboard
from matchloop.usecase import Method
from tests.unit.training_worlds import INVESTORS, named, of_checkerboard, ranked_world, snapshot_of
from training_jobs.assemble import two_tower_model
from training_jobs.build import build_datasets
from training_jobs.config import AlsConfig, AlsTrial, Loss, RankerConfig, TwoTowerConfig, load_config
from training_jobs.datasets import RankerDataset, als_matrix, als_pairs, ranker_dataset, ranker_examples
from training_jobs.datasets.ranker import take
from training_jobs.evaluate import truth_of
from training_jobs.material import Material
from training_jobs.recipes.als import train_als
from training_jobs.recipes.onnx_graph import feed_forward
from training_jobs.recipes.ranker import (
    comparisons,
    each_list_ndcg,
    list_ndcg,
    recalibrated,
    train_ranker,
)
from training_jobs.recipes.ranker_network import RankerNetwork
from training_jobs.recipes.towers import Tower
from training_jobs.recipes.two_tower import train_two_tower
from training_jobs.scoring import Known, als_top, two_tower_top

SIZE = 12
SMALL = TwoTowerConfig(
    hidden=(16,), width=8, dropout=(0.0,), epochs=30, batch=32, learning_rate=0.01, threads=1, patience=30
)


@pytest.fixture
def board(tmp_path: Path) -> Material:
    return Material(of_checkerboard(tmp_path, checkerboard(SIZE)), INVESTORS, validation_share=0.0)


def diagonal_found(top: NDArray[np.int64]) -> float:
    """Share of subjects whose first item is of their own colour and new: the diagonal is all that is left."""
    return float((top[:, 0] == np.arange(SIZE)).mean())


def withheld(board: Material) -> tuple[Known, object]:
    diagonal = np.arange(SIZE)
    events = board.events
    return Known.of(events), truth_of((diagonal, diagonal), (events.subject, events.item), (SIZE, SIZE))


def test_als_recovers_the_withheld_diagonal(board: Material) -> None:
    known, truth = withheld(board)
    matrix = als_matrix(als_pairs(board.ordered), use_case=INVESTORS.id, snapshot="x")
    config = AlsConfig(factors=4, trials=(AlsTrial(regularization=0.1, alpha=10.0),))
    found = train_als(matrix, config, seed=1)

    assert diagonal_found(als_top(found.model, board, known, truth, 1)) == 1.0  # type: ignore[arg-type]
    assert found.metrics["als_explained_variance"] > 0.5
    assert found.metrics["als_reconstruction_error"] < 0.5


def test_als_uses_the_setting_the_judge_likes_best(board: Material) -> None:
    matrix = als_matrix(als_pairs(board.ordered), use_case=INVESTORS.id, snapshot="x")
    trials = tuple(AlsTrial(regularization=r, alpha=10.0) for r in (0.1, 7.0, 3.0))
    found = train_als(matrix, AlsConfig(factors=4, trials=trials), seed=1, judge=lambda m: m.regularization)

    assert found.trial.regularization == 7.0
    assert [quality for _, quality in found.quality] == [0.1, 7.0, 3.0]


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("history", [True, False])
def test_two_tower_recovers_the_withheld_diagonal(board: Material, loss: Loss, history: bool) -> None:
    known, truth = withheld(board)
    config = SMALL.model_copy(update={"loss": loss, "history": history})
    data = build_datasets(board, load_config("fast"))
    trained = train_two_tower(
        data.pairs, board.encoded.subjects, board.encoded.items, config, random_negatives=2, seed=1
    )
    model = two_tower_model(board, trained)

    assert diagonal_found(two_tower_top(model, board, known, truth, 1)) == 1.0  # type: ignore[arg-type]
    np.testing.assert_allclose(model.embed_items(board.items), trained.item_vectors, atol=1e-5)


def test_two_tower_is_the_same_for_the_same_seed(board: Material) -> None:
    data = build_datasets(board, load_config("fast"))
    config = SMALL.model_copy(update={"epochs": 2})
    one, two, other = (
        train_two_tower(
            data.pairs, board.encoded.subjects, board.encoded.items, config, random_negatives=2, seed=seed
        )
        for seed in (1, 1, 2)
    )

    assert one.subject_network == two.subject_network != other.subject_network


def test_two_tower_keeps_the_best_epoch_and_stops(board: Material) -> None:
    data = build_datasets(board, load_config("fast"))
    told = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.1])
    found = train_two_tower(
        data.pairs,
        board.encoded.subjects,
        board.encoded.items,
        SMALL.model_copy(update={"patience": 2}),
        random_negatives=2,
        seed=1,
        judge=lambda _subjects, _items: next(told),
    )

    assert (found.best_epoch, found.curves["two_tower_validation"]) == (1, [0.1, 0.5, 0.4, 0.3])


def test_onnx_answers_as_torch_does() -> None:
    torch.manual_seed(0)
    tower = Tower(7, SMALL).eval()
    rows = torch.randn(5, 7)
    session = onnxruntime.InferenceSession(tower.to_onnx(), providers=["CPUExecutionProvider"])
    expected = tower(rows).detach().numpy()

    np.testing.assert_allclose(session.run(None, {"features": rows.numpy()})[0], expected, atol=1e-5)
    zero = feed_forward(
        [(np.zeros((2, 3), np.float32), np.zeros(2, np.float32))],
        input_name="x",
        output_name="y",
        normalise=True,
    )
    session = onnxruntime.InferenceSession(zero, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones((1, 3), np.float32)})[0].tolist() == [[0.0, 0.0]]


def test_tiny_data_is_an_error_with_the_numbers(tmp_path: Path) -> None:
    people = [*named("investor", ["a"]), *named("startup", ["s"])]
    material = Material(snapshot_of(tmp_path, people), INVESTORS, validation_share=0.0)
    data = build_datasets(material, load_config("fast"))

    with pytest.raises(TooFewExamples, match="0 subjects, 0 items and 0 pairs"):
        train_als(data.als, AlsConfig(), seed=1)
    with pytest.raises(TooFewExamples, match="0 positives and 0 negatives of 1 subjects and 1 items"):
        train_two_tower(
            data.pairs, material.encoded.subjects, material.encoded.items, SMALL, random_negatives=2, seed=1
        )


@pytest.fixture
def lists(tmp_path: Path) -> RankerDataset:
    material = Material(ranked_world(tmp_path), INVESTORS, validation_share=0.1)
    examples = ranker_examples(material.tables, INVESTORS, load_config("fast").dataset)
    return ranker_dataset(examples, use_case=INVESTORS, snapshot="x", weighting=Weighting.DISCOUNT)


def test_the_ranker_learns_what_the_teacher_does_not_know(lists: RankerDataset, tmp_path: Path) -> None:
    config = RankerConfig(learning_rate=0.01, epochs=15)
    found = train_ranker(lists, config, validation_share=0.2, seed=1, calibration={})

    assert found.metrics["ranker_ndcg@10"] > 0.9 > found.metrics["teacher_ndcg@10"] + 0.1
    found.write(tmp_path / "ranker", INVESTORS)
    ranker = Ranker.load(tmp_path / "ranker", INVESTORS)
    scores = logit(lists.original_score) + ranker.adjustment(lists.features)
    assert list_ndcg(lists, scores) > 0.9


def test_the_ranker_learns_from_dislikes_in_lists_without_a_positive(
    lists: RankerDataset, tmp_path: Path
) -> None:
    column = lists.feature_names.index("popularity")  # noise, but for what was disliked
    recent = lists.features[:, lists.feature_names.index("recency")] > 0.6  # as positives are
    rejected = (lists.group % 2 == 1) & (lists.features[:, column] > 0.5) & recent
    changed = replace(
        lists,
        label=np.where(lists.group % 2 == 1, 0.0, lists.label).astype(np.float32),
        source=np.where(rejected, "disliked", lists.source).astype(object),
    )
    kept = take(changed, (lists.group % 2 == 0) | rejected)
    # Without the teacher, which is noise here: 300 lists are too few to tell two more columns apart.
    config = RankerConfig(learning_rate=0.01, epochs=15, teacher_seen=False)
    found = train_ranker(kept, config, validation_share=0.2, seed=1, calibration={})

    found.write(tmp_path / "ranker", INVESTORS)
    adjusted = Ranker.load(tmp_path / "ranker", INVESTORS).adjustment(lists.features)
    assert np.corrcoef(adjusted[recent], lists.features[recent, column])[0, 1] < -0.2


def test_an_untrained_ranker_leaves_the_teachers_order(lists: RankerDataset) -> None:
    assert not RankerNetwork(lists.features, lists.feature_names, RankerConfig()).adjust(lists.features).any()


def test_comparisons_are_the_pairs_within_lists(lists: RankerDataset) -> None:
    up, down = comparisons(lists)

    assert (lists.group[up] == lists.group[down]).all()
    assert (lists.label[up] == 1.0).all()
    assert (lists.label[down] == 0.0).all()
    expected = sum(
        int(lists.label[lists.group == g].sum()) * int((lists.label[lists.group == g] == 0).sum())
        for g in np.unique(lists.group)
    )
    assert len(up) == expected


def test_too_few_positives_train_no_ranker(lists: RankerDataset) -> None:
    with pytest.raises(TooFewExamples, match="300 strong positives"):
        train_ranker(lists, RankerConfig(least_positives=301), validation_share=0.1, seed=1, calibration={})


def test_recalibration_keeps_the_order_and_the_feature_in_step(lists: RankerDataset) -> None:
    informed = lists.features.copy()
    column = lists.feature_names.index("original_score")
    informed[:, column] = 0.3 + 0.4 * lists.label + 0.01 * lists.features[:, 0]
    changed = RankerDataset(
        **{
            name: getattr(lists, name)
            for name in RankerDataset.__dataclass_fields__
            if name not in ("features", "original_score")
        },
        features=informed,
        original_score=informed[:, column],
    )
    found, fitted = recalibrated(changed, {}, least_positives=30)
    logged = (logit(changed.original_score) + 2.0) / 4.0  # content's, before its calibration
    other = replace(
        changed, retrieval_score=logged, original_score=1.0 - changed.original_score
    )  # by another release
    assert recalibrated(other, {}, least_positives=30)[1][Method.CONTENT].slope == pytest.approx(
        fitted[Method.CONTENT].slope, rel=1e-3
    )

    assert fitted[Method.CONTENT] != DEFAULT_PLATT[Method.CONTENT]
    np.testing.assert_array_equal(found.features[:, column], found.original_score)
    assert (np.diff(found.original_score[np.argsort(changed.original_score)]) >= 0.0).all()
    same, kept = recalibrated(changed, {}, least_positives=10_000)
    np.testing.assert_allclose(same.original_score, changed.original_score, atol=1e-3)
    assert kept[Method.CONTENT] == DEFAULT_PLATT[Method.CONTENT]
    assert len(each_list_ndcg(found, found.original_score)) == 300


@pytest.mark.parametrize("preset", ["default", "fast", "deep"])
def test_presets_load(preset: str) -> None:
    assert load_config(preset).name == preset


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("seed = 'x'\n[als]\nfactors = 0\n[two_tower]\nunheard = 1\n")

    with pytest.raises(InvalidInput) as raised:
        load_config(tmp_path / "own.toml")

    fields = {violation.field.split(": ")[1] for violation in raised.value.violations}
    assert fields == {"seed", "als.factors", "two_tower.unheard"}
    with pytest.raises(InvalidInput, match="deep, default, fast"):
        load_config("slow")


def test_what_is_measured_is_what_is_served(board: Material) -> None:
    known, truth = withheld(board)
    config = SMALL.model_copy(update={"epochs": 3})
    trained = train_two_tower(
        build_datasets(board, load_config("fast")).pairs,
        board.encoded.subjects,
        board.encoded.items,
        config,
        random_negatives=2,
        seed=1,
    )
    model = two_tower_model(board, trained)
    history = [
        [(board.items[item], weight) for item, weight in zip(*known.positive(row), strict=True)]
        for row in range(SIZE)
    ]
    served = model.embed_subjects(board.subjects, history)
    expected = [
        [hit.score for hit in model.search(served[row], 3, exclude=seen_by(board, row))]
        for row in range(SIZE)
    ]

    measured = two_tower_top(model, board, known, truth, 3, board.encoded)  # type: ignore[arg-type]
    scores = [served[row] @ trained.item_vectors[measured[row]].T for row in range(SIZE)]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def seen_by(board: Material, row: int) -> list[EntityId]:
    return [board.items[item].key.id for item in board.events.item[board.events.subject == row].tolist()]
