"""The population stability index of two samples: bins, shares, and what of it is chance.

With the shares a and e of two samples in the same bins,

    PSI = Σ (aᵢ − eᵢ) ln(aᵢ / eᵢ)

(Siddiqi 2006, "Credit Risk Scorecards", ch. 9; Jeffreys' divergence of the two).

Two samples of one population do not give 0: for n and m independent values in B bins PSI / (1/n + 1/m) is
about χ² of B − 1 degrees of freedom (Yurdakul, Naranjo 2020, "Statistical properties of the population
stability index", J. Risk Model Validation 14(4)), so that its mean is (B − 1)(1/n + 1/m). The items of a
list, and the lists of a subject, are not independent: n values tell less than n. `Chance` is therefore taken
from how subjects differ, with the shares' covariance V and Δ = diag(a)^-½ V diag(a)^-½: the mean is tr Δ, the
variance 2 tr Δ² (Rao, Scott 1981, "The analysis of categorical data from complex sample surveys", JASA 76).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtrc

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIE = 1e-6
"""Relative: values that differ by no more are the same value, computed twice."""


@dataclass(frozen=True, slots=True)
class Bins:
    """Half-open intervals: bin i holds ``edges[i-1] < value <= edges[i]``, the first and last are open-ended.

    Parameters
    ----------
    edges
        (B − 1,) float64, rising.
    """

    edges: NDArray[np.float64]

    @property
    def count(self) -> int:
        """How many bins."""
        return len(self.edges) + 1

    @classmethod
    def quantiles(cls, values: NDArray[np.float64], count: int) -> Bins:
        """Cut so that each bin holds about as many of the values, (n,) finite, n of 1 or more.

        A value that alone is a bin's worth or more (a constant, 0 of a feature that is mostly missing, one
        of few discrete values) is a bin of its own, `TIE` wide on either side: what leaves it is seen.
        """
        shares = np.arange(1, count) / count
        cuts = np.quantile(values, shares, method="inverted_cdf")
        found, times = np.unique(cuts, return_counts=True)
        ordered = np.sort(values)
        held = np.searchsorted(ordered, found, "right") - np.searchsorted(ordered, found, "left")
        heavy = (times > 1) | (held >= len(values) / count)
        margin = TIE * np.abs(found[heavy])
        below = np.minimum(found[heavy] - margin, np.nextafter(found[heavy], -np.inf))
        return cls(np.unique(np.concatenate([found[~heavy], below, found[heavy] + margin])))

    def place(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return each value's bin."""
        return np.searchsorted(self.edges, values, side="left").astype(np.int64)

    def tally(self, values: NDArray[np.float64], subject: NDArray[np.int64]) -> Tally:
        """Count the values, (n,) finite; `subject` (n,) numbers whose they are, from 0."""
        place = self.place(values)
        subjects = int(subject.max()) + 1 if len(subject) else 0
        of_subject = np.bincount(subject * self.count + place, minlength=subjects * self.count)
        return Tally.of(of_subject.reshape(subjects, self.count).astype(np.float64))


@dataclass(frozen=True, slots=True)
class Chance:
    """What a PSI would be if nothing had drifted, as the smallness of samples makes it.

    Parameters
    ----------
    mean
        0 or more.
    norm
        √tr Δ², 0 or more; the standard deviation is √2 of it.
    """

    mean: float = 0.0
    norm: float = 0.0

    def __add__(self, other: Chance) -> Chance:
        """Return that of two samples: means add up, norms at most do (triangle inequality)."""
        return Chance(self.mean + other.mean, self.norm + other.norm)

    def tail(self, value: float) -> float:
        """Return how probable it is that chance exceeds a value: c χ²(ν) of this mean and variance.

        Satterthwaite 1946, "An approximate distribution of estimates of variance components", Biometrics 2.
        """
        if self.mean == 0.0:
            return 0.0 if value > 0.0 else 1.0
        scale = self.norm**2 / self.mean
        return float(chdtrc(self.mean / scale, value / scale))

    @classmethod
    def of(cls, by_subject: NDArray[np.float64]) -> Chance:
        """Return one sample's part, from what each subject has in each bin, (subjects, B).

        Empty bins tell nothing. One subject alone counts as one value.
        """
        counts = by_subject.sum(axis=0)
        held, subjects, total = counts > 0, len(by_subject), float(counts.sum())
        bins = int(held.sum())
        if bins < 2:
            return cls()
        if subjects < 2:
            return cls(bins - 1.0, (bins - 1.0) ** 0.5)
        share = counts[held] / total
        off = by_subject[:, held] - share * by_subject.sum(axis=1, keepdims=True)  # (subjects, bins)
        off = off / (total * np.sqrt(share * (subjects - 1) / subjects))
        delta = off.T @ off  # (bins, bins)
        return cls(float(np.trace(delta)), float(np.sqrt((delta**2).sum())))


@dataclass(frozen=True, slots=True)
class Tally:
    """A sample in bins.

    Parameters
    ----------
    counts
        Values in each bin, (B,).
    chance
        Its part in what chance makes of a PSI.
    """

    counts: NDArray[np.float64]
    chance: Chance

    @classmethod
    def of(cls, by_subject: NDArray[np.float64]) -> Tally:
        """Count what each subject has in each bin, (subjects, B)."""
        return cls(by_subject.sum(axis=0), Chance.of(by_subject))

    @property
    def total(self) -> float:
        """How many values."""
        return float(self.counts.sum())

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share of each bin, (B,); all 0 for an empty sample."""
        return self.counts / max(self.total, 1.0)


def psi(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """Return the population stability index of two samples' counts in the same bins, (B,) each.

    0 for equal shares, symmetric, and finite: every bin gets half a value of the smaller sample in both, so
    that an empty bin weighs as much as the samples can tell. 0 when either sample is empty.
    """
    n, m = float(expected.sum()), float(actual.sum())
    if min(n, m) == 0.0:
        return 0.0
    extra = 0.5 / min(n, m)
    e, a = expected / n + extra, actual / m + extra
    e, a = e / e.sum(), a / a.sum()
    return float(((a - e) * np.log(a / e)).sum())


def pearson(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """Return Σ (aᵢ − eᵢ)² / ½(aᵢ + eᵢ) of two samples' counts in the same bins, (B,) each.

    The PSI of small differences, and what chance is judged by: the logarithm of a bin that few subjects are
    in has heavier tails than `Chance` knows of. 0 when either sample is empty.
    """
    n, m = float(expected.sum()), float(actual.sum())
    if min(n, m) == 0.0:
        return 0.0
    e, a = expected / n, actual / m
    either = e + a > 0.0
    return float(((a - e)[either] ** 2 / (0.5 * (a + e)[either])).sum())
