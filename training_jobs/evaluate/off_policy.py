"""What another policy would have earned, from what this one chose by chance: IPS, SNIPS and DR.

A logged row has a reward r, the probability p with which the logging policy took its action, and the
probability π with which the policy in question would take that same action. With w = π / p,

========= ======================================= ==================================================
IPS       Σ w r / n                               Horvitz, Thompson 1952
SNIPS     Σ w r / Σ w                             Swaminathan, Joachims 2015, "The self-normalized
                                                  estimator for counterfactual learning"
DR        Σ (q(π) + w (r − q(a))) / n             Dudík, Langford, Li 2011, "Doubly robust policy
                                                  evaluation and learning"; Dudík et al. 2014, eq. 6
========= ======================================= ==================================================

where q(a) is a model's reward of the logged action, and q(π) = Σ π(a) q(a) over all actions there were.
All of them assume that p was over 0 wherever π is (support), that p is right, and that a reward depends on
its own row alone. IPS and DR are unbiased then; SNIPS is consistent, and mostly varies less.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import InvalidInput
from training_jobs.evaluate.bootstrap import Interval, resampled_sums
from training_jobs.evaluate.support import TRUST, importance_weights, sums_by_unit, support_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training_jobs.evaluate.bandit_log import Log, Policy
    from training_jobs.evaluate.support import Support, Trust


class Estimator(StrEnum):
    """How a policy's value is estimated."""

    IPS = "ips"
    SNIPS = "snips"
    DR = "dr"


@dataclass(frozen=True, slots=True)
class Settings:
    """How estimates are made.

    Parameters
    ----------
    clip
        Largest weight; None: no bound.
    resamples, level
        Of the bootstrap; the interval's probability, two-sided.
    trust
        From where on an estimate is warned of.
    """

    clip: float | None = None
    resamples: int = 1000
    level: float = 0.95
    trust: Trust = TRUST


DEFAULT = Settings()


@dataclass(frozen=True, slots=True)
class Estimate:
    """One estimator's answer: the policy's value a row, and its gain over the rival's."""

    value: Interval
    gain: Interval


@dataclass(frozen=True, slots=True)
class OffPolicy:
    """What a log says of a policy; `estimates` lacks DR where there is no reward model."""

    logged: float
    estimates: dict[Estimator, Estimate]
    support: Support


def ips(reward: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return Σ w r / n, (n,) each; 0 for none (Horvitz, Thompson 1952)."""
    return float((weights * reward).mean()) if len(reward) else 0.0


def snips(reward: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return Σ w r / Σ w, (n,) each; 0 without weight (Swaminathan, Joachims 2015, eq. 9).

    Adding a constant to every reward adds it to the estimate, and the estimate stays between the least
    and the greatest reward: neither holds for IPS.
    """
    total = float(weights.sum())
    return float(weights @ reward) / total if total > 0.0 else 0.0


def doubly_robust(
    reward: NDArray[np.float64],
    weights: NDArray[np.float64],
    predicted: NDArray[np.float64],
    expected: NDArray[np.float64],
) -> float:
    """Return Σ (q(π) + w (r − q(a))) / n, (n,) each; 0 for none (Dudík et al. 2014, eq. 6).

    Right if either the propensities or the model are; with both, it varies less than IPS.
    """
    return float((expected + weights * (reward - predicted)).mean()) if len(reward) else 0.0


def estimate(
    log: Log,
    policy: Policy,
    *,
    rng: np.random.Generator,
    rival: Policy | None = None,
    settings: Settings = DEFAULT,
) -> OffPolicy:
    """Estimate a policy's value and its gain over a rival's, with percentile bootstrap intervals over units.

    Parameters
    ----------
    rival
        Of the same rows, compared within the same resamples; None: the logging policy, whose value is the
        mean reward.
    settings
        The same for both policies.

    Returns
    -------
    OffPolicy
        Intervals hold chance in the log. They hold neither what clipping or a lack of support hides,
        nor what the reward model would be on other data.

    Raises
    ------
    InvalidInput
        If a policy has another number of rows than the log.
    """
    policies = [policy, *([rival] if rival is not None else [])]
    if any(len(each.chance) != len(log) for each in policies):
        raise InvalidInput(f"a policy for {[len(p.chance) for p in policies]} rows, {len(log)} are logged")
    terms = np.hstack(
        [
            np.stack([np.ones(len(log)), log.reward], axis=1),
            *(_terms(log, p, settings.clip) for p in policies),
        ]
    )
    sums = sums_by_unit(terms, log.unit)
    whole = sums.sum(axis=0, keepdims=True)
    draws = resampled_sums(sums, rng=rng, resamples=settings.resamples)
    found = {}
    for name in Estimator:
        if name is Estimator.DR and any(each.predicted is None for each in policies):
            continue
        points, spread = (np.stack([_value(at, name, 0), _rival(at, name, rival)]) for at in (whole, draws))
        found[name] = Estimate(
            _interval(points[0], spread[0], settings.level),
            _interval(points[0] - points[1], spread[0] - spread[1], settings.level),
        )
    return OffPolicy(
        ips(log.reward, np.ones(len(log))),
        found,
        support_of(
            log.reward,
            importance_weights(policy.chance, log.propensity),
            log.unit,
            clip=settings.clip,
            trust=settings.trust,
        ),
    )


def _terms(log: Log, policy: Policy, clip: float | None) -> NDArray[np.float64]:
    """Return w, w r and DR's term of each row, (n, 3)."""
    weights = importance_weights(policy.chance, log.propensity, clip=clip)
    robust = np.zeros(len(log))
    if policy.predicted is not None and policy.expected is not None:
        robust = policy.expected + weights * (log.reward - policy.predicted)
    return np.stack([weights, weights * log.reward, robust], axis=1)


def _value(sums: NDArray[np.float64], name: Estimator, number: int) -> NDArray[np.float64]:
    """Return the estimate of policy `number` from (r, 2 + 3 policies) sums: rows, reward, terms of each."""
    weight, weighted, robust = (sums[:, 2 + 3 * number + at] for at in range(3))
    if name is Estimator.SNIPS:
        return np.divide(weighted, weight, out=np.zeros_like(weight), where=weight > 0.0)
    return np.asarray((weighted if name is Estimator.IPS else robust) / np.maximum(sums[:, 0], 1.0))


def _rival(sums: NDArray[np.float64], name: Estimator, rival: Policy | None) -> NDArray[np.float64]:
    if rival is not None:
        return _value(sums, name, 1)
    return np.asarray(sums[:, 1] / np.maximum(sums[:, 0], 1.0))


def _interval(point: NDArray[np.float64], draws: NDArray[np.float64], level: float) -> Interval:
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail]).tolist()
    return Interval(float(point[0]), low, high)
