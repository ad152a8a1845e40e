"""Reward models for DR: what an action would have earned, told by rows other than the one it is told of.

Cross-fitting (Chernozhukov et al. 2018, "Double/debiased machine learning", definition 3.1): units are dealt
into folds, and each fold's predictions come from a model fitted on the others. A model that saw the row it
predicts would take the row's own noise off it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from training_jobs.evaluate.bandit_log import Policy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training_jobs.evaluate.bandit_log import Log

MASS = 100.0
"""Rows that the prior of a rate counts for."""

Predict = Callable[["NDArray[np.int64]"], "NDArray[np.float64]"]
"""From m rows to what is predicted of them, (m, c)."""

Fit = Callable[["NDArray[np.int64]"], Predict]
"""From the rows to learn from to a model."""


def cross_fitted(
    fit: Fit, unit: NDArray[np.int64], *, rng: np.random.Generator, folds: int = 5
) -> NDArray[np.float64]:
    """Return what models say of rows they were not fitted on, (n, c).

    Parameters
    ----------
    unit
        (n,), 1 row or more: a unit's rows are all in one fold.
    folds
        2 or more; with fewer units, a fold each. A single unit is predicted by a model of itself.
    """
    _, dense = np.unique(unit, return_inverse=True)
    units = int(dense.max()) + 1
    fold = (rng.permutation(units) % min(folds, units))[dense]
    parts = []
    for number in range(int(fold.max()) + 1):
        learn = np.flatnonzero(fold != number)
        parts.append(fit(learn if len(learn) else np.arange(len(unit)))(np.flatnonzero(fold == number)))
    order = np.argsort(fold, kind="stable")
    result = np.empty((len(unit), parts[0].shape[1]))
    result[order] = np.concatenate(parts)
    return result


def shrunk_rates(
    cell: NDArray[np.int64],
    action: NDArray[np.int64],
    reward: NDArray[np.float64],
    shape: tuple[int, int],
    *,
    mass: float = MASS,
) -> NDArray[np.float64]:
    """Return the mean reward of each action in each cell, (cells, actions) = `shape`.

    An action's mean over all cells is drawn to that of all rows, and its mean in a cell to that over all
    cells, each as if `mass` rows had come out so (additive smoothing, Lidstone 1920, in two steps).
    """
    cells, actions = shape
    overall = float(reward.mean()) if len(reward) else 0.0
    by_action = np.bincount(action, reward, actions) + mass * overall
    by_action /= np.bincount(action, minlength=actions) + mass
    flat = cell * actions + action
    total = np.bincount(flat, reward, cells * actions).reshape(shape) + mass * by_action
    return np.asarray(total / (np.bincount(flat, minlength=cells * actions).reshape(shape) + mass))


def tabular_policy(
    log: Log,
    cell: NDArray[np.int64],
    action: NDArray[np.int64],
    chances: NDArray[np.float64],
    *,
    rng: np.random.Generator,
    mass: float = MASS,
    folds: int = 5,
) -> Policy:
    """Return a policy over few actions in few cells, with `shrunk_rates` cross-fitted for DR.

    Parameters
    ----------
    cell, action
        (n,) int64 from 0: in which cell (of contexts, positions) the logged action was taken, and which.
    chances
        (cells, actions): the policy's probabilities, each row's sum 1.
    """

    def fit(learn: NDArray[np.int64]) -> Predict:
        rates = shrunk_rates(cell[learn], action[learn], log.reward[learn], chances.shape, mass=mass)
        worth = (chances * rates).sum(axis=1)  # (cells,)
        return lambda rows: np.stack([rates[cell[rows], action[rows]], worth[cell[rows]]], axis=1)

    found = cross_fitted(fit, log.unit, rng=rng, folds=folds)
    return Policy(chances[cell, action], found[:, 0], found[:, 1])


def fitted_logistic(
    inputs: NDArray[np.float64], reward: NDArray[np.float64], *, ridge: float = 1.0, steps: int = 25
) -> NDArray[np.float64]:
    """Return the coefficients (c,) of a logistic regression of rewards in [0, 1] on (n, c) inputs.

    Newton's method with a ridge penalty on all but the first column, which is the constant 1.
    """
    penalty = np.full(inputs.shape[1], ridge)
    penalty[0] = 1e-6
    mean = float(np.clip(reward.mean(), 1e-6, 1.0 - 1e-6)) if len(reward) else 0.5
    beta = np.zeros(inputs.shape[1])
    beta[0] = np.log(mean / (1.0 - mean))
    for _ in range(steps):
        p = logistic(inputs, beta)
        gradient = inputs.T @ (reward - p) - penalty * beta
        hessian = (inputs * (p * (1.0 - p))[:, None]).T @ inputs + np.diag(penalty)
        step = np.clip(np.linalg.solve(hessian, gradient), -2.0, 2.0)
        beta = beta + step
        if float(np.abs(step).max()) < 1e-8:
            break
    return beta


def logistic(inputs: NDArray[np.float64], beta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(−inputs · beta)) of (..., c) inputs, (...)."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(inputs @ beta, -30.0, 30.0))))
