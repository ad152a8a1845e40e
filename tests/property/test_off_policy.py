"""What IPS, SNIPS, DR, clipping and the effective sample size promise of any log."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matchloop.errors import InvalidInput
from training_jobs.evaluate.bandit_log import Log, Policy
from training_jobs.evaluate.off_policy import (
    Estimator,
    Settings,
    doubly_robust,
    estimate,
    ips,
    snips,
)
from training_jobs.evaluate.support import effective_size, importance_weights

few = settings(deadline=None, max_examples=50)
SEEDS = st.integers(0, 10_000)
QUICK = Settings(resamples=20)


def world(seed: int) -> tuple[Log, Policy]:
    """Rewards of any sign, probabilities of any size, rows in units."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    reward, guess = rng.normal(size=(2, n))
    log = Log.of(reward, rng.uniform(0.01, 1.0, n), rng.integers(0, n, n))
    return log, Policy(rng.uniform(0.0, 1.0, n), guess, guess + 0.1)


@few
@given(SEEDS)
def test_on_policy_every_estimator_is_the_mean_and_gains_nothing(seed: int) -> None:
    log, policy = world(seed)
    own = Policy(log.propensity, policy.predicted, policy.predicted)
    found = estimate(log, own, rng=np.random.default_rng(0), settings=QUICK)
    for each in found.estimates.values():
        assert each.value.mean == pytest.approx(log.reward.mean())
        assert each.gain.mean == pytest.approx(0.0, abs=1e-12)
        assert (each.gain.low, each.gain.high) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert found.support.effective == pytest.approx(len(log))
    assert found.support.mean_weight == pytest.approx(1.0)


@few
@given(SEEDS)
def test_the_points_are_the_formulas(seed: int) -> None:
    log, policy = world(seed)
    assert policy.predicted is not None
    assert policy.expected is not None
    found = estimate(log, policy, rng=np.random.default_rng(0), settings=QUICK)
    weights = importance_weights(policy.chance, log.propensity)
    points = {name: each.value.mean for name, each in found.estimates.items()}
    assert points == pytest.approx(
        {
            Estimator.IPS: ips(log.reward, weights),
            Estimator.SNIPS: snips(log.reward, weights),
            Estimator.DR: doubly_robust(log.reward, weights, policy.predicted, policy.expected),
        }
    )


@few
@given(SEEDS, st.floats(-5.0, 5.0))
def test_snips_moves_with_the_rewards_and_stays_between_them(seed: int, shift: float) -> None:
    log, policy = world(seed)
    weights = importance_weights(policy.chance, log.propensity)
    moved = snips(log.reward + shift, weights)
    assert moved == pytest.approx(snips(log.reward, weights) + shift)
    assert log.reward.min() - 1e-9 <= moved - shift <= log.reward.max() + 1e-9


@few
@given(SEEDS)
def test_dr_with_a_perfect_model_needs_no_weights(seed: int) -> None:
    log, policy = world(seed)
    assert policy.expected is not None
    perfect = Policy(policy.chance, log.reward, policy.expected)
    found = estimate(log, perfect, rng=np.random.default_rng(0), settings=QUICK)
    assert found.estimates[Estimator.DR].value.mean == pytest.approx(policy.expected.mean())


@few
@given(SEEDS, st.floats(0.01, 100.0))
def test_clipping_only_lowers_ips_of_rewards_that_are_not_negative(seed: int, clip: float) -> None:
    log, policy = world(seed)
    reward = np.abs(log.reward)
    clipped = importance_weights(policy.chance, log.propensity, clip=clip)
    whole = importance_weights(policy.chance, log.propensity)
    assert ips(reward, clipped) <= ips(reward, whole) + 1e-12
    assert clipped.max() <= clip


@few
@given(SEEDS)
def test_the_order_of_rows_and_the_names_of_units_do_not_matter(seed: int) -> None:
    log, policy = world(seed)
    order = np.random.default_rng(seed).permutation(len(log))
    one, other = (
        estimate(a, b, rng=np.random.default_rng(1), settings=QUICK)
        for a, b in (
            (log, policy),
            (Log(log.reward, log.propensity, 7 * log.unit + 3).take(order), policy.take(order)),
        )
    )
    for name, each in one.estimates.items():
        there = other.estimates[name]
        assert (there.value.mean, there.value.low, there.gain.high) == pytest.approx(
            (each.value.mean, each.value.low, each.gain.high)
        )
    assert other.support.effective == pytest.approx(one.support.effective)
    assert other.support.warnings == one.support.warnings


@few
@given(SEEDS)
def test_the_effective_size_is_between_one_and_the_rows_and_knows_no_scale(seed: int) -> None:
    weights = np.random.default_rng(seed).uniform(0.0, 3.0, 1 + seed % 40)
    size = effective_size(weights)
    assert 1.0 - 1e-9 <= size <= len(weights) + 1e-9
    assert effective_size(1e-200 * weights) == pytest.approx(size)
    assert effective_size(np.ones(9)) == pytest.approx(9.0)
    assert effective_size(np.zeros(3)) == 0.0


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Log.of([1.0], [0.0]), "propensity"),
        (lambda: Log.of([1.0], [1.1]), "propensity"),
        (lambda: Log.of([float("nan")], [0.5]), "reward"),
        (lambda: Log.of([1.0, 0.0], [0.5]), "propensity: shape"),
        (lambda: Policy(np.array([1.5])), "chance"),
        (lambda: Policy(np.array([1.0]), np.array([1.0])), "goes with predicted"),
        (lambda: importance_weights([1.0], [0.0]), "over 0"),
        (lambda: importance_weights([1.0], [0.5], clip=0.0), "clip"),
    ],
)
def test_what_is_no_log_is_refused(made: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        made()


def test_a_policy_for_other_rows_is_refused() -> None:
    with pytest.raises(InvalidInput, match="2 are logged"):
        estimate(Log.of([1.0, 0.0], [0.5, 0.5]), Policy(np.array([1.0])), rng=np.random.default_rng(0))
