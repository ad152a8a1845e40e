"""Metrics against values worked out by hand; ranking that leaves out what is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from matchloop.usecase import Method, Tier
from tests.unit.training_worlds import INVESTORS
from training_jobs.config import GateConfig
from training_jobs.evaluate import Truth, interval_of, metrics_at, random_top, top_by_vectors, truth_of
from training_jobs.gates import (
    Verdict,
    champion_gate,
    lift_evidence,
    lift_of,
    paired_evidence,
    random_gate,
    ranker_gate,
)
from training_jobs.scoring import filled, routed_top, tiers_of


def rows(*pairs: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def test_metrics_of_one_list_by_hand() -> None:
    """Hits at ranks 2 and 3 of 4, three relevant items."""
    hits = np.array([[False, True, True, False]])
    found = {name: float(value[0]) for name, value in metrics_at(hits, np.array([3]), 4).items()}

    ideal = 1.0 + 1.0 / np.log2(3) + 0.5
    assert found == {
        "ndcg@4": pytest.approx((1.0 / np.log2(3) + 0.5) / ideal),
        "hit@4": 1.0,
        "recall@4": pytest.approx(2 / 3),
        "precision@4": 0.5,
        "f1@4": pytest.approx(4 / 7),
        "map@4": pytest.approx((1 / 2 + 2 / 3) / 3),
        "mrr@4": 0.5,
    }


@pytest.mark.parametrize("name", ["ndcg", "hit", "recall", "map", "mrr"])
def test_a_perfect_list_has_one_and_an_empty_one_nothing(name: str) -> None:
    perfect, nothing = (metrics_at(np.full((1, 3), good), np.array([3]), 3) for good in (True, False))

    assert (perfect[f"{name}@3"][0], nothing[f"{name}@3"][0]) == (1.0, 0.0)


def test_the_truth_leaves_out_what_was_known() -> None:
    truth = truth_of(rows((0, 1), (0, 2), (2, 0)), rows((0, 1), (1, 1), (2, 0)), (3, 4))

    assert truth.subjects.tolist() == [0]
    np.testing.assert_array_equal(truth.hits(np.array([[2, 1, -1]])), [[True, False, False]])


def test_full_ranking_skips_known_items_and_unknown_subjects() -> None:
    truth = truth_of(rows((0, 3), (1, 3)), rows((0, 0), (0, 2)), (2, 4))
    items = np.array([[4.0], [3.0], [2.0], [1.0]], dtype=np.float32)
    top = top_by_vectors(np.array([[1.0], [0.0]], dtype=np.float32), items, truth, 3)

    assert top.tolist() == [[1, 3, -1], [-1, -1, -1]]
    drawn = random_top(truth, 4, np.random.default_rng(0))
    assert set(drawn[0]) == {1, 3, -1}


def test_the_interval_holds_the_mean_and_narrows() -> None:
    rng = np.random.default_rng(0)
    few, many = (interval_of(rng.random(n), rng=rng) for n in (20, 2000))

    assert few.low < few.mean < few.high
    assert many.high - many.low < few.high - few.low
    assert interval_of(np.zeros(0), rng=rng).mean == 0.0


def test_methods_fill_what_is_missing_in_order() -> None:
    first, second = np.array([[5, -1, -1], [-1, -1, -1]]), np.array([[5, 6, 7], [8, 9, 1]])

    assert filled([first, second], 3).tolist() == [[5, 6, 7], [8, 9, 1]]
    tops = {Method.ALS: first, Method.POPULAR: second}
    tiers = tiers_of(INVESTORS, np.array([3, 25]))
    orders = {Tier.COLD: (Method.CONTENT, Method.ALS), Tier.HOT: (Method.ALS, Method.POPULAR)}
    assert routed_top(tops, orders, tiers, 3).tolist() == [[5, -1, -1], [8, 9, 1]]


@pytest.mark.parametrize(("candidate", "verdict"), [(0.50, Verdict.PASSED), (0.10, Verdict.REFUSED)])
def test_a_candidate_must_beat_chance(candidate: float, verdict: Verdict) -> None:
    noise = np.random.default_rng(1).normal(0.0, 0.05, 200)
    gate = random_gate(candidate + noise, np.full(200, 0.2), GateConfig(), k=10)
    assert (gate.name, gate.verdict) == ("retrieval_ndcg@10", verdict)


@pytest.mark.parametrize(
    ("candidate", "champion", "verdict"),
    [(0.50, 0.51, Verdict.PASSED), (0.60, 0.50, Verdict.PASSED), (0.30, 0.50, Verdict.REFUSED)],
)
def test_a_candidate_must_keep_up_with_the_champion(
    candidate: float, champion: float, verdict: Verdict
) -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0.0, 0.05, 200)
    found = paired_evidence("lists", candidate + noise, champion + noise, np.full(200, 0.1), rng=rng)

    assert found.gap == pytest.approx((candidate - champion) / (champion - 0.1), rel=0.05)
    assert champion_gate([found], GateConfig()).verdict is verdict


def test_evidence_is_pooled_by_how_sure_it_is() -> None:
    """Few noisy subjects in favour do not outweigh many against; alone they would have passed it."""
    rng = np.random.default_rng(1)
    many, few = rng.normal(0.5, 0.05, 400), rng.normal(0.5, 0.4, 30)
    against = paired_evidence("lists", many - 0.2, many, np.zeros(400), rng=rng)
    favour = paired_evidence("own finds", few + rng.normal(0.1, 0.3, 30), few, np.zeros(30), rng=rng)
    least = GateConfig(least_pairs=31)

    assert champion_gate([favour], GateConfig()).verdict is Verdict.PASSED
    assert champion_gate([against, favour], GateConfig()).verdict is Verdict.REFUSED
    assert champion_gate([favour], least).verdict is Verdict.SKIPPED
    assert champion_gate([], least).verdict is Verdict.SKIPPED


def test_a_surer_gate_has_a_lower_bound() -> None:
    rng = np.random.default_rng(1)
    found = paired_evidence("lists", rng.random(50), rng.random(50), np.zeros(50), rng=rng)
    bounds = [champion_gate([found], GateConfig(confidence=share)).value for share in (0.5, 0.8, 0.95)]

    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] == pytest.approx(found.gap, abs=0.05)


def test_a_lift_is_compared_whatever_the_data() -> None:
    """The champion's data were twice as easy for both, so its lift says the same."""
    rng = np.random.default_rng(1)
    ease = rng.random(300)
    champion, same = lift_of(0.8 * ease, 0.4 * ease), lift_of(0.4 * ease, 0.2 * ease)
    broken = lift_of(0.05 * ease, 0.2 * ease)
    verdicts = []
    for candidate in (same, broken):
        found = lift_evidence(candidate, champion, rng)
        assert found is not None
        verdicts.append(champion_gate([found], GateConfig()).verdict)

    assert verdicts == [Verdict.PASSED, Verdict.REFUSED]
    assert champion["lift"] == pytest.approx(np.log(2))
    assert lift_evidence({}, champion, rng) is None


