"""What a list is worth in another order: `off_policy` on the slots of lists that chance varied.

The value of an order counts every slot of those lists. Its gain over another order is estimated on contested
slots alone, where the two would put different items: elsewhere they are the same. A reward
model for DR is a logistic regression on the logged features and the log of the rank's examination,
cross-fitted over subjects, who are also what the bootstrap resamples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from matchloop.position import examination
from training_jobs.evaluate.bandit_log import Log, Policy
from training_jobs.evaluate.bootstrap import Interval
from training_jobs.evaluate.off_policy import DEFAULT, Estimator, Settings, estimate
from training_jobs.evaluate.reward_model import cross_fitted, fitted_logistic, logistic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training_jobs.evaluate.logged import ExploredLists
    from training_jobs.evaluate.reward_model import Predict
    from training_jobs.evaluate.support import Support


class Reward(StrEnum):
    """What is counted: items with a reaction of positive weight beyond a view, or with a strong one."""

    CLICK = "click"
    STRONG = "strong"


@dataclass(frozen=True, slots=True)
class ListValue:
    """What a list brings in an order, all a list.

    Parameters
    ----------
    lists, slots, contested
        How many lists, slots of theirs, and slots where the orders compared differ.
    logged
        Rewards a list as it was shown.
    value, gain
        By estimator: of the order, and over the other one.
    support, contested_support
        How much speaks for the value, and for the gain: of contested slots few agree by design, so there the
        effective sample size counts as such, not as a share.
    """

    reward: Reward
    lists: int
    slots: int
    contested: int
    logged: float
    value: dict[Estimator, Interval]
    gain: dict[Estimator, Interval]
    support: Support
    contested_support: Support


def list_value(
    lists: ExploredLists,
    order: NDArray[np.int64],
    rival: NDArray[np.int64] | None,
    reward: Reward,
    *,
    rng: np.random.Generator,
    settings: Settings = DEFAULT,
) -> ListValue:
    """Estimate what lists bring in an order, and its gain over another.

    Parameters
    ----------
    order, rival
        (n,): which row's item stands at each row's rank, of `ExploredLists.order_by`. No rival: as
        chance made it, which is what was logged.
    """
    rewards = lists.click if reward is Reward.CLICK else lists.strong
    log, rows = Log.of(rewards, lists.propensity, lists.subject), np.arange(len(lists))
    orders = [order] if rival is None else [order, rival]
    predicted = _predicted(lists, rewards, orders, rng)
    policies = [
        Policy((each == rows).astype(np.float64), predicted[:, 0], predicted[:, 1 + at])
        for at, each in enumerate(orders)
    ]
    contested = np.flatnonzero(lists.block >= 0 if rival is None else order != rival)
    whole = estimate(log, policies[0], rng=rng, settings=settings)
    rival_there = policies[1].take(contested) if rival is not None else None
    rare = replace(settings, trust=replace(settings.trust, least_share=0.0))
    part = estimate(
        log.take(contested), policies[0].take(contested), rival=rival_there, rng=rng, settings=rare
    )
    count = max(lists.lists, 1)
    return ListValue(
        reward=reward,
        lists=lists.lists,
        slots=len(lists),
        contested=len(contested),
        logged=float(rewards.sum()) / count,
        value={name: _scaled(found.value, len(lists) / count) for name, found in whole.estimates.items()},
        gain={name: _scaled(found.gain, len(contested) / count) for name, found in part.estimates.items()},
        support=whole.support,
        contested_support=part.support,
    )


def _predicted(
    lists: ExploredLists,
    reward: NDArray[np.float64],
    orders: Sequence[NDArray[np.int64]],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the modelled reward of what stands at each row, and of what orders put there, (n, 1 + o)."""
    rows = np.arange(len(lists))
    inputs = [_inputs(lists, stands) for stands in (rows, *orders)]

    def fit(learn: NDArray[np.int64]) -> Predict:
        beta = fitted_logistic(inputs[0][learn], reward[learn])
        return lambda asked: np.stack([logistic(each[asked], beta) for each in inputs], axis=1)

    return cross_fitted(fit, lists.subject, rng=rng)


def _inputs(lists: ExploredLists, stands: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return 1, log examination of the rank, and the features of the item that stands there, (n, 2 + F)."""
    seen = np.log(examination(lists.rank))
    return np.hstack([np.ones((len(lists), 1)), seen[:, None], lists.features[stands].astype(np.float64)])


def _scaled(interval: Interval, by: float) -> Interval:
    return Interval(interval.mean * by, interval.low * by, interval.high * by)
