"""Ranking metrics, for many lists at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

METRICS = ("ndcg", "hit", "recall", "precision", "map", "mrr")
"""Names without the cut-off; `metrics_at` gives ``ndcg@10`` and so on."""


def metrics_at(
    hits: NDArray[np.bool_], relevant: NDArray[np.int64], k: int
) -> dict[str, NDArray[np.float64]]:
    """Return each list's metrics.

    Parameters
    ----------
    hits
        (n, at least k): whether the item at each rank is relevant, rank 1 first.
    relevant
        (n,): how many relevant items there are for each list, 1 or more.
    k
        Cut-off.

    Returns
    -------
    dict of (n,) arrays in [0, 1]
        ``ndcg@k``: binary gain, ideal DCG over min(relevant, k) (Järvelin, Kekäläinen 2002). ``hit@k``: any
        relevant. ``recall@k``: found over relevant. ``precision@k``: found over k. ``map@k``: mean precision
        at the hits, over min(relevant, k). ``mrr@k``: one over the first hit's rank.
    """
    cut = hits[:, :k].astype(np.float64)
    ranks = np.arange(1, cut.shape[1] + 1)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(1, k + 1) + 1.0))])
    best = np.minimum(relevant, k)
    found = cut.sum(axis=1)
    precisions = np.cumsum(cut, axis=1) / ranks
    return {
        f"ndcg@{k}": (cut / np.log2(ranks + 1.0)).sum(axis=1) / ideal[best],
        f"hit@{k}": (found > 0).astype(np.float64),
        f"recall@{k}": found / relevant,
        f"precision@{k}": found / k,
        f"map@{k}": (precisions * cut).sum(axis=1) / best,
        f"mrr@{k}": (cut / ranks).max(axis=1, initial=0.0),
    }
