"""How well a round went: rates per shown item, NDCG against the hidden truth, a bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from playground.market.clicks import Outcomes, Shown
    from playground.market.market import Market


@dataclass(frozen=True, slots=True)
class RoundScore:
    """One policy in one round.

    Parameters
    ----------
    click_rate, strong_positive_rate, dislike_rate
        Per shown item, in [0, 1].
    ndcg
        Mean NDCG@10 against the hidden preference, in [0, 1].
    low, high
        Percentile bootstrap interval of `click_rate`, subjects drawn with replacement.
    lists, shown
        How many lists and items were shown.
    """

    click_rate: float
    strong_positive_rate: float
    dislike_rate: float
    ndcg: float
    low: float
    high: float
    lists: int
    shown: int


def score_round(
    market: Market,
    use_case: str,
    lists: Sequence[Shown],
    happened: Outcomes,
    *,
    excluded: Mapping[str, frozenset[str]],
    rng: np.random.Generator,
    level: float = 0.95,
    samples: int = 1000,
) -> RoundScore:
    """Score the lists of one round.

    Parameters
    ----------
    lists, happened
        What was shown, and `Market.play` of it.
    excluded
        By subject id: items that could not be shown to it, left out of the ideal list.
    rng
        Draws the bootstrap.
    level, samples
        Of the interval.
    """
    shown = len(happened.item_row)
    if not shown:
        return RoundScore(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, len(lists), 0)
    low, high = rate_interval(happened.clicked, happened.subject_row, rng=rng, level=level, samples=samples)
    ndcg = np.mean(
        [
            market.truth_ndcg(use_case, one, excluded=excluded.get(one.subject_id, frozenset()))
            for one in lists
        ]
    )
    return RoundScore(
        click_rate=float(happened.clicked.mean()),
        strong_positive_rate=float(happened.strong.mean()),
        dislike_rate=float(happened.disliked.mean()),
        ndcg=float(ndcg),
        low=low,
        high=high,
        lists=len(lists),
        shown=shown,
    )


def rate_interval(
    hits: NDArray[np.bool_],
    groups: NDArray[np.intp],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    samples: int = 1000,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a rate, whole groups drawn with replacement (Efron 1979).

    Parameters
    ----------
    hits, groups
        Shape (n,): what happened, and whose it is.

    Returns
    -------
    tuple
        Low and high; a rate over nothing is (0, 0).
    """
    _, group = np.unique(groups, return_inverse=True)
    counted = np.bincount(group.reshape(-1), minlength=0)
    if not len(counted):
        return 0.0, 0.0
    hit = np.bincount(group.reshape(-1), weights=hits.astype(np.float64))
    drawn = rng.integers(0, len(counted), size=(samples, len(counted)))
    rates = hit[drawn].sum(axis=1) / counted[drawn].sum(axis=1)
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
