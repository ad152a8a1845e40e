"""Rankings judged by reactions: over the whole catalogue, or over the lists that were shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from training_jobs.evaluate.metrics import metrics_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 256
"""Subjects ranked at once."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is right, for n subjects over m items.

    Parameters
    ----------
    subjects
        int64 (n,): rows of the subjects.
    relevant, seen
        CSR (n, m): held-out relevant pairs with their gains; pairs known before, no candidates.
    shown
        CSR (n, m): the only pairs that are candidates; None: all.
    """

    subjects: NDArray[np.int64]
    relevant: Any
    seen: Any
    shown: Any | None = None

    def __len__(self) -> int:
        return len(self.subjects)

    def of(self, rows: NDArray[np.int64]) -> Truth:
        """Return the truth of some of its subjects, by their rows in it."""
        shown = None if self.shown is None else self.shown[rows]
        return Truth(self.subjects[rows], self.relevant[rows], self.seen[rows], shown)

    def hits(self, top: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each item of `top` (n, k) is relevant; -1 (no item) never is."""
        row = np.repeat(np.arange(len(self)), top.shape[1])
        item = top.reshape(-1)
        width = self.relevant.shape[1]
        start = np.repeat(np.arange(len(self)), np.diff(self.relevant.indptr))
        keys = np.sort(start * width + self.relevant.indices)
        hit = np.isin(row * width + item, keys) & (item >= 0)
        return hit.reshape(top.shape)

    def best(self, scores: NDArray[np.float32], at: slice, k: int) -> NDArray[np.int64]:
        """Return the k best candidates of the subjects `at`, by scores (b, m), as rows of items.

        Returns
        -------
        int64 (b, k)
            Best first; -1 where no candidate is left.
        """
        if self.shown is not None:
            part = self.shown[at]
            rows = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
            only = np.full_like(scores, -np.inf)
            only[rows, part.indices] = scores[rows, part.indices]
            scores = only
        return top_of_scores(scores, self.seen[at], k)

    def weighted_ndcg(self, top: NDArray[np.int64], k: int) -> NDArray[np.float64]:
        """Return each subject's NDCG@k, (n,), with the pairs' own gains, for its items in `top`.

        Σ gain(r) / log2(r + 1), over the same sum for the greatest gains in falling order (Järvelin,
        Kekäläinen 2002): each subject's own, in [0, 1]. Among what was shown, over these sums' mean over
        subjects: a gain there is an inverse propensity, and the estimate is unbiased as a sum (Joachims et
        al. 2017, eq. 4). Divided by its own sum, a list with one click would be worth the same at
        whatever rank the click was, and the order that was served would be favoured. The mean is in [0, 1].
        """
        top = top[:, :k]
        discount = 1.0 / np.log2(np.arange(2, k + 2))
        row, column = np.nonzero(top >= 0)
        gains = np.zeros(top.shape)
        gains[row, column] = np.asarray(self.relevant[row, top[row, column]]).reshape(-1)
        ndcg: NDArray[np.float64] = gains @ discount[: top.shape[1]] / self._scale(k)
        return ndcg

    def chance_ndcg(self, k: int) -> NDArray[np.float64]:
        """Return what `weighted_ndcg` gives on average to an order of the candidates by chance, (n,)."""
        candidates = self.seen if self.shown is None else self.shown
        sizes = np.diff(candidates.indptr)
        sizes = self.relevant.shape[1] - sizes if self.shown is None else sizes
        summed = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])
        gains = np.asarray(self.relevant.sum(axis=1), dtype=np.float64).reshape(-1)
        chance: NDArray[np.float64] = (
            gains * summed[np.minimum(sizes, k)] / np.maximum(sizes, 1) / self._scale(k)
        )
        return chance

    def _scale(self, k: int) -> NDArray[np.float64]:
        """Return what each subject's discounted gain is divided by, (n,)."""
        discount = 1.0 / np.log2(np.arange(2, k + 2))
        sizes = np.diff(self.relevant.indptr)
        line = np.repeat(np.arange(len(self)), sizes)
        order = np.lexsort((-self.relevant.data, line))  # by subject, greatest gain first
        rank = np.arange(len(line)) - np.repeat(self.relevant.indptr[:-1], sizes)
        counted = np.where(rank < k, discount[np.minimum(rank, k - 1)], 0.0)
        ideal = np.bincount(line, weights=self.relevant.data[order] * counted, minlength=len(self))
        if self.shown is not None and len(ideal):
            ideal = np.full(len(ideal), ideal.mean())
        return np.maximum(ideal, 1e-12)

    def metrics(self, top: NDArray[np.int64], k: int) -> dict[str, NDArray[np.float64]]:
        """Return each subject's metrics of `metrics_at` for its items in `top` (n, k), best first."""
        return metrics_at(self.hits(top), np.diff(self.relevant.indptr).astype(np.int64), k)


