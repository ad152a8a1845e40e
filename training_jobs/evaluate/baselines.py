"""Models to be measured against, never served: neighbours of items, and EASE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg, sparse

from training_jobs.evaluate.ranking import BLOCK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training_jobs.evaluate.ranking import Truth

EASE_ITEMS = 6000
"""Catalogues up to this size get EASE: its matrix is dense, 8 · 6000² bytes = 288 MB, inverted in O(m³)."""


@dataclass(frozen=True, slots=True)
class ItemKnn:
    """Items liked by the same subjects, for subjects who liked some (Deshpande, Karypis 2004).

    score(s, i) = Σ_{j liked by s} w(i, j) with w(i, j) = c(i, j) / (√(c(i) c(j)) + shrinkage), c counting
    subjects: the cosine, drawn to 0 where few subjects speak for it (Bell, Koren 2007). Of each item only the
    `neighbours` greatest weights are kept.

    Parameters
    ----------
    weights
        CSR (m, m): row j holds the items that liking j speaks for.
    """

    weights: Any

    @classmethod
    def fit(
        cls,
        subjects: NDArray[np.int64],
        items: NDArray[np.int64],
        shape: tuple[int, int],
        *,
        neighbours: int = 100,
        shrinkage: float = 20.0,
    ) -> ItemKnn:
        """Count (subject row, item row) pairs, each once; `shape` is (subjects, items)."""
        liked = binary(subjects, items, shape)
        norm = np.sqrt(np.asarray(liked.sum(axis=0)).reshape(-1))
        blocks = []
        for at in range(0, shape[1], KNN_BLOCK):
            together = (liked[:, at : at + KNN_BLOCK].T @ liked).tocsr()
            row = np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
            together.data = together.data / (norm[at + row] * norm[together.indices] + shrinkage)
            together.data[together.indices == at + row] = 0.0
            blocks.append(_greatest(together, neighbours))
        weights = sparse.vstack(blocks, format="csr") if blocks else sparse.csr_matrix((0, shape[1]))
        return cls(weights.T.tocsr())

    def top(self, liked: Any, truth: Truth, k: int) -> NDArray[np.int64]:
        """Return the k best items, (n, k), of the truth's subjects by what they liked, CSR (n, m).

        −1 where no more items have a score: what no neighbour speaks for is not found.
        """
        found = np.full((len(truth), k), -1, dtype=np.int64)
        for at in range(0, len(truth), BLOCK):
            part = slice(at, at + BLOCK)
            scores = (liked[part] @ self.weights).toarray().astype(np.float32)
            scores[scores <= 0.0] = -np.inf
            found[part] = truth.best(scores, part, k)
        return found


KNN_BLOCK = 2048
"""Items whose neighbours are counted at once."""


@dataclass(frozen=True, slots=True)
class Ease:
    """A linear model of items on items in closed form (Steck 2019, "Embarrassingly shallow autoencoders").

    B = I − P · diag(1 / diag(P)), P = (XᵀX + λI)⁻¹, with zero diagonal (eq. 8); scores are X B.

    Parameters
    ----------
    weights
        float32 (m, m): B.
    """

    weights: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        subjects: NDArray[np.int64],
        items: NDArray[np.int64],
        shape: tuple[int, int],
        *,
        regularization: float = 200.0,
    ) -> Ease | None:
        """Fit to (subject row, item row) pairs, each once; None for more than `EASE_ITEMS` items."""
        if not 0 < shape[1] <= EASE_ITEMS:
            return None
        liked = binary(subjects, items, shape)
        gram = (liked.T @ liked).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += regularization
        inverse = linalg.cho_solve(linalg.cho_factor(gram, lower=True), np.eye(len(gram)))
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        return cls(weights.astype(np.float32))

    def top(self, liked: Any, truth: Truth, k: int) -> NDArray[np.int64]:
        """Return the k best items, (n, k), of the truth's subjects by what they liked, CSR (n, m).

        A subject that liked nothing gets −1 throughout.
        """
        found = np.full((len(truth), k), -1, dtype=np.int64)
        for at in range(0, len(truth), BLOCK):
            part = slice(at, at + BLOCK)
            found[part] = truth.best(np.asarray(liked[part] @ self.weights), part, k)
        found[np.diff(liked.indptr) == 0] = -1
        return found


def binary(subjects: NDArray[np.int64], items: NDArray[np.int64], shape: tuple[int, int]) -> Any:
    """Return CSR float32 `shape` with a one for each pair, however often it is given."""
    found = sparse.csr_matrix((np.ones(len(subjects), np.float32), (subjects, items)), shape=shape)
    found.sum_duplicates()
    found.data[:] = 1.0
    return found


def _greatest(matrix: Any, k: int) -> Any:
    """Return CSR `matrix` with the k greatest positive entries of each row."""
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, row))
    place = np.arange(len(row)) - np.repeat(matrix.indptr[:-1], np.diff(matrix.indptr))
    kept = order[(place < k) & (matrix.data[order] > 0.0)]
    return sparse.csr_matrix((matrix.data[kept], (row[kept], matrix.indices[kept])), shape=matrix.shape)


def baseline_tops(
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]], truth: Truth, shape: tuple[int, int], k: int
) -> dict[str, NDArray[np.int64]]:
    """Fit the baselines to (subject rows, item rows) of what was liked, and rank for the truth's subjects.

    Returns
    -------
    dict
        ``item_knn`` and, for up to `EASE_ITEMS` items, ``ease``: int64 (n, k) each, −1 where none is left.
    """
    liked = binary(*pairs, shape)[truth.subjects]
    found = {"item_knn": ItemKnn.fit(*pairs, shape).top(liked, truth, k)}
    ease = Ease.fit(*pairs, shape)
    if ease is not None:
        found["ease"] = ease.top(liked, truth, k)
    return found
