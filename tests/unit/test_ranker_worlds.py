"""The ranker in worlds whose truth is known: what position did is undone, and what is wanted is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchloop.position import Weighting, examination, exposure_weight
from matchloop.rerank.calibration import logit
from matchloop.rerank.features import FeatureColumns
from matchloop.rerank.scorer import Ranker, RuleScorer
from tests.unit.training_worlds import INVESTORS, interaction, named, session, snapshot_of
from training_jobs.config import DatasetConfig, RankerConfig, load_config
from training_jobs.datasets import RankerDataset, open_tables, ranker_dataset, ranker_examples
from training_jobs.recipes.ranker import comparisons, evidence_weight, train_ranker

NAMES = INVESTORS.ranking.features
COLUMNS = FeatureColumns.of(INVESTORS)
WANTED, SERVED = NAMES.index("recency"), NAMES.index("popularity")
LISTS, SIZE = 900, 10


def world(
    folder: Path, *, liking: float, seed: int = 0, views: bool = False, alike: float = 0.25
) -> RankerDataset:
    """Lists in falling order of `popularity`, which nobody cares for; what is looked at is liked by recency.

    Parameters
    ----------
    liking
        How much `recency` decides; at 0 everything that is looked at is liked alike.
    alike
        How likely it is then.
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
        liked = looked & (rng.random(SIZE) < alike * (1.0 - liking) + 0.5 * liking * features[:, WANTED] ** 2)
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


def trained(found: RankerDataset, folder: Path) -> Ranker:
    config = RankerConfig(learning_rate=0.003)
    train_ranker(found, config, validation_share=0.1, seed=0, calibration={}).write(folder, INVESTORS)
    return Ranker.load(folder, INVESTORS)


@pytest.mark.parametrize(("alike", "pairs"), [(0.25, 1500), (0.75, 6000)])
@pytest.mark.parametrize("views", [False, True])
def test_pairs_speak_both_ways_round_when_nothing_but_position_decides(
    tmp_path: Path, views: bool, alike: float, pairs: int
) -> None:
    """A positive above its negative weighs about what one below does: pairs say little of the order served.

    Where most of what is looked at is liked, too: what is left of a list is then all taken for negatives,
    though it was hardly looked at.
    """
    found = world(tmp_path, liking=0.0, views=views, alike=alike)
    up, down = comparisons(found)
    weight = evidence_weight(found)[up] * evidence_weight(found)[down]
    above = float((weight * (found.rank[up] < found.rank[down])).sum() / weight.sum())
    assert len(up) > pairs
    assert above == pytest.approx(0.52, abs=0.1)


def test_only_what_may_not_have_been_seen_is_discounted(tmp_path: Path) -> None:
    found = world(tmp_path, liking=1.0, views=True)
    unsure = found.source == "hard"
    inverse = replace(
        found, exposure_weight=exposure_weight(found.rank, Weighting.INVERSE).astype(np.float32)
    )
    np.testing.assert_allclose(evidence_weight(found)[unsure], examination(found.rank[unsure]), rtol=1e-6)
    assert (evidence_weight(found)[~unsure] == 1.0).all()
    np.testing.assert_array_equal(evidence_weight(inverse), inverse.exposure_weight)


@pytest.mark.parametrize("views", [False, True])
def test_a_planted_position_bias_is_undone(tmp_path: Path, views: bool) -> None:
    found = world(tmp_path / "snapshot", liking=1.0, views=views)
    ranker = trained(found, tmp_path / "ranker")
    rows = np.random.default_rng(5).random((4000, len(NAMES)), np.float32)
    rows[:, NAMES.index("original_score")] = 0.3 + 0.4 * rows[:, SERVED]
    scores = logit(ranker.score(rows))

    wanted = np.corrcoef(scores, rows[:, WANTED])[0, 1]
    assert wanted > 0.85
    # The order served was that of `popularity`, the teacher's: clicks follow it, liking does not.
    assert abs(np.corrcoef(scores, rows[:, SERVED])[0, 1]) < 0.3 * wanted


def test_it_beats_the_rule_and_chance_where_the_teacher_is_wrong(tmp_path: Path) -> None:
    """A floor: on lists it never saw, by the truth that made the clicks."""
    found = world(tmp_path / "snapshot", liking=1.0)
    ranker, rule = trained(found, tmp_path / "ranker"), RuleScorer(INVESTORS)
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
