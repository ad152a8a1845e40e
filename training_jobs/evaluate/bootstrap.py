"""Intervals of a mean, by resampling subjects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)])
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(values.mean()), float(low), float(high))
