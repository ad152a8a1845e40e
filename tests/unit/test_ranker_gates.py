"""The ranker's gates: order, calibration and latency, on lists whose truth is known."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from matchloop.position import Weighting
from matchloop.rerank.calibration import Platt, logit
from matchloop.rerank.scorer import Ranker, RuleScorer
from matchloop.testing.releases import build_release
from matchloop.usecase import Method
from tests.unit.training_worlds import (
    INVESTORS,
    START,
    interaction,
    named,
    ranked_world,
    session,
    snapshot_of,
)
from training_jobs.config import DatasetConfig, GateConfig
from training_jobs.datasets import RankerDataset, open_tables, ranker_dataset, whole_lists
from training_jobs.gates import Verdict
from training_jobs.ranker_gates import (
    as_calibrated,
    calibration_error,
    calibration_gate,
    direction_gate,
    latency_gates,
    list_gains,
    quality_gate,
)

NAMES = INVESTORS.ranking.features
RECENCY = NAMES.index("recency")


class Adjusts:
    """A ranker that adds so much recency, and so much besides, to the teacher's logit."""

    calibration: ClassVar[dict[Method, Platt]] = {}

    def __init__(self, slope: float, shift: float = 0.0) -> None:
        self.slope, self.shift = slope, shift

    def adjustment(self, features: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return (self.slope * features[:, RECENCY] + self.shift).astype(np.float32)


def adjusts(slope: float, shift: float = 0.0) -> Ranker:
    return cast(Ranker, Adjusts(slope, shift))


def lists_of(snapshot: Any, **settings: Any) -> RankerDataset:
    config = DatasetConfig(attribution_minutes=0.0, **settings)
    examples = whole_lists(open_tables(snapshot), INVESTORS, config)
    return ranker_dataset(examples, use_case=INVESTORS, snapshot="", weighting=Weighting.INVERSE)


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> RankerDataset:
    return lists_of(ranked_world(tmp_path_factory.mktemp("world"), lists=200))


def test_whole_lists_hold_every_item_shown(lists: RankerDataset) -> None:
    assert len(lists) == 200 * 5
    assert np.bincount(lists.group).tolist() == [5] * 200
    assert lists.rank[:5].tolist() == [1, 2, 3, 4, 5]
    assert lists.positives == 200


def test_a_deep_positive_counts_for_more(tmp_path: Path) -> None:
    """One list of four, liked at rank 2 and 4: gains log2(3) and log2(5), so rank 4 comes first."""
    features = np.zeros((4, len(NAMES)))
    features[:, NAMES.index("original_score")] = [0.8, 0.7, 0.6, 0.5]
    world = snapshot_of(
        tmp_path,
        [*named("investor", ["a"]), *named("startup", [f"s{n}" for n in range(4)])],
        [
            interaction(1, "a", "s1", "like", session_id="l", rank=2),
            interaction(2, "a", "s3", "like", session_id="l", rank=4),
        ],
        [session("l", "a", [f"s{n}" for n in range(4)], [0.8, 0.7, 0.6, 0.5], features)],
    )
    found = lists_of(world)
    ideal = np.log2(5) / np.log2(2) + np.log2(3) / np.log2(3)
    served = np.log2(3) / np.log2(3) + np.log2(5) / np.log2(5)

    assert list_gains(found, found.original_score)[0] == pytest.approx(served / ideal)
    turned = np.array([0.0, 1.0, 0.0, 2.0], dtype=np.float32)
    assert list_gains(found, turned)[0] == pytest.approx(1.0)
    assert list_gains(found, turned, k=1)[0] == pytest.approx(1.0)


def test_a_click_counts_half(tmp_path: Path) -> None:
    """Liked at rank 1, clicked at rank 2: gains 1 and log2(3) / 2."""
    features = np.zeros((3, len(NAMES)))
    world = snapshot_of(
        tmp_path,
        [*named("investor", ["a"]), *named("startup", ["s0", "s1", "s2"])],
        [
            interaction(1, "a", "s0", "like", session_id="l", rank=1),
            interaction(2, "a", "s1", "click", session_id="l", rank=2),
            interaction(3, "a", "s2", "view", session_id="l", rank=3),
        ],
        [session("l", "a", ["s0", "s1", "s2"], [0.8, 0.7, 0.6], features)],
    )
    found = lists_of(world)
    assert found.source.tolist() == ["positive", "reacted", "viewed"]
    last = np.array([0.0, 1.0, 2.0], dtype=np.float32)
    ideal = 1.0 + 0.5 * np.log2(3) / np.log2(3)
    reached = 0.5 * np.log2(3) / np.log2(3) + 1.0 / np.log2(4)

    assert list_gains(found, last)[0] == pytest.approx(reached / ideal)


@pytest.mark.parametrize(
    ("slope", "champion", "verdict"),
    [
        (20.0, None, Verdict.PASSED),
        (-20.0, None, Verdict.REFUSED),
        (20.0, 20.0, Verdict.PASSED),
        (0.0, 20.0, Verdict.REFUSED),
        (-20.0, -20.0, Verdict.REFUSED),  # no worse than the champion, but worse than no ranker
    ],
)
def test_the_ranker_must_reach_champion_and_retrieval(
    lists: RankerDataset, slope: float, champion: float | None, verdict: Verdict
) -> None:
    rival = None if champion is None else adjusts(champion)
    gate = quality_gate(lists, adjusts(slope), rival, GateConfig(), np.random.default_rng(0))

    assert gate.verdict is verdict
    assert gate.name == "ranker_ndcg@10"


class Turns:
    """A ranker that adds so much of the retrieval's own score, and so much recency."""

    calibration: ClassVar[dict[Method, Platt]] = {}

    def __init__(self, retrieval: float, recency: float = 0.0) -> None:
        self.retrieval, self.recency = retrieval, recency

    def adjustment(self, features: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        model = features[:, NAMES.index("model_score")]
        return (self.retrieval * model + self.recency * features[:, RECENCY]).astype(np.float32)


@pytest.mark.parametrize(
    ("retrieval", "recency", "value", "verdict"),
    [
        (0.0, 0.0, 1.0, Verdict.PASSED),
        (2.0, 0.0, 1.0, Verdict.PASSED),
        (-50.0, 0.0, 0.0, Verdict.REFUSED),
        (-50.0, 500.0, 0.0, Verdict.PASSED),  # it knows what is liked, and the lists show it
    ],
)
def test_a_ranker_that_turns_the_retrieval_round_has_to_show_why(
    lists: RankerDataset, retrieval: float, recency: float, value: float, verdict: Verdict
) -> None:
    ranker = cast(Ranker, Turns(retrieval, recency))
    gate = direction_gate(lists, ranker, None, GateConfig(), np.random.default_rng(0))

    assert (gate.value, gate.verdict) == (value, verdict)


def test_lists_are_seen_under_the_rankers_own_calibration(lists: RankerDataset) -> None:
    served = {Method.CONTENT: Platt(slope=4.0, intercept=-2.0)}
    own = {Method.CONTENT: Platt(slope=1.0, intercept=0.5)}
    found = as_calibrated(lists, served, own)

    wanted = 1.0 * (logit(lists.original_score) + 2.0) / 4.0 + 0.5
    np.testing.assert_allclose(logit(found.original_score), wanted, atol=1e-3)
    np.testing.assert_array_equal(found.features[:, NAMES.index("original_score")], found.original_score)
    back = as_calibrated(found, own, served)
    np.testing.assert_allclose(back.original_score, lists.original_score, atol=1e-4)


def test_calibration_error_is_zero_for_shares_that_hold() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(200_000)
    outcomes = (rng.random(200_000) < scores).astype(np.float64)

    assert calibration_error(scores, outcomes, np.ones(200_000)) < 0.005
    assert calibration_error(np.minimum(scores + 0.3, 1.0), outcomes, np.ones(200_000)) == pytest.approx(
        0.255, abs=0.01
    )
    assert calibration_error(np.zeros(0), np.zeros(0), np.zeros(0)) == 0.0


def test_calibration_error_weighs_what_it_is_told_to() -> None:
    scores, outcomes = np.array([0.2, 0.9]), np.array([0.0, 0.0])

    assert calibration_error(scores, outcomes, np.array([1.0, 0.0])) == pytest.approx(0.2)
    assert calibration_error(scores, outcomes, np.array([1.0, 1.0])) == pytest.approx(0.55)


def test_scores_that_cannot_be_believed_are_refused(lists: RankerDataset) -> None:
    """A fifth of what is shown is liked; a shift of all logits leaves the order and spoils the scores."""
    shift = float(np.log(0.2 / 0.8) - logit(lists.original_score).mean())
    config, weighting = GateConfig(), Weighting.DISCOUNT
    sound = calibration_gate(lists, adjusts(0.0, shift), None, config, weighting)
    loud = calibration_gate(lists, adjusts(0.0, shift + 6.0), adjusts(0.0, shift), config, weighting)

    assert (sound.verdict, loud.verdict) == (Verdict.PASSED, Verdict.REFUSED)
    assert loud.value > 0.5
    assert "discount" in loud.note


def test_few_lists_skip_what_needs_them(tmp_path: Path) -> None:
    few = lists_of(ranked_world(tmp_path, lists=5))
    gate = calibration_gate(few, adjusts(0.0), None, GateConfig(), Weighting.DISCOUNT)

    assert gate.verdict is Verdict.SKIPPED


def test_a_young_list_is_no_evidence(tmp_path: Path) -> None:
    snapshot = ranked_world(tmp_path, lists=20)
    config = DatasetConfig(attribution_minutes=60.0 * 24 * 365)
    found = whole_lists(open_tables(snapshot), INVESTORS, config).to_pyarrow()

    assert found.num_rows == 0
    assert snapshot.manifest.created > START


def test_a_slow_ranker_is_refused_and_a_slow_machine_is_not(tmp_path: Path) -> None:
    ranker = Ranker.load(build_release(tmp_path, INVESTORS) / "ranker", INVESTORS)
    assert not RuleScorer.learned

    def clocked(ranker_ms: float, rule_ms: float) -> list[Verdict]:
        ticks = count()
        now = 0.0

        def clock() -> float:
            """Every second reading ends a placement: the ranker's and the rule's in turns."""
            nonlocal now
            tick = next(ticks) % 4
            now += {1: ranker_ms, 3: rule_ms}.get(tick, 0.0) / 1000.0
            return now

        gates = latency_gates(ranker, INVESTORS, GateConfig(), np.random.default_rng(0), clock=clock)
        assert [gate.name for gate in gates] == ["ranker_p50_ms", "ranker_p99_ms"]
        return [gate.verdict for gate in gates]

    assert clocked(0.5, 0.1) == [Verdict.PASSED, Verdict.PASSED]
    assert clocked(3.0, 0.1) == [Verdict.REFUSED, Verdict.PASSED]
    assert clocked(30.0, 10.0) == [Verdict.PASSED, Verdict.PASSED]
    assert clocked(30.0, 1.0) == [Verdict.REFUSED, Verdict.REFUSED]
