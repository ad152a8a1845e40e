"""What each switch of the Two-Tower recipe is for, in worlds whose right answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from matchloop.entities import Entity, EntityId, EntityKey, Kind
from matchloop.errors import InvalidInput, ReleaseRefused
from matchloop.retrieval.id_table import IdPlaces, IdTable
from matchloop.retrieval.two_tower import TwoTowerModel
from matchloop.testing.worlds import checkerboard
from tests.unit.tower_worlds import SMALL, pairs_of, same_taste, skewed, two_tastes
from tests.unit.training_worlds import INVESTORS, of_checkerboard
from training_jobs.assemble import two_tower_model
from training_jobs.build import build_datasets
from training_jobs.config import Loss, load_config
from training_jobs.evaluate import random_top, truth_of
from training_jobs.material import Material
from training_jobs.recipes.pair_batches import Sampler
from training_jobs.recipes.towers import Tower
from training_jobs.recipes.two_tower import train_two_tower
from training_jobs.scoring import Known, two_tower_top

SIZE = 12


@pytest.fixture
def board(tmp_path: Path) -> Material:
    return Material(of_checkerboard(tmp_path, checkerboard(SIZE)), INVESTORS, validation_share=0.0)


def trained(board: Material, **switches: object) -> TwoTowerModel:
    config = SMALL.model_copy(update={"dropout": (0.0,), "epochs": 25, **switches})
    found = train_two_tower(
        build_datasets(board, load_config("fast")).pairs,
        board.encoded.subjects,
        board.encoded.items,
        config,
        random_negatives=2,
        seed=1,
        subject_ids=board.subject_ids,
        item_ids=board.item_ids,
    )
    return two_tower_model(board, found)


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize(
    "switches", [{}, {"history": False}, {"ids": True}, {"ids": True, "history": False}], ids=str
)
def test_every_switch_beats_popularity_and_chance(
    board: Material, loss: Loss, switches: dict[str, bool]
) -> None:
    diagonal, events = np.arange(SIZE), board.events
    known = Known.of(events)
    truth = truth_of((diagonal, diagonal), (events.subject, events.item), (SIZE, SIZE))
    model = trained(board, loss=loss, **switches)
    popularity = np.bincount(events.item, minlength=SIZE).astype(np.float32)

    quality = {
        name: float(truth.metrics(top, 3)["ndcg@3"].mean())
        for name, top in {
            "two_tower": two_tower_top(model, board, known, truth, 3, board.encoded),
            "popular": truth.best(np.tile(popularity, (SIZE, 1)), slice(0, SIZE), 3),
            "random": random_top(truth, 3, np.random.default_rng(0)),
        }.items()
    }
    assert quality["two_tower"] > 0.8  # ids learn that the diagonal was never reacted to
    assert quality["two_tower"] > quality["popular"]
    assert quality["two_tower"] > quality["random"]


def test_a_model_with_ids_is_saved_and_answers_those_it_never_saw(board: Material, tmp_path: Path) -> None:
    built = trained(board, ids=True, id_buckets=4)
    built.save(tmp_path / "two_tower")

    def load() -> TwoTowerModel:
        return TwoTowerModel.load(
            tmp_path / "two_tower", subject_encoder=built.subject_encoder, item_encoder=built.item_encoder
        )

    again = load()
    history = [[(board.items[0], 2.0), (board.items[2], 1.0)]] * SIZE
    expected = built.embed_subjects(board.subjects, history)

    np.testing.assert_array_equal(again.embed_subjects(board.subjects, history), expected)
    one = np.vstack([again.embed_subjects([each], history[:1]) for each in board.subjects])
    np.testing.assert_allclose(one, expected, atol=1e-6)

    for subject, colour in ((board.subjects[0], 0), (board.subjects[1], 1)):
        nobody = Entity(EntityKey(Kind("investor"), EntityId("new")), subject.features)
        items = [
            Entity(EntityKey(Kind("startup"), EntityId(f"n{i}")), board.items[i].features) for i in (0, 1)
        ]
        again.upsert_items(items)
        found = again.search(again.embed_subjects([nobody])[0], SIZE + 2)
        best = [hit.item for hit in found if hit.item in ("n0", "n1")]
        assert best[0] == f"n{colour}"

    (tmp_path / "two_tower" / "item_ids_vectors.npy").unlink()
    with pytest.raises(ReleaseRefused, match="item_ids_vectors"):
        load()


def test_ids_tell_apart_what_features_do_not() -> None:
    pairs = two_tastes()
    nothing = np.ones((pairs.subjects, 2), np.float32), np.ones((pairs.items, 2), np.float32)
    quality = {}
    for ids in (False, True):
        config = SMALL.model_copy(
            update={"ids": ids, "loss": Loss.SAMPLED_SOFTMAX, "epochs": 20, "learning_rate": 0.03}
        )
        quality[ids] = same_taste(train_two_tower(pairs, *nothing, config, random_negatives=2, seed=1))

    assert quality[True] > 0.9 > 0.7 > quality[False]


def test_an_unknown_id_has_a_place_that_unknown_ids_share() -> None:
    places = IdPlaces(["a", "b"], 3)

    assert places.of(["b", "a"]).tolist() == [1, 0]
    assert (places.of(["new", "other"]) >= 2).all()
    assert places.of(["new"]) == places.shared(["new"])
    assert places.shared(["a"]) >= 2
    assert IdTable(places, np.eye(5, dtype=np.float32)).rows([]).shape == (0, 5)
    with pytest.raises(InvalidInput, match="5 places, 4 vectors"):
        IdTable(places, np.zeros((4, 2), np.float32))
    with pytest.raises(InvalidInput, match="0 buckets"):
        IdPlaces([], 0)


@pytest.mark.parametrize("correction", [1.0, 0.0])
def test_the_correction_brings_popularity_back_that_the_batch_takes_away(correction: float) -> None:
    """Subjects are alike: the best score is log p(item) corrected, and log p(item) / q(item) without.

    Half of q is p and half even, so that uncorrected scores rise about half as steeply with log p.
    """
    pairs = skewed(each=2)
    config = SMALL.model_copy(
        update={
            "loss": Loss.SAMPLED_SOFTMAX,
            "popularity_correction": correction,
            "history": False,
            "epochs": 30,
            "temperature": 0.2,
            "dropout": (0.0,),
            "batch": 64,
            "learning_rate": 0.02,
        }
    )
    rows = np.ones((pairs.subjects, 1), np.float32), np.eye(pairs.items, dtype=np.float32)
    found = train_two_tower(pairs, *rows, config, random_negatives=0, seed=1)
    scores = (found.subject_vectors[:1] @ found.item_vectors.T)[0] / config.temperature
    p = np.bincount(pairs.item, minlength=pairs.items) / len(pairs)
    uncorrected = np.log(p) - np.log(0.5 * p + 0.5 / pairs.items)
    expected = np.polyfit(np.log(p), np.log(p) if correction else uncorrected, 1)[0]

    assert np.polyfit(np.log(p), scores, 1)[0] == pytest.approx(expected, abs=0.3)
    assert expected == pytest.approx(1.0 if correction else 0.5, abs=0.1)


def test_the_chance_of_a_column_is_what_the_sampler_draws() -> None:
    subject, item = np.array([0, 0, 1, 2, 0, 1]), np.array([0, 1, 0, 2, 3, 3])
    pairs = pairs_of(subject, item, (3, 5), np.array([1, 1, 1, 1, 0, 0], np.float32))
    config = SMALL.model_copy(update={"loss": Loss.SAMPLED_SOFTMAX, "batch": 4})
    sampler = Sampler(pairs, 0, config)
    rng = np.random.default_rng(0)
    drawn = np.concatenate([b.column.numpy() for _ in range(3000) for b in sampler.epoch(rng)])
    batch = next(sampler.epoch(rng))

    share = np.bincount(drawn, minlength=5) / len(drawn)
    expected = np.exp([batch.log_q[list(batch.column.numpy()).index(i)].item() for i in (0, 1, 2)])
    np.testing.assert_allclose(share[:3], expected, atol=0.01)


@pytest.mark.parametrize("residual", [False, True])
def test_onnx_answers_as_torch_does(residual: bool) -> None:
    torch.manual_seed(0)
    tower = Tower(7, SMALL, residual=residual).eval()
    rows, added = torch.randn(5, 7), torch.randn(5, SMALL.width)
    session = onnxruntime.InferenceSession(tower.to_onnx(), providers=["CPUExecutionProvider"])
    expected = (tower(rows, added) if residual else tower(rows)).detach().numpy()
    given = (torch.cat([rows, added], dim=1) if residual else rows).numpy()

    np.testing.assert_allclose(session.run(None, {"features": given})[0], expected, atol=1e-5)
    alone = session.run(None, {"features": given[:1]})[0]
    np.testing.assert_allclose(alone, expected[:1], atol=1e-6)
