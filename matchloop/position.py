"""How likely a rank was looked at, and what that makes an observation at that rank worth.

Examination falls with the rank as the gain in DCG does: p(rank) = 1 / log2(rank + 1), which is 1.0 at
rank 1, 0.39 at 5 and 0.29 at 10. `DISCOUNT` weights a pair by p: what was shown low counts less. `INVERSE`
weights it by 1/p, capped: what was found despite its place counts more (Joachims, Swaminathan, Schnabel
2017, inverse propensity weighting). By default the ranker's data sets use `DISCOUNT`, the Two-Tower's
`INVERSE`.
"""

from __future__ import annotations

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
    NONE = "none"


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


def exposure_weight(rank: ArrayLike, weighting: Weighting, *, cap: float = CAP) -> NDArray[np.float64]:
    """Return the weight of an observation at each rank, in the shape given.

    Parameters
    ----------
    rank
        1 and more; rank 1 is the first.
    weighting
        `DISCOUNT`: p, in (0, 1]. `INVERSE`: 1/p, in [1, cap]. `NONE`: 1.
    cap
        Largest inverse weight, 1 or more.

    Raises
    ------
    InvalidInput
        If a rank is under 1 or not finite, or `cap` is under 1.
    """
    if not cap >= 1.0:
        raise InvalidInput(f"cap is {cap}, must be 1 or more")
    seen = examination(rank)
    if weighting is Weighting.DISCOUNT:
        return seen
    if weighting is Weighting.INVERSE:
        return np.minimum(1.0 / seen, cap)
    return np.ones_like(seen)
