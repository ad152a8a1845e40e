"""Calibrated retrieval scores: what the ranker's teacher says of a candidate, comparable across methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from matchloop.usecase import Method

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

SCORE_FLOOR = 1e-4
"""Calibrated scores stay in [floor, 1 − floor], so that their logit is finite."""


class Platt(BaseModel):
    """One method's calibration: sigmoid(slope × evidence + intercept) (Platt 1999)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float
    intercept: float


DEFAULT_PLATT: Mapping[Method, Platt] = {
    Method.CONTENT: Platt(slope=4.0, intercept=-2.0),
    Method.ALS: Platt(slope=4.0, intercept=-2.0),
    Method.TWO_TOWER: Platt(slope=4.0, intercept=-2.0),
    Method.ENSEMBLE: Platt(slope=4.0, intercept=-2.0),
    Method.POPULAR: Platt(slope=2.0, intercept=-2.0),
}
"""Used for a method that has no fitted calibration: rising, so the order within a method stays.

Popular candidates are what is left when nothing better was found, hence at most 0.5.
"""

CLIENT_METHOD = Method.CONTENT
"""A client's scores, moved to [0, 1] over its list, are calibrated like this method's, which lie there."""

SQUASH: Mapping[Method, float] = {Method.ENSEMBLE: 1.0 / 30.0, Method.POPULAR: 1.0}
"""The score that counts as one half, for methods whose scores have no scale of their own: sums of
weighted reciprocal ranks (about 0.02 to 0.05) and decayed counts."""


def sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(−x)), any shape; x is cut to ±60, so nothing overflows."""
    bounded = np.minimum(np.maximum(x, -60.0), 60.0)
    return np.asarray(1.0 / (1.0 + np.exp(-bounded)), dtype=np.float32)


def logit(p: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log(p / (1 − p)), any shape; p is cut to [floor, 1 − floor] first."""
    p = np.minimum(np.maximum(p, SCORE_FLOOR), 1.0 - SCORE_FLOOR)
    return np.asarray(np.log(p / (1.0 - p)), dtype=np.float32)


def evidence(method: Method, scores: ArrayLike) -> NDArray[np.float32]:
    """Return what a method's Platt parameters are applied to, same shape.

    The retrieval score s itself; for a method of `SQUASH` s / (|s| + half), which is in (−1, 1).
    """
    raw = np.asarray(scores, dtype=np.float32)
    half = SQUASH.get(method)
    if half is not None:
        return np.asarray(raw / (half + np.abs(raw)), dtype=np.float32)
    return raw


def calibrate(
    scores: ArrayLike, methods: Sequence[Method], calibration: Mapping[Method, Platt]
) -> NDArray[np.float32]:
    """Return the ranking feature `original_score`.

    Parameters
    ----------
    scores
        (n,) retrieval scores, higher is better.
    methods
        n methods, the one that gave each score.
    calibration
        Fitted parameters by method; a method without has those of `DEFAULT_PLATT`.

    Returns
    -------
    (n,) float32 in [1e-4, 1 − 1e-4].
    """
    raw = np.asarray(scores, dtype=np.float32)
    present = set(methods)
    if len(present) == 1:
        (method,) = present
        return _apply(method, raw, calibration)
    result = np.empty_like(raw)
    for method in present:
        rows = [row for row, other in enumerate(methods) if other == method]
        result[rows] = _apply(method, raw[rows], calibration)
    return result


def _apply(
    method: Method, scores: NDArray[np.float32], calibration: Mapping[Method, Platt]
) -> NDArray[np.float32]:
    platt = calibration.get(method) or DEFAULT_PLATT[method]
    scaled = np.asarray(platt.slope * evidence(method, scores) + platt.intercept, dtype=np.float32)
    bounded = np.minimum(np.maximum(sigmoid(scaled), SCORE_FLOOR), 1.0 - SCORE_FLOOR)
    return np.asarray(bounded, dtype=np.float32)


def fit_platt(
    method: Method, scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> Platt | None:
    """Fit one method's calibration by weighted logistic regression on one variable.

    Targets are smoothed as in Platt (1999): (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2); a slope that comes
    out zero or negative would turn the method's order round, so it counts as no fit.

    Parameters
    ----------
    scores, labels, weights
        (n,) retrieval scores, outcomes in {0, 1}, non-negative weights (default: all 1).

    Returns
    -------
    The parameters, or None when one class is missing or the score does not rise with the outcome.
    """
    x = evidence(method, scores).astype(np.float64)
    positive = np.asarray(labels, dtype=np.float64) > 0.5
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    up, down = float(w[positive].sum()), float(w[~positive].sum())
    if up <= 0.0 or down <= 0.0 or float(np.ptp(x)) == 0.0:
        return None
    target = np.where(positive, (up + 1.0) / (up + 2.0), 1.0 / (down + 2.0))
    centre, width = float(x.mean()), float(x.std())
    design = np.stack([(x - centre) / width, np.ones_like(x)], axis=1)  # (n, 2)
    beta = np.array([0.0, np.log(up / down)])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ beta, -60.0, 60.0)))
        gradient = design.T @ (w * (target - p))
        hessian = (design * (w * p * (1.0 - p))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.clip(np.linalg.solve(hessian, gradient), -2.0, 2.0)
        beta = beta + step
        if float(np.abs(step).max()) < 1e-9:
            break
    slope = float(beta[0]) / width
    return Platt(slope=slope, intercept=float(beta[1]) - slope * centre) if slope > 0.0 else None
