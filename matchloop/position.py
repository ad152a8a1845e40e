"""How likely a rank was looked at, and what that makes an observation at that rank worth.

Examination falls with the rank as the gain in DCG does: p(rank) = 1 / log2(rank + 1), which is 1.0 at
rank 1, 0.39 at 5 and 0.29 at 10. `DISCOUNT` weights a pair by p: what was shown low counts less. `INVERSE`
weights it by 1/p, capped: what was found despite its place counts more (Joachims, Swaminathan, Schnabel
2017, inverse propensity weighting). `ESTIMATED` weights by 1/p too, capped, with a p that was learned from
lists whose order was varied by chance. By default the ranker's data sets use `DISCOUNT`, the Two-Tower's
`INVERSE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CAP = 5.0
"""Largest inverse weight by default, that of rank 31: one deep hit must not outweigh a list."""


class Weighting(StrEnum):
    """How an observation is weighted by the rank it was shown at."""

    DISCOUNT = "discount"
    INVERSE = "inverse"
    ESTIMATED = "estimated"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ExaminationCurve:
    """Examination by rank as it was estimated, relative to rank 1.

    Parameters
    ----------
    by_rank
        From rank 1 on without a gap: 1.0 first, in (0, 1], never growing.

    Raises
    ------
    InvalidInput
        If it is empty, does not begin with 1.0, leaves (0, 1] or grows with the rank.
    """

    by_rank: tuple[float, ...]

    def __post_init__(self) -> None:
        values = np.asarray(self.by_rank, dtype=np.float64)
        if not len(values) or values[0] != 1.0 or not (values > 0.0).all() or (np.diff(values) > 0.0).any():
            raise InvalidInput(f"examination {self.by_rank} must begin with 1.0, be over 0 and never grow")

    def at(self, rank: ArrayLike) -> NDArray[np.float64]:
        """Return p in the shape given; past the last estimated rank it falls on as `examination` does.

        Raises
        ------
        InvalidInput
            If a rank is under 1 or not finite.
        """
        ranks = np.asarray(rank, dtype=np.float64)
        last = len(self.by_rank)
        fall = examination(ranks) / examination(np.minimum(ranks, last))
        known = np.asarray(self.by_rank)[np.minimum(ranks, last).astype(np.int64) - 1]
        return np.asarray(known * fall)


def examination(rank: ArrayLike) -> NDArray[np.float64]:
    """Return p(rank) = 1 / log2(rank + 1), in (0, 1], in the shape given.

    Raises
    ------
    InvalidInput
        If a rank is under 1 or not finite.
    """
    ranks = np.asarray(rank, dtype=np.float64)
    if not np.isfinite(ranks).all() or (ranks < 1.0).any():
        raise InvalidInput("ranks must be finite and 1 or more")
    return np.asarray(1.0 / np.log2(ranks + 1.0))


def exposure_weight(
    rank: ArrayLike, weighting: Weighting, *, cap: float = CAP, curve: ExaminationCurve | None = None
) -> NDArray[np.float64]:
    """Return the weight of an observation at each rank, in the shape given.

    Parameters
    ----------
    rank
        1 and more; rank 1 is the first.
    weighting
        `DISCOUNT`: p, in (0, 1]. `INVERSE`: 1/p, in [1, cap]. `ESTIMATED`: 1/p of `curve`, in [1, cap].
        `NONE`: 1.
    cap
        Largest inverse weight, 1 or more.
    curve
        Examination as it was estimated; `ESTIMATED` needs it, the others do not read it.

    Raises
    ------
    InvalidInput
        If a rank is under 1 or not finite, `cap` is under 1, or `ESTIMATED` has no curve.
    """
    if not cap >= 1.0:
        raise InvalidInput(f"cap is {cap}, must be 1 or more")
    seen = examination(rank)
    match weighting:
        case Weighting.DISCOUNT:
            return seen
        case Weighting.INVERSE:
            return np.minimum(1.0 / seen, cap)
        case Weighting.ESTIMATED:
            if curve is None:
                raise InvalidInput("estimated position weights need a curve estimated from exploration")
            return np.minimum(1.0 / curve.at(rank), cap)
        case Weighting.NONE:
            return np.ones_like(seen)
