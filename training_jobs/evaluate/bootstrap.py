"""Intervals of a mean, by resampling subjects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 4_000_000
"""Draws made at once."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its interval."""

    mean: float
    low: float
    high: float


def interval_of(
    values: NDArray[np.float64], *, rng: np.random.Generator, resamples: int = 500, level: float = 0.95
) -> Interval:
    """Return the mean of `values` (n,) with its percentile bootstrap interval (Efron 1979); 0 for none."""
    if len(values) == 0:
        return Interval(0.0, 0.0, 0.0)
    (found,) = intervals_of(values[:, None], rng=rng, resamples=resamples, level=level)
    return found


def intervals_of(
    values: NDArray[np.float64], *, rng: np.random.Generator, resamples: int = 500, level: float = 0.95
) -> list[Interval]:
    """Return the interval of each column's mean, `values` (n, c), from the same resamples of its rows.

    Percentile bootstrap over subjects (Efron 1979, "Bootstrap methods"). A column's NaN are left out of its
    mean: subjects for which the value does not exist. A column without any value has 0, 0, 0.
    """
    columns = values.shape[1]
    there = ~np.isnan(values)
    both = np.hstack([np.where(there, values, 0.0), there.astype(np.float64)])  # (n, 2c): sums and counts
    sums = resampled_sums(both, rng=rng, resamples=resamples)
    means = sums[:, :columns] / np.maximum(sums[:, columns:], 1.0)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail], axis=0)
    mean = both[:, :columns].sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    return [Interval(*found) for found in zip(mean.tolist(), low.tolist(), high.tolist(), strict=True)]


def paired_interval(
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    *,
    rng: np.random.Generator,
    resamples: int = 500,
    level: float = 0.95,
) -> Interval:
    """Return the interval of the mean of `one` − `other`, (n,) each, of the same n subjects in one order.

    Pairing leaves out what makes subjects easy or hard for both (Efron, Tibshirani 1993, ch. 8).
    """
    return interval_of(one - other, rng=rng, resamples=resamples, level=level)


def resampled_sums(
    values: NDArray[np.float64], *, rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Return each column's sum over n rows drawn with replacement: `values` (n, c), result (resamples, c)."""
    n = len(values)
    sums = np.zeros((resamples, values.shape[1]))
    step = max(1, BLOCK // max(n, 1))
    for at in range(0, resamples if n else 0, step):
        some = min(step, resamples - at)
        drawn = rng.integers(0, n, (some, n)) + n * np.arange(some)[:, None]
        counts = np.bincount(drawn.reshape(-1), minlength=some * n).reshape(some, n)
        sums[at : at + some] = counts @ values
    return sums
