"""Importance weights, and how much of a log speaks for another policy than the one that made it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ODD = 4.0
"""So many standard errors a mean weight may be from 1."""


@dataclass(frozen=True, slots=True)
class Trust:
    """From where on an estimate is warned of.

    Parameters
    ----------
    least_share, least_rows
        Effective sample size as a share of the rows, and as such.
    least_rewarded
        Rows that have both a weight and a reward.
    heaviest
        Share of all weight that one unit may carry.
    """

    least_share: float = 0.1
    least_rows: float = 100.0
    least_rewarded: int = 10
    heaviest: float = 0.1


TRUST = Trust()


@dataclass(frozen=True, slots=True)
class Support:
    """How much of a log speaks for a policy.

    Parameters
    ----------
    rows, units
        Of the log.
    effective
        Kish's effective sample size, (Σ w)² / Σ w² (Kish 1965, section 11.7): so many rows of the policy's
        own would tell about as much.
    mean_weight
        Of the weights before clipping: 1 where support and propensities are right, but for chance.
    largest
        Largest weight before clipping.
    clipped
        Share of the rows whose weight was clipped.
    warnings
        Why not to trust an estimate; empty where nothing speaks against it.
    """

    rows: int
    units: int
    effective: float
    mean_weight: float
    largest: float
    clipped: float
    warnings: tuple[str, ...] = ()


def importance_weights(
    chance: ArrayLike, propensity: ArrayLike, *, clip: float | None = None
) -> NDArray[np.float64]:
    """Return min(chance / propensity, clip), in the shape given.

    Clipping trades bias for variance (Ionides 2008, "Truncated importance sampling"): with rewards of 0
    or more an IPS estimate can only fall by it.

    Raises
    ------
    InvalidInput
        If a propensity is not over 0, or `clip` is not.
    """
    p = np.asarray(propensity, dtype=np.float64)
    if not (p > 0.0).all():
        raise InvalidInput("propensities must be over 0")
    if clip is not None and not clip > 0.0:
        raise InvalidInput(f"clip is {clip}, must be over 0")
    weights = np.asarray(chance, dtype=np.float64) / p
    return weights if clip is None else np.minimum(weights, clip)


def effective_size(weights: NDArray[np.float64]) -> float:
    """Return Kish's (Σ w)² / Σ w² of (n,) weights of 0 or more, in [1, n]; 0 when there is no weight."""
    largest = float(weights.max(initial=0.0))
    if largest <= 0.0:
        return 0.0
    scaled = weights / largest
    return float(scaled.sum() ** 2 / (scaled**2).sum())


def support_of(
    reward: NDArray[np.float64],
    weights: NDArray[np.float64],
    unit: NDArray[np.int64],
    *,
    clip: float | None = None,
    trust: Trust = TRUST,
) -> Support:
    """Say how much of a log speaks for a policy, and warn where that is little or looks wrong.

    Parameters
    ----------
    reward, weights, unit
        (n,) each: rewards, weights before clipping, and which rows belong together.
    clip
        Largest weight that the estimate used.
    """
    rows, used = len(reward), weights if clip is None else np.minimum(weights, clip)
    effective = effective_size(used)
    by_unit = sums_by_unit(np.stack([np.ones(rows), weights, used], axis=1), unit)
    found = Support(
        rows=rows,
        units=len(by_unit),
        effective=effective,
        mean_weight=float(weights.mean()) if rows else 0.0,
        largest=float(weights.max(initial=0.0)),
        clipped=float((weights > used).mean()) if rows else 0.0,
    )
    rewarded = int(((used > 0.0) & (reward != 0.0)).sum())
    heaviest = float(by_unit[:, 2].max(initial=0.0)) / max(float(used.sum()), 1e-300)
    off = float(np.sqrt(((by_unit[:, 1] - found.mean_weight * by_unit[:, 0]) ** 2).sum())) / max(rows, 1)
    size, share = f"effective sample size {effective:,.0f}", effective / max(rows, 1)
    odd = abs(found.mean_weight - 1.0) > max(ODD * off, 1e-6)
    told = [
        (share < trust.least_share, f"{size} is {share:.1%} of {rows:,} rows"),
        (effective < trust.least_rows, f"{size}, {trust.least_rows:,.0f} are needed"),
        (
            rewarded < trust.least_rewarded,
            f"{rewarded} rows with weight have a reward, {trust.least_rewarded} are needed",
        ),
        (heaviest > trust.heaviest, f"one unit carries {heaviest:.0%} of all weight"),
        (odd, f"weights average {found.mean_weight:.2f}, not 1: support lacks, or propensities are wrong"),
    ]
    return replace(found, warnings=tuple(warning for holds, warning in told if holds))


def sums_by_unit(values: NDArray[np.float64], unit: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each unit's sums of (n, c) values, (units, c); units without rows are left out."""
    _, dense = np.unique(unit, return_inverse=True)
    count = int(dense.max()) + 1 if len(dense) else 0
    sums = [np.bincount(dense, column, count) for column in values.T]
    return np.stack(sums, axis=1).astype(np.float64)
