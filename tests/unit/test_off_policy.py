"""Estimates from logs of a small world whose values are known: coverage, warnings, reward models."""

from __future__ import annotations

import numpy as np
import pytest

from training_jobs.evaluate.bandit_log import Log, Policy
from training_jobs.evaluate.off_policy import Estimator, OffPolicy, Settings, estimate
from training_jobs.evaluate.reward_model import cross_fitted, shrunk_rates, tabular_policy

RATES = np.array([[0.30, 0.10, 0.05, 0.20], [0.02, 0.40, 0.15, 0.10]])
"""How often each of 4 actions is rewarded in each of 2 cells."""
LOGGING = np.array([[0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]])
TARGET = np.array([[0.1, 0.1, 0.1, 0.7], [0.0, 0.8, 0.1, 0.1]])
TRUE = float((TARGET * RATES).sum() / 2)
LOGGED = float((LOGGING * RATES).sum() / 2)


def played(rng: np.random.Generator, rows: int = 1500) -> tuple[Log, Policy]:
    cell = rng.integers(0, 2, rows)
    action = (rng.random((rows, 1)) > np.cumsum(LOGGING[cell], axis=1)).sum(axis=1)
    reward = rng.random(rows) < RATES[cell, action]
    log = Log.of(reward, LOGGING[cell, action])
    return log, tabular_policy(log, cell, action, TARGET, rng=rng)


def estimated(seed: int, rows: int = 1500, settings: Settings | None = None) -> OffPolicy:
    rng = np.random.default_rng(seed)
    return estimate(*played(rng, rows), rng=rng, settings=settings or Settings(resamples=200))


def test_intervals_cover_the_true_value_and_gain_as_often_as_they_say() -> None:
    worlds = [estimated(seed, 1000) for seed in range(300)]
    for name in Estimator:
        value = [w.estimates[name].value for w in worlds]
        gain = [w.estimates[name].gain for w in worlds]
        assert 0.91 <= np.mean([each.low <= TRUE <= each.high for each in value]) <= 0.99
        assert 0.91 <= np.mean([each.low <= TRUE - LOGGED <= each.high for each in gain]) <= 0.99
        error = np.std([each.mean for each in value]) / len(value) ** 0.5
        assert abs(np.mean([each.mean for each in value]) - TRUE) < 4 * error
    assert not any(w.support.warnings for w in worlds[:20])


def test_dr_and_snips_vary_less_than_ips() -> None:
    worlds = [estimated(seed, settings=Settings(resamples=2)) for seed in range(200)]
    spread = {name: np.std([w.estimates[name].value.mean for w in worlds]) for name in Estimator}
    assert spread[Estimator.DR] < spread[Estimator.IPS]
    assert spread[Estimator.SNIPS] < spread[Estimator.IPS]


def test_clipping_narrows_the_interval_and_is_told() -> None:
    free, tight = (estimated(3, settings=Settings(clip=clip)) for clip in (None, 1.5))
    one, other = (found.estimates[Estimator.IPS].value for found in (free, tight))
    assert other.mean < one.mean
    assert other.high - other.low < one.high - one.low
    assert free.support.clipped == 0.0
    assert 0.0 < tight.support.clipped < 1.0


def test_rows_of_one_unit_count_once() -> None:
    """Each row stands there ten times: the same point, an interval no narrower than of the rows alone."""
    rng = np.random.default_rng(5)
    log, policy = played(rng, 300)
    again = np.repeat(np.arange(300), 10)
    many = Log(log.reward[again], log.propensity[again], again)
    one, whole, naive = (
        estimate(a, b, rng=np.random.default_rng(1)).estimates[Estimator.IPS].value
        for a, b in (
            (log, policy),
            (many, policy.take(again)),
            (Log.of(many.reward, many.propensity), policy.take(again)),
        )
    )
    assert (whole.mean, whole.low, whole.high) == pytest.approx((one.mean, one.low, one.high))
    assert naive.high - naive.low < 0.5 * (one.high - one.low)


@pytest.mark.parametrize(
    ("reward", "propensity", "chance", "says"),
    [
        (
            1.0,
            [0.001] * 3 + [0.999] * 997,
            [1.0] * 3 + [0.0] * 997,
            "effective sample size 3 is 0.3% of 1,000",
        ),
        (1.0, [0.5] * 50, [0.5] * 50, "effective sample size 50, 100 are needed"),
        (0.0, [0.5] * 500, [0.5] * 500, "0 rows with weight have a reward, 10 are needed"),
        (1.0, [0.001] + [0.5] * 499, [1.0] + [0.5] * 499, "one unit carries 67% of all weight"),
        (1.0, [0.5] * 500, [0.25] * 500, "weights average 0.50, not 1"),
        (1.0, [0.5] * 500, [0.5] * 500, None),
    ],
)
def test_what_speaks_against_an_estimate_is_said(
    reward: float, propensity: list[float], chance: list[float], says: str | None
) -> None:
    log = Log.of(np.full(len(propensity), reward), propensity)
    warnings = estimate(log, Policy(np.array(chance)), rng=np.random.default_rng(0)).support.warnings
    assert any(says in warning for warning in warnings) if says else not warnings


def test_a_log_of_nothing_is_worth_nothing_and_says_so() -> None:
    found = estimate(Log.of([], []), Policy(np.empty(0)), rng=np.random.default_rng(0))
    assert found.estimates[Estimator.SNIPS].value.mean == 0.0
    assert found.support.warnings


def test_no_row_is_predicted_by_a_model_that_saw_its_unit() -> None:
    unit = np.random.default_rng(0).integers(0, 20, 200)

    def fit(learn: np.ndarray) -> object:
        seen = set(unit[learn].tolist())
        return lambda rows: np.array([[float(u in seen), u] for u in unit[rows].tolist()])

    found = cross_fitted(fit, unit, rng=np.random.default_rng(1), folds=5)  # type: ignore[arg-type]
    assert not found[:, 0].any()
    np.testing.assert_array_equal(found[:, 1], unit)


def test_rates_are_drawn_to_the_actions_mean_and_that_to_the_whole() -> None:
    cell, action = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    reward = np.array([1.0, 1.0, 0.0, 0.0])
    found = shrunk_rates(cell, action, reward, (2, 3), mass=2.0)
    first = (2.0 + 2.0 * 0.5) / 5.0
    np.testing.assert_allclose(found[0, 0], (2.0 + 2.0 * first) / 4.0)
    np.testing.assert_allclose(found[:, 2], 0.5)  # never seen: the mean of all rows