def truth_of(
    held_out: tuple[NDArray[np.int64], NDArray[np.int64]],
    known: tuple[NDArray[np.int64], NDArray[np.int64]],
    shape: tuple[int, int],
    *,
    at_most: int | None = None,
    rng: np.random.Generator | None = None,
) -> Truth:
    """Build the truth from (subject rows, item rows) pairs; held-out pairs that are known do not count.

    Parameters
    ----------
    shape
        Subjects, items.
    at_most
        A random choice of that many subjects, when there are more; needs `rng`.
    """
    relevant, seen = (
        sparse.csr_matrix((np.ones(len(s), np.float32), (s, i)), shape=shape) for s, i in (held_out, known)
    )
    relevant = relevant - relevant.multiply(seen > 0)
    relevant.eliminate_zeros()
    relevant.data[:] = 1.0
    subjects = np.flatnonzero(np.diff(relevant.indptr) > 0).astype(np.int64)
    if at_most is not None and rng is not None and len(subjects) > at_most:
        subjects = np.sort(rng.choice(subjects, at_most, replace=False))
    return Truth(subjects, relevant[subjects], seen[subjects])


def top_by_vectors(
    subjects: NDArray[np.float32], items: NDArray[np.float32], truth: Truth, k: int
) -> NDArray[np.int64]:
    """Return the k items of highest inner product for each subject of `truth`, seen ones left out.

    Parameters
    ----------
    subjects
        (n, f), a row for each of `truth.subjects`; rows of zeros know nothing and get no items.
    items
        (m, f).

    Returns
    -------
    int64 (n, k)
        Item rows, best first; -1 where there is none.
    """
    top = np.full((len(subjects), k), -1, dtype=np.int64)
    for at in range(0, len(subjects), BLOCK):
        part = slice(at, at + BLOCK)
        top[part] = truth.best(subjects[part] @ items.T, part, k)
    top[~subjects.any(axis=1)] = -1
    return top


def top_of_scores(scores: NDArray[np.float32], seen: Any, k: int) -> NDArray[np.int64]:
    """Return the k best columns of each row of `scores` (b, m), seen ones left out, -1 where none is left."""
    rows = np.repeat(np.arange(seen.shape[0]), np.diff(seen.indptr))
    scores[rows, seen.indices] = -np.inf
    width = min(k, scores.shape[1])
    best = np.sort(np.argpartition(-scores, width - 1, axis=1)[:, :width], axis=1)  # equal scores by row
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    best = np.take_along_axis(best, order, axis=1)
    best[np.take_along_axis(scores, best, axis=1) == -np.inf] = -1
    found = np.full((len(scores), k), -1, dtype=np.int64)
    found[:, :width] = best
    return found


def random_top(truth: Truth, k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return k items drawn at random for each subject, seen ones left out."""
    top = np.full((len(truth), k), -1, dtype=np.int64)
    for at in range(0, len(truth), BLOCK):
        part = slice(at, at + BLOCK)
        scores = rng.random(truth.seen[part].shape, dtype=np.float32)
        top[part] = truth.best(scores, part, k)
    return top
