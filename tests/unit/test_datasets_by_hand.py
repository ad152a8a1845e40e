"""The data sets are what somebody would get who wrote the queries by hand: the benchmark compares likes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.datasets_sql import ByHand
from benchmarks.datasets_world import USE_CASE, Size, record_of
from benchmarks.learning_growth import sizes_of, slope
from matchloop.snapshot import TableName
from matchloop.usecase import load_use_cases
from training_jobs.build import als_of, pairs_of, ranker_of
from training_jobs.config import load_config
from training_jobs.material import Material

SIZE = Size(interactions=12_000, sessions=1_500, subjects=150, items=80)
"""So few subjects and items that what they say of each other crosses: 12 000 of 12 000 pairs."""
CONFIG = load_config("default")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Material, ByHand]:
    snapshot = record_of(tmp_path_factory.mktemp("record"), SIZE)
    share = CONFIG.dataset.validation_share
    return Material(snapshot, load_use_cases()[USE_CASE], validation_share=share), ByHand.of(snapshot)


def same(found: Any, hand: Any) -> None:
    """Compare a column of numbers as float32, which the data sets hold, or of texts."""
    values = np.asarray(found)
    if values.dtype == object:
        assert values.tolist() == hand.to_pylist()
    else:
        np.testing.assert_array_equal(values.astype(np.float32), hand.to_numpy().astype(np.float32))


def test_als_matrix(both: tuple[Material, ByHand]) -> None:
    material, by_hand = both
    found, hand = als_of(material, CONFIG), by_hand.als()

    entries = found.weights.tocoo()
    assert len(hand) == len(entries.data) > 3_000
    assert [found.subject_ids[row] for row in entries.row] == hand["subject_id"].to_pylist()
    assert [found.item_ids[row] for row in entries.col] == hand["item_id"].to_pylist()
    same(entries.data, hand["weight"])
    last = hand["last_time"].to_numpy()
    np.testing.assert_allclose(found.age_days, (last.max() - last) / np.timedelta64(1, "D"), rtol=1e-6)
    assert found.manifest.sources["recommendation"] == sum(hand["listed"].to_pylist())


def test_two_tower_pairs(both: tuple[Material, ByHand]) -> None:
    material, by_hand = both
    found, (hand, drawn) = pairs_of(material, CONFIG), by_hand.two_tower()

    assert found.manifest.sources.keys() == {"disliked", "hard", "interaction", "random"}
    assert [found.subject_ids[row] for row in found.subject] == hand["subject_id"].to_pylist()
    assert [found.item_ids[row] for row in found.item] == hand["item_id"].to_pylist()
    for name in ("label", "weight", "source", "rank_weight"):
        same(getattr(found, name), hand[name])
    same(found.rank, hand["rank"].fill_null(0))
    same(found.score, hand["score"])
    assert 0 < len(drawn) < 2 * len(found.positives)


def test_ranker_examples(both: tuple[Material, ByHand]) -> None:
    material, by_hand = both
    found, hand = ranker_of(material, CONFIG), by_hand.ranker()

    assert found.manifest.sources.keys() == {"disliked", "hard", "positive", "viewed"}
    columns = {"subject": "subject_id", "item": "item_id", "source": "outcome"}
    for name in ("rank", "recommendation_score", "retrieval_score", "method", "exposure_weight"):
        same(getattr(found, name), hand[name])
    for name, theirs in columns.items():
        same(getattr(found, name), hand[theirs])
    np.testing.assert_array_equal(found.features.reshape(-1), hand["features"].combine_chunks().flatten())
    np.testing.assert_array_equal(found.serve_time, hand["serve_time"].to_numpy())
    lists = hand["session_id"].to_pylist()
    assert [lists[row] for row in np.unique(found.group, return_index=True)[1]] == list(dict.fromkeys(lists))


def test_the_record_is_drawn_once(tmp_path: Path) -> None:
    small = Size(interactions=1_000, sessions=100, subjects=100, items=100)
    told: list[int] = []
    one, again = record_of(tmp_path, small, told.append), record_of(tmp_path, small, told.append)

    assert (told, one.manifest) == ([1_000], again.manifest)
    assert one.manifest.counts[TableName.SESSIONS] == 100
    other = record_of(tmp_path, Size(500, 50, 100, 100))
    assert other.manifest.counts[TableName.INTERACTIONS] == 500


def test_growth_is_told_by_the_slope_of_logarithms() -> None:
    assert slope([1.0, 2.0, 4.0], [3.0, 6.0, 12.0]) == pytest.approx(1.0)
    assert slope([1.0, 2.0, 4.0], [3.0, 12.0, 48.0]) == pytest.approx(2.0)
    assert slope([1.0, 2.0, 4.0], [0.0, 0.0, 0.0]) == pytest.approx(0.0)
    found = sizes_of(100_000)
    assert found["interactions"][2] == Size(400_000, 40_000, 2_000, 1_000)
    assert [size.items for size in found["items"]] == [1_000, 2_000, 4_000]
