"""The normal equations of one subject in implicit-feedback ALS, and what its events weigh in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRAM_ROWS = 65_536
"""Rows that are taken to double precision at a time."""
WELL = 1e8
"""Up to this condition number the equations of an empty history are inverted once and for all."""


class NormalEquations:
    """x = (YᵀY + Yᵀ(C − I)Y + λI)⁻¹ Yᵀ C p, for one subject at a time (Hu et al. 2008, equation 4).

    Parameters
    ----------
    gram
        YᵀY of the item factors, (f, f).
    regularization
        λ, 0 or more.
    """

    def __init__(self, gram: NDArray[np.float64], regularization: float) -> None:
        self._gram = gram + regularization * np.eye(len(gram))  # YᵀY + λI, (f, f)
        self._inverse = np.linalg.inv(self._gram) if np.linalg.cond(self._gram) < WELL else None

    def solve(self, factors: NDArray[np.float64], confidence: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return x, (f,), for a subject that reacted to items of `factors` (n, f) with `confidence` (n,)."""
        if self._inverse is not None and 2 * len(factors) <= len(self._gram):
            # (G + YᵀDY)⁻¹ Yᵀc = G⁻¹Yᵀ (I + D Y G⁻¹Yᵀ)⁻¹ c: n equations instead of f, a push-through identity.
            spread = self._inverse @ factors.T  # (f, n)
            inner = np.eye(len(factors)) + (confidence - 1.0)[:, None] * (factors @ spread)
            folded: NDArray[np.float64] = spread @ np.linalg.solve(inner, confidence)
            return folded
        left = self._gram + (factors * (confidence - 1.0)[:, None]).T @ factors
        right = confidence @ factors
        try:
            solved = np.linalg.solve(left, right)
        except np.linalg.LinAlgError:  # no regularization and fewer directions than factors
            solved = np.linalg.lstsq(left, right, rcond=None)[0]
        return np.asarray(solved, dtype=np.float64)


def aged(
    weights: NDArray[np.floating], age_days: NDArray[np.floating], half_life_days: float
) -> NDArray[np.floating]:
    """Halve weights, (n,), for every `half_life_days` of age, (n,); ages under 0 (clock skew) count as 0."""
    halved: NDArray[np.floating] = weights * 0.5 ** (np.maximum(age_days, 0.0) / half_life_days)
    return halved


def saturated(weights: NDArray[np.floating], saturation: float) -> NDArray[np.floating]:
    """Return s log(1 + w / s), shape (n,): w while small beside the saturation s, then ever slower."""
    found: NDArray[np.floating] = saturation * np.log1p(weights / saturation)
    return found


def gram_of(factors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return YᵀY, (f, f), in double precision without a copy of all of Y in it."""
    found = np.zeros((factors.shape[1], factors.shape[1]))
    for start in range(0, len(factors), GRAM_ROWS):
        part = factors[start : start + GRAM_ROWS].astype(np.float64)
        found += part.T @ part
    return found
