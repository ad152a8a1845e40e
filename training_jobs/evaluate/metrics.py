"""Ranking metrics, for many lists at once: what each list is worth, and what all do to the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from matchloop.entities import discrete_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from matchloop.entities import Entity
    from matchloop.usecase import UseCase

PAIRS = 200_000
"""Pairs of items compared at once."""

METRICS = ("ndcg", "hit", "recall", "precision", "f1", "map", "mrr")
"""Names without the cut-off; `metrics_at` gives ``ndcg@10`` and so on."""


def metrics_at(
    hits: NDArray[np.bool_], relevant: NDArray[np.int64], k: int
) -> dict[str, NDArray[np.float64]]:
    """Return each list's metrics.

    Parameters
    ----------
    hits
        (n, any): whether the item at each rank is relevant, rank 1 first; ranks that are missing are no hits.
    relevant
        (n,): how many relevant items there are for each list, 1 or more.
    k
        Cut-off.

    Returns
    -------
    dict of (n,) arrays in [0, 1]
        With rel(r) = 1 for a hit at rank r, R relevant items, F = Σ rel(r) over r ≤ k:

        ``ndcg@k``: Σ rel(r) / log2(r + 1) over the same sum for a list with its min(R, k) hits first: binary
        gain (Järvelin, Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques").
        ``precision@k``: F / k. ``recall@k``: F / R. ``f1@k``: their harmonic mean, 2F / (k + R)
        (van Rijsbergen 1979). ``hit@k``: 1 if F > 0. ``map@k``: Σ rel(r) precision@r / min(R, k)
        (Buckley, Voorhees 2000; cut at k). ``mrr@k``: one over the first hit's rank, 0 without
        (Voorhees 1999, TREC-8 question answering).
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
        f"f1@{k}": 2.0 * found / (k + relevant),
        f"map@{k}": (precisions * cut).sum(axis=1) / best,
        f"mrr@{k}": (cut / ranks).max(axis=1, initial=0.0),
    }


def exposure(top: NDArray[np.int64], items: int) -> NDArray[np.float64]:
    """Return how much each item is seen in lists `top` (n, k) of rows, -1 for none: (items,).

    A place at rank r counts its examination probability 1 / log2(r + 1).
    """
    weight = np.broadcast_to(1.0 / np.log2(np.arange(2, top.shape[1] + 2)), top.shape)
    there = top >= 0
    return np.bincount(top[there], weights=weight[there], minlength=items).astype(np.float64)


def coverage(top: NDArray[np.int64], items: int) -> float:
    """Return the share of the catalogue that is in any of the lists `top` (n, k), in [0, 1].

    Catalogue coverage (Ge, Delgado-Battenfeld, Jannach 2010, "Beyond accuracy"). It grows with the number of
    lists, so only methods with as many lists compare; a bootstrap over subjects would be biased, since a
    resample has fewer different lists: it has no interval.
    """
    return len(np.unique(top[top >= 0])) / items if items else 0.0


def gini(exposed: NDArray[np.float64]) -> float:
    """Return how unequally exposure (m,) is spread: 0 for evenly, (m − 1)/m for one item that has all.

    Gini index Σ (2i − m − 1) x_i / (m Σ x_i), x sorted ascending, i from 1 (Gini 1912; for recommenders
    Fleder, Hosanagar 2009). No exposure at all is spread evenly: 0.
    """
    m, total = len(exposed), float(exposed.sum())
    if not total:
        return 0.0
    return float((2.0 * np.arange(1, m + 1) - m - 1) @ np.sort(exposed) / (m * total))


def lorenz(exposed: NDArray[np.float64], points: int = 101) -> NDArray[np.float64]:
    """Return the Lorenz curve: the share of exposure that the least exposed have, at even shares of items.

    Returns
    -------
    (points,) in [0, 1], never falling; from 0 to 1. The Gini index is one minus twice the area under it
    (Lorenz 1905). Without exposure it is the diagonal.
    """
    share: NDArray[np.float64] = np.linspace(0.0, 1.0, points)
    if not exposed.sum():
        return share
    summed = np.concatenate([[0.0], np.cumsum(np.sort(exposed))]) / exposed.sum()
    curve: NDArray[np.float64] = np.interp(share, np.linspace(0.0, 1.0, len(summed)), summed)
    return curve


def self_information(reacted: NDArray[np.int64], subjects: int) -> NDArray[np.float64]:
    """Return how surprising each item is, in bits: −log2 of the share of subjects who reacted to it.

    Parameters
    ----------
    reacted
        (m,): how many of the `subjects` did before.

    Returns
    -------
    (m,), 0 or more. An item nobody reacted to counts as one with half a subject, so that it stays finite
    and more surprising than any other.
    """
    share = np.maximum(reacted.astype(np.float64), 0.5) / max(subjects, 1)
    return np.asarray(-np.log2(np.minimum(share, 1.0)))


def novelty(top: NDArray[np.int64], information: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each list's mean self-information, (n,), in bits; NaN for an empty list.

    Zhou, Kuscsik, Liu, Medo, Wakeling, Zhang 2010, "Solving the apparent diversity-accuracy dilemma", eq. 5.
    """
    there = top >= 0
    summed = np.where(there, information[np.maximum(top, 0)], 0.0).sum(axis=1)
    return _mean_of(summed, there.sum(axis=1))


def list_diversity(top: NDArray[np.int64], fields: Sequence[Any]) -> NDArray[np.float64]:
    """Return each list's intra-list diversity, (n,), in [0, 1]; NaN for lists of fewer than two items.

    The mean over pairs of one minus their likeness (Ziegler, McNee, Konstan, Lausen 2005, "Improving
    recommendation lists through topic diversification"; Smyth, McClave 2001), likeness as in serving: the
    mean over fields of the Jaccard index of both items' values, 0 where either has none.

    Parameters
    ----------
    fields
        By diversity field, CSR (items, values) of ones, as `diversity_fields` makes them. Without fields
        nothing is alike: 1.
    """
    there = top >= 0
    counts = there.sum(axis=1)
    first, second = np.triu_indices(top.shape[1], 1)
    line, pair = np.nonzero(there[:, first] & there[:, second])
    left, right = top[line, first[pair]], top[line, second[pair]]
    alike = np.zeros(len(line))
    for matrix in fields:
        sizes = np.asarray(matrix.sum(axis=1)).reshape(-1)
        for at in range(0, len(line), PAIRS):
            part = slice(at, at + PAIRS)
            common = np.asarray(matrix[left[part]].multiply(matrix[right[part]]).sum(axis=1)).reshape(-1)
            union = sizes[left[part]] + sizes[right[part]] - common
            alike[part] += common / np.maximum(union, 1.0) / len(fields)
    pairs = counts * (counts - 1) / 2.0
    return _mean_of(pairs - np.bincount(line, weights=alike, minlength=len(top)), pairs)


def diversity_fields(use_case: UseCase, items: Sequence[Entity]) -> list[Any]:
    """Return the items' values by diversity field of the use case: CSR (items, values) of ones each."""
    fields = []
    for name in use_case.ranking.diversity_fields:
        codes: dict[str, int] = {}
        pairs = [
            (row, codes.setdefault(value, len(codes)))
            for row, item in enumerate(items)
            for value in set(discrete_values(item.features.get(name)))
        ]
        row, column = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        shape = (len(items), max(len(codes), 1))
        fields.append(sparse.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=shape))
    return fields


def _mean_of(total: NDArray[np.float64], count: NDArray[Any]) -> NDArray[np.float64]:
    mean = np.full(len(total), np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean
