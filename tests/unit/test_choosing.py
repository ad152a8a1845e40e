"""Weights, constants and orders are chosen by evidence, and by nothing less."""

from __future__ import annotations

import numpy as np

from matchloop.retrieval.fusion import Fusion
from matchloop.usecase import Method, Tier
from tests.unit.training_worlds import INVESTORS
from training_jobs.choosing import Evidence, choose_fusions, choose_orders, ensemble_top, surpasses
from training_jobs.config import EnsembleConfig
from training_jobs.evaluate import truth_of

ALS, CONTENT, POPULAR, TOWERS = Method.ALS, Method.CONTENT, Method.POPULAR, Method.TWO_TOWER
N, ITEMS = 120, 60
NOTHING = (np.zeros(0, np.int64), np.zeros(0, np.int64))


def lists(right: np.ndarray, seed: int) -> np.ndarray:
    """Put item 0 first for the subjects `right`; the others get items by chance."""
    rng = np.random.default_rng(seed)
    top = np.stack([rng.permutation(np.arange(10, ITEMS))[:20] for _ in range(N)])
    top[right, 0] = 0
    return top


def evidence(tops: dict[Method, np.ndarray], tier: str = "warm") -> Evidence:
    subjects = np.arange(N)
    truth = truth_of((subjects, np.zeros(N, np.int64)), NOTHING, (N, ITEMS))
    return Evidence.of(truth, np.full(N, tier), tops, None)


def test_the_order_that_is_best_on_validation_is_chosen_by_tier() -> None:
    every = np.arange(N)
    tops = {ALS: lists(every, 0), TOWERS: lists(every[:10], 1)}
    orders = choose_orders(INVESTORS, evidence(tops), 10, margin=1.0)

    assert orders[Tier.WARM].methods[:2] == (ALS, TOWERS)
    assert set(orders[Tier.WARM].methods) == set(INVESTORS.methods.warm)
    assert orders[Tier.WARM].gain > 5 * orders[Tier.WARM].gain_error > 0.0
    assert orders[Tier.HOT].methods == INVESTORS.methods.hot
    assert orders[Tier.HOT].metrics == {}


def test_orders_alike_within_the_noise_leave_the_use_cases() -> None:
    every = np.arange(N)
    tops = {ALS: lists(every[1:62], 0), TOWERS: lists(every[:60], 1)}

    assert choose_orders(INVESTORS, evidence(tops), 10, margin=1.0)[Tier.WARM].methods[0] is TOWERS
    alone = {TOWERS: lists(every[:60], 1)}
    assert choose_orders(INVESTORS, evidence(alone), 10, margin=1.0)[Tier.WARM].gain == 0.0


def test_what_fills_a_list_is_chosen_too() -> None:
    """ALS knows half of the subjects; what the other half gets is another method's."""
    every = np.arange(N)
    half = lists(every, 0)
    half[60:] = -1
    tops = {ALS: half, TOWERS: lists(every[:5], 1), CONTENT: lists(every, 2), POPULAR: lists(every[:0], 3)}
    tops[CONTENT][:60, 0] = 9
    orders = choose_orders(INVESTORS, evidence(tops), 10, margin=1.0)

    assert orders[Tier.WARM].methods[:2] == (ALS, CONTENT)
    assert orders[Tier.WARM].ndcg == 1.0


def test_popular_comes_last_and_says_what_it_knows_in_the_ensemble() -> None:
    """A list of `popular` is not ranked further: first in an order, it would end the learning."""
    every = np.arange(N)
    tops = {TOWERS: lists(every[:30], 0), POPULAR: lists(every, 1)}
    fusions = choose_fusions(evidence(tops), 10, EnsembleConfig(least_subjects=50), seed=0)
    fused = ensemble_top(tops, fusions, np.full(N, "warm"), 10)
    orders = choose_orders(INVESTORS, evidence({**tops, Method.ENSEMBLE: fused}), 10, margin=0.5)

    assert orders[Tier.WARM].methods[0] is Method.ENSEMBLE
    assert orders[Tier.WARM].methods[-1] is POPULAR
    assert orders[Tier.WARM].ndcg > 0.95
    assert fusions[Tier.WARM].weights[TOWERS] > 0.0
    assert choose_orders(INVESTORS, evidence(tops), 10, margin=0.5)[Tier.WARM].methods[-1] is POPULAR


