"""The ranker in worlds whose truth is known: what position did is undone, and what is wanted is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchloop.position import Weighting, examination
from matchloop.rerank.calibration import logit
from matchloop.rerank.features import FeatureColumns
from matchloop.rerank.scorer import Ranker, RuleScorer
from tests.unit.training_worlds import INVESTORS, interaction, named, session, snapshot_of
from training_jobs.config import DatasetConfig, RankerConfig, load_config
from training_jobs.datasets import RankerDataset, open_tables, ranker_dataset, ranker_examples
from training_jobs.recipes.ranker import comparisons, train_ranker

NAMES = INVESTORS.ranking.features
COLUMNS = FeatureColumns.of(INVESTORS)
WANTED, SERVED = NAMES.index("recency"), NAMES.index("popularity")
LISTS, SIZE = 900, 10


def world(folder: Path, *, liking: float, seed: int = 0, views: bool = False) -> RankerDataset:
    """Lists in falling order of `popularity`, which nobody cares for; what is looked at is liked by recency.

    Parameters
    ----------
    liking
        How much `recency` decides; at 0 everything that is looked at is liked alike.
    views
        Whether half of what is looked at and not liked is viewed.
    """
    rng = np.random.default_rng(seed)
    sessions: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for number in range(LISTS):
        features = rng.random((SIZE, len(NAMES)))
        features[:, SERVED] = -np.sort(-features[:, SERVED])
        features[:, NAMES.index("original_score")] = 0.3 + 0.4 * features[:, SERVED]
        items = [f"s{at}" for at in rng.choice(200, SIZE, replace=False)]
        sessions.append(session(f"l{number}", "a", items, features[:, SERVED].tolist(), features))
        looked = rng.random(SIZE) < examination(np.arange(1, SIZE + 1))
        liked = looked & (rng.random(SIZE) < 0.25 * (1.0 - liking) + 0.5 * liking * features[:, WANTED] ** 2)
        seen = looked & ~liked & (rng.random(SIZE) < 0.5 * views)
        for type_, mask in (("like", liked), ("view", seen)):
            events += [
                interaction(len(events) + at, "a", items[at], type_, session_id=f"l{number}", rank=at + 1)
                for at in np.flatnonzero(mask).tolist()
            ]
    people = [*named("investor", ["a"]), *named("startup", [f"s{at}" for at in range(200)])]
    # Each list is another subject's: what one says of an item says nothing of another list.
    for each in (*sessions, *events):
        each["subject_id"] = f"a{each['session_id']}"
    snapshot = snapshot_of(folder, people, events, sessions)
    config = load_config("default").dataset
    return ranker_dataset(
        ranker_examples(open_tables(snapshot), INVESTORS, config),
        use_case=INVESTORS,
        snapshot="x",
        weighting=Weighting.DISCOUNT,
    )


def adjustment(found: RankerDataset, folder: Path) -> NDArray[np.float32]:
    trained = train_ranker(
        found, RankerConfig(learning_rate=0.003), validation_share=0.1, seed=0, calibration={}
    )
    trained.write(folder, INVESTORS)
    return Ranker.load(folder, INVESTORS).adjustment(
        np.random.default_rng(5).random((4000, len(NAMES)), np.float32)
    )


@pytest.mark.parametrize("views", [False, True])
def test_pairs_come_both_ways_round_when_nothing_but_position_decides(tmp_path: Path, views: bool) -> None:
    """A positive stands above its negative about as often as below: pairs say little of the order served.

    Not quite as often, since what was liked at the top is no negative there.
    """
    found = world(tmp_path, liking=0.0, views=views)
    up, down = comparisons(found)
    weight = found.exposure_weight[up] * found.exposure_weight[down]
    above = float((weight * (found.rank[up] < found.rank[down])).sum() / weight.sum())
    assert len(up) > 1500
    assert above == pytest.approx(0.55, abs=0.07)


@pytest.mark.parametrize("views", [False, True])
def test_a_planted_position_bias_is_undone(tmp_path: Path, views: bool) -> None:
    found = world(tmp_path / "snapshot", liking=1.0, views=views)
    adjusted = adjustment(found, tmp_path / "ranker")
    rows = np.random.default_rng(5).random((4000, len(NAMES)), np.float32)

    wanted = np.corrcoef(adjusted, rows[:, WANTED])[0, 1]
    assert wanted > 0.7
    # The order served was that of `popularity`: clicks follow it, liking does not.
    assert abs(np.corrcoef(adjusted, rows[:, SERVED])[0, 1]) < 0.5 * wanted


def test_it_beats_the_rule_and_chance_where_the_teacher_is_wrong(tmp_path: Path) -> None:
    """A floor: on lists it never saw, by the truth that made the clicks."""
    found = world(tmp_path / "snapshot", liking=1.0)
    adjustment(found, tmp_path / "ranker")
    ranker, rule = Ranker.load(tmp_path / "ranker", INVESTORS), RuleScorer(INVESTORS)
    rng = np.random.default_rng(11)
    figures: dict[str, list[float]] = {"ranker": [], "rule": [], "random": []}
    for _ in range(300):
        rows = rng.random((20, len(NAMES)), np.float32)
        rows[:, NAMES.index("original_score")] = 0.3 + 0.4 * rows[:, SERVED]
        gains = rows[:, WANTED] ** 2
        ideal = float(np.sort(gains)[::-1] @ examination(np.arange(1, 21)))
        scores: dict[str, NDArray[Any]] = {
            "ranker": ranker.score(rows),
            "rule": rule.by_diversity(rows)(rows[:, COLUMNS.diversity]),
            "random": rng.random(20),
        }
        for name, each in scores.items():
            order = np.argsort(-each)
            figures[name].append(float(gains[order] @ examination(np.arange(1, 21))) / ideal)
    means = {name: float(np.mean(values)) for name, values in figures.items()}
    assert means["ranker"] > means["rule"] + 0.05 > means["random"] + 0.05


def test_the_network_does_not_see_the_teacher_unless_told(tmp_path: Path) -> None:
    found = world(tmp_path / "snapshot", liking=1.0)
    columns = [NAMES.index("model_score"), NAMES.index("original_score")]
    rows = np.random.default_rng(3).random((50, len(NAMES)), np.float32)
    other = rows.copy()
    other[:, columns] = 1.0 - other[:, columns]
    for seen in (False, True):
        config = RankerConfig(learning_rate=0.01, epochs=3, teacher_seen=seen)
        train_ranker(found, config, validation_share=0.1, seed=0, calibration={}).write(tmp_path, INVESTORS)
        ranker = Ranker.load(tmp_path, INVESTORS)
        assert np.allclose(ranker.adjustment(rows), ranker.adjustment(other), atol=1e-5) != seen
        # It reaches the score all the same.
        scores = logit(ranker.score(rows)) - ranker.adjustment(rows)
        np.testing.assert_allclose(scores, logit(rows[:, columns[1]]), atol=1e-3)


def test_beyond_what_was_shown_nothing_is_made_up(tmp_path: Path) -> None:
    found = world(tmp_path / "snapshot", liking=1.0)
    config = RankerConfig(learning_rate=0.01, epochs=3)
    train_ranker(found, config, validation_share=0.1, seed=0, calibration={}).write(tmp_path, INVESTORS)
    ranker = Ranker.load(tmp_path, INVESTORS)
    edge = np.tile(found.features.max(axis=0), (2, 1))
    edge[1] += 100.0
    inside, outside = ranker.adjustment(edge)
    assert inside == pytest.approx(outside, abs=1e-4)


def test_settings_of_the_data_set_decide_what_is_hard(tmp_path: Path) -> None:
    """By the specification's default a score over 0.7 is hard; the presets draw from whole lists."""
    assert DatasetConfig().hard_score == 0.7
    assert all(load_config(name).dataset.ranker_hard_share == 1.0 for name in ("fast", "default", "deep"))
    found = world(tmp_path, liking=1.0)
    hard = np.bincount(found.rank[found.source == "hard"], minlength=SIZE + 1)[1:]
    assert hard[0] > 1.3 * hard[-1] > 50
    upper = found.rank[found.source == "hard"] <= SIZE // 2
    assert 0.5 < upper.mean() < 0.7
