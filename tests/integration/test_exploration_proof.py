"""From lists that chance varied to weights: a market's examination is learned, and the data sets take it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from matchloop.errors import TooFewExamples
from matchloop.position import CAP, Weighting, examination
from matchloop.snapshot import Snapshot
from matchloop.usecase import Exploration
from ranking_svc.exploration import largest_cost
from tests.exploration_world import INVESTORS, LENGTH, TRUE, Explored, explore
from training_jobs.build import DataSets, build_datasets
from training_jobs.config import DatasetConfig, TrainingConfig
from training_jobs.datasets import examination_of, open_tables
from training_jobs.material import Material

POLICY = Exploration(share=0.5, reach=2)
TOLERANCE = 0.05
"""Of what is learned from 7 200 lists, at every rank."""


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Explored:
    return explore(tmp_path_factory.mktemp("explored"), POLICY, rounds=24)


@pytest.fixture(scope="module")
def snapshot(explored: Explored, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return explored.snapshot(tmp_path_factory.mktemp("snapshot"))


def built(snapshot: Snapshot, **dataset: Weighting) -> DataSets:
    config = TrainingConfig(dataset=DatasetConfig(**dataset))
    material = Material(snapshot, INVESTORS, validation_share=config.dataset.validation_share)
    return build_datasets(material, config)


def test_what_was_served_says_its_own_chances(explored: Explored) -> None:
    """Of every slot's 1 / propensity the mean is the number of items that could have stood there."""
    chances = np.array([[item.propensity for item in session.items] for session in explored.sessions])
    assert ((chances > 0.0) & (chances <= 1.0)).all()
    could = (1.0 / chances).mean(axis=0)
    inner = slice(POLICY.reach, LENGTH - POLICY.reach)
    np.testing.assert_allclose(could[inner], POLICY.reach + 1, rtol=0.12)


def test_the_market_s_examination_is_learned_over_all_ranks(snapshot: Snapshot) -> None:
    curve = examination_of(open_tables(snapshot), INVESTORS, DatasetConfig())
    assert len(curve.by_rank) == LENGTH
    np.testing.assert_allclose(curve.by_rank, TRUE, atol=TOLERANCE)


def test_clicks_alone_would_mislead(explored: Explored) -> None:
    """The better items stand higher: their clicks fall faster than they are looked at."""
    clicks = np.zeros(LENGTH)
    for reaction in explored.reactions:
        clicks[reaction["rank"] - 1] += reaction["event_type"] == "click"
    assert np.abs(clicks / clicks[0] - TRUE).max() > 2 * TOLERANCE


@pytest.mark.parametrize("weighting", list(Weighting))
def test_each_weighting_reaches_the_data_sets(snapshot: Snapshot, weighting: Weighting) -> None:
    found = built(snapshot, ranker_weighting=weighting, two_tower_weighting=weighting)
    pairs = found.pairs.rank > 0
    for rank, weight in (
        (found.ranker.rank, found.ranker.exposure_weight),
        (found.pairs.rank[pairs], found.pairs.rank_weight[pairs]),
    ):
        assert set(rank.tolist()) == set(range(1, LENGTH + 1))
        seen = examination(rank)
        expected = {
            Weighting.DISCOUNT: seen,
            Weighting.INVERSE: np.minimum(1.0 / seen, CAP),
            Weighting.ESTIMATED: np.minimum(1.0 / seen, CAP),
            Weighting.NONE: np.ones(len(rank)),
        }[weighting]
        learned = weighting is Weighting.ESTIMATED
        np.testing.assert_allclose(weight, expected, rtol=0.25 if learned else 1e-6)
        assert learned == bool((np.abs(weight - expected) > 1e-6).any())
    assert found.pairs.rank_weight[~pairs] == pytest.approx(1.0)
    assert found.ranker.manifest.weights[1] == 1.0


def test_exploration_costs_no_more_than_is_told(explored: Explored) -> None:
    cost = 1.0 - explored.shown.mean() / explored.plain.mean()
    error = (explored.plain - explored.shown).std() / len(explored.plain) ** 0.5 / explored.plain.mean()
    assert cost - 2.0 * error > 0.0
    assert cost + 2.0 * error < largest_cost(POLICY)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (Exploration(), r"of \d+ lists 0 log propensities"),
        (Exploration(share=0.02), r"\d+ placements by chance in \d+ lists, worth \d\d? at rank 1"),
    ],
)
def test_too_little_exploration_is_a_named_error(tmp_path: Path, policy: Exploration, says: str) -> None:
    snapshot = explore(tmp_path, policy, rounds=4, investors=60).snapshot(tmp_path / "snapshot")
    with pytest.raises(TooFewExamples, match=says):
        built(snapshot, ranker_weighting=Weighting.ESTIMATED)
    built(snapshot)
