"""Always-valid intervals of a ratio of sums over subjects, and of how far one such ratio is ahead of another.

An interval for a sample of fixed size is wrong in 5 % of looks, and one who looks every minute and stops at
the first surprise is surprised nearly always. These are wrong in 5 % of whole histories: whoever looks after
every list, for ever, sees the truth outside with probability at most alpha.

Subject i was shown x_i items, y_i of which drew a reaction; the rate is R = sum y / sum x. Subjects are
independent, the items of one subject are not, so that the variance comes from subjects (linearised ratio,
Cochran 1977, "Sampling Techniques"):

    V = sum (y_i - R x_i)^2 = sum y^2 - 2 R sum xy + R^2 sum x^2,        se^2 = V / (sum x)^2

V is also the clock: the score (R^ - R) sum x has independent increments on the scale of its own variance, and
so has the score of a difference, whatever share of the items each side got (canonical joint distribution,
Jennison and Turnbull 1997). For independent and rare reactions V is their number. To a process S with
independent increments and variance V the normal mixture boundary (Robbins 1970; Howard, Ramdas, McAuliffe and
Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences"; for sums normal in the limit
only, Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021, "Time-uniform central limit theory and
asymptotic confidence sequences") promises

    P(exists V: |S| >= sqrt((V + 1/rho^2) (2 log(1/alpha) + log(1 + rho^2 V)))) <= alpha

and, for one side alone (a mixture over the half of the normal; the same papers),

    P(exists V: S >= sqrt((V + 1/rho^2) 2 log(1 + sqrt(1 + rho^2 V) / (2 alpha)))) <= alpha

rho is chosen beforehand, so that the boundary is tightest about when V is `TUNED`.

The promise holds in the limit of many subjects. For the first few, one reaction by a subject of its own is
added to V: no interval is ever empty, and that of no reactions among x items reaches to about 10 / x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matchloop.experiments.reactions import Moments, Reactions

ALPHA = 0.05
TUNED = 100.0
"""Information, in independent reactions, at which the boundaries are tightest."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and where the truth lies; `low` <= `rate` <= `high`."""

    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RatioSums:
    """Sums over subjects of y, x, y^2, xy and x^2; what is known of a ratio sum y / sum x.

    Parameters
    ----------
    counted
        Sum of y.
    shown
        Sum of x; 0: nothing is known.
    """

    counted: float
    shown: float
    squares: float
    products: float
    shown_squares: float

    @classmethod
    def of(cls, reactions: Reactions, moments: Moments) -> RatioSums:
        """Return the sums of one kind of reaction of a group."""
        return cls(moments.total, reactions.shown, moments.squares, moments.products, reactions.shown_squares)

    @classmethod
    def of_trials(cls, hits: float, trials: float) -> RatioSums:
        """Return the sums of independent trials, each a subject of its own."""
        return cls(hits, trials, hits, hits, trials)

    @property
    def rate(self) -> float:
        """The ratio; 0 where nothing is known."""
        return self.counted / self.shown if self.shown > 0 else 0.0

    @property
    def spread(self) -> float:
        """V of the module, with one reaction added."""
        rate = self.rate
        return 1.0 + max(0.0, self.squares - 2.0 * rate * self.products + rate * rate * self.shown_squares)

    @property
    def variance(self) -> float:
        """Of the rate; infinite where nothing is known."""
        return self.spread / self.shown**2 if self.shown > 0 else math.inf


def rate_interval(sums: RatioSums, *, alpha: float = ALPHA) -> Interval:
    """Return the always-valid interval of a rate, within [0, 1].

    Raises
    ------
    ValueError
        If alpha is not between 0 and 1.
    """
    if sums.shown <= 0:
        return Interval(0.0, 0.0, 1.0)
    radius = math.sqrt(sums.variance) * two_sided(sums.spread, alpha)
    return Interval(sums.rate, max(0.0, sums.rate - radius), min(1.0, sums.rate + radius))


def difference_interval(challenger: RatioSums, champion: RatioSums, *, alpha: float = ALPHA) -> Interval:
    """Return the always-valid interval of the challenger's rate minus the champion's, within [-1, 1].

    The subjects of the two are taken for independent; where they are the same ones, the interval is too wide.
    """
    ahead = challenger.rate - champion.rate
    if min(challenger.shown, champion.shown) <= 0:
        return Interval(0.0, -1.0, 1.0)
    variance = challenger.variance + champion.variance
    radius = math.sqrt(variance) * two_sided(_clock(challenger, champion, variance), alpha)
    return Interval(ahead, max(-1.0, ahead - radius), min(1.0, ahead + radius))


def least_excess(ours: RatioSums, theirs: RatioSums, *, factor: float = 1.0, alpha: float = ALPHA) -> float:
    """Return what our rate minus `factor` times theirs is at least: a one-sided always-valid bound.

    Over all looks it is ever over the truth with probability at most alpha.

    Returns
    -------
    float
        -inf where one of the two is not known at all.
    """
    if min(ours.shown, theirs.shown) <= 0:
        return -math.inf
    variance = ours.variance + factor * factor * theirs.variance
    radius = math.sqrt(variance) * one_sided(_clock(ours, theirs, variance), alpha)
    return ours.rate - factor * theirs.rate - radius


def two_sided(clock: float, alpha: float) -> float:
    """Return by how many standard errors the truth may lie off, either way; `clock` is V of the module."""
    _check(alpha)
    scaled = _rho_squared(alpha) * clock
    return math.sqrt((1.0 + 1.0 / scaled) * (2.0 * math.log(1.0 / alpha) + math.log1p(scaled)))


def one_sided(clock: float, alpha: float) -> float:
    """Return by how many standard errors the truth may lie off on the one side that matters."""
    _check(alpha)
    scaled = _rho_squared(2.0 * alpha) * clock
    return math.sqrt((1.0 + 1.0 / scaled) * 2.0 * math.log1p(math.sqrt(1.0 + scaled) / (2.0 * alpha)))


def _clock(ours: RatioSums, theirs: RatioSums, variance: float) -> float:
    """Return the information 1 / se^2 of a difference, in units of reactions.

    The unit is the squared variance of an item; any constant would do, this one tells one side alone its V.
    """
    of_item = max(ours.spread / ours.shown, theirs.spread / theirs.shown)
    return of_item * of_item / variance


def _rho_squared(alpha: float) -> float:
    """Return rho^2 for which the boundary is tightest at `TUNED` (Waudby-Smith et al. 2021)."""
    wide = -2.0 * math.log(min(alpha, 0.5))
    return (wide + math.log1p(wide)) / TUNED


def _check(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha {alpha} is not between 0 and 1")