def test_of_whom_nothing_personal_is_known_the_ensemble_says_nothing() -> None:
    every = np.arange(N)
    tops = {TOWERS: lists(every, 0), POPULAR: lists(every, 1)}
    tops[TOWERS][:5] = -1
    fused = ensemble_top(tops, {Tier.WARM: Fusion({TOWERS: 1.0, POPULAR: 1.0})}, np.full(N, "warm"), 10)

    assert (fused[:5] == -1).all()
    assert (fused[5:, 0] == 0).all()


def test_the_ensemble_joins_what_knows_different_subjects() -> None:
    every = np.arange(N)
    tops = {ALS: lists(every[:90], 0), CONTENT: lists(every[30:], 1), TOWERS: lists(every[:0], 2)}
    for method, unknown in ((ALS, every[90:]), (CONTENT, every[:30])):
        tops[method][unknown] = -1
    config = EnsembleConfig(least_subjects=50)
    fusions = choose_fusions(evidence(tops), 10, config, seed=0)

    assert {ALS, CONTENT} <= set(fusions[Tier.WARM].methods)
    assert fusions[Tier.WARM].weights.get(TOWERS, 0.0) < 1.0
    assert fusions[Tier.COLD] == fusions[Tier.HOT]  # nothing of their own
    fused = ensemble_top(tops, fusions, np.full(N, "warm"), 10)
    truth = evidence(tops).truth
    reached = truth.weighted_ndcg(fused, 10)
    assert all(surpasses(reached, truth.weighted_ndcg(top, 10), 2.0) for top in tops.values())
    orders = choose_orders(INVESTORS, evidence({**tops, Method.ENSEMBLE: fused}), 10, margin=0.5)
    assert orders[Tier.WARM].methods[0] is Method.ENSEMBLE


def test_a_method_that_knows_nothing_gets_no_weight() -> None:
    every = np.arange(N)
    silent = np.full((N, 20), -1)
    config = EnsembleConfig(least_subjects=50)
    fusions = choose_fusions(evidence({ALS: lists(every, 0), CONTENT: silent}), 10, config, seed=0)

    assert fusions[Tier.WARM].methods == (ALS,)


def test_too_little_evidence_or_time_chooses_nothing_new() -> None:
    tops = {ALS: lists(np.arange(N), 0), POPULAR: lists(np.arange(5), 1)}
    assert choose_fusions(evidence(tops), 10, EnsembleConfig(least_subjects=200), seed=0) == {}
    found = choose_fusions(evidence(tops), 10, EnsembleConfig(seconds=0.0), seed=0, clock=lambda: 0.0)
    assert found[Tier.WARM].methods == (ALS,)
    assert ensemble_top(tops, {}, np.full(N, "cold"), 10)[:, 0].tolist() == [0] * N


def test_known_items_have_a_voice_of_their_own() -> None:
    """Of item 0, which is new, and item 1, which was known, the second counts once more."""
    subjects = np.repeat(np.arange(4), 2)
    truth = truth_of((subjects, np.tile([0, 1], 4)), NOTHING, (4, 3))
    found = Evidence.of(truth, np.full(4, "warm"), {ALS: np.tile([1, 2], (4, 1))}, np.array([1, 2]))

    assert len(found) == 8
    ndcg = found.truth.weighted_ndcg(found.tops[ALS], 2)
    assert (ndcg[:4] < 1.0).all()
    assert (ndcg[4:] == 1.0).all()
    assert len(found.tier(Tier.COLD)) == 0
    assert len(found.at_most(3, 0)) == 3


def test_a_subject_no_method_knows_gets_nothing() -> None:
    tops = {ALS: np.array([[-1, -1], [2, 1]]), CONTENT: np.array([[-1, -1], [1, -1]])}
    fusions = {Tier.COLD: Fusion({ALS: 1.0, CONTENT: 0.1}, 5.0)}
    assert ensemble_top(tops, fusions, np.array(["cold", "cold"]), 3).tolist() == [[-1, -1, -1], [2, 1, -1]]