def test_lists_are_judged_among_what_they_showed() -> None:
    def pairs(values: list[list[float]]) -> sparse.csr_matrix:
        return sparse.csr_matrix(np.array(values, dtype=np.float32))

    truth = Truth(
        subjects=np.array([0, 1]),
        relevant=pairs([[0, 2.0, 0, 1.0], [0, 0, 1.0, 0]]),
        seen=pairs([[0, 0, 0, 0], [0, 0, 0, 0]]),
        shown=pairs([[0, 1, 1, 1], [1, 0, 1, 0]]),
    )
    scores = np.array([[9.0, 1.0, 3.0, 2.0], [0.5, 9.0, 1.0, 9.0]], dtype=np.float32)
    top = truth.best(scores, slice(0, 2), 3)
    np.testing.assert_array_equal(top, [[2, 3, 1], [2, 0, -1]])
    discount = 1.0 / np.log2([2.0, 3.0, 4.0])
    first = (discount[1] * 1.0 + discount[2] * 2.0) / (discount[0] * 2.0 + discount[1] * 1.0)
    ideals = np.array([discount[0] * 2.0 + discount[1] * 1.0, discount[0]])
    wanted = np.array([first, 1.0]) * ideals / ideals.mean()
    np.testing.assert_allclose(truth.weighted_ndcg(top, 3), wanted, rtol=1e-6)


def test_what_chance_explains_refuses_nobody() -> None:
    rng = np.random.default_rng(1)
    mine, theirs = rng.random(40), rng.random(40) + 0.05
    assert mine.mean() < 0.97 * theirs.mean()

    gate = ranker_gate(mine, theirs, champion=True, config=GateConfig(), rng=rng)
    few = ranker_gate(mine[:5], theirs[:5] + 1.0, champion=True, config=GateConfig(), rng=rng)

    assert (gate.verdict, few.verdict) == (Verdict.PASSED, Verdict.SKIPPED)
