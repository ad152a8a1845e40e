"""What ALS minimises, and how well the factors give the matrix back.

With preference p = 1 for a known pair and 0 for an absent one, confidence c = alpha × w for a known pair (as
`implicit` has it) and 1 for an absent one, and predicted preference s = x·y:

- loss = (Σ c (p − s)² + λ (Σ ‖x‖² + Σ ‖y‖²)) / Σ c, `implicit`'s training loss
  (Hu, Koren, Volinsky 2008, eq. 3) a unit of confidence;
- explained variance = 1 − Σ c (p − s)² / Σ c (p − p̄)² with p̄ = Σ c p / Σ c: 1 gives the matrix back, 0
  says no more than one number for all pairs would;
- reconstruction error = √(Σ c (p − s)² / Σ c): the root mean square error at the same confidence.

Sums run over all pairs, absent ones too, without visiting them: Σ s² over all is the trace of XᵀX YᵀY.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE = 100_000
"""Known pairs looked at; of more, a random choice stands for all."""

BLOCK = 2048
"""Pairs at a time: what their factors take stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class AlsQuality:
    """See the module."""

    loss: float
    explained_variance: float
    reconstruction_error: float


class AlsYardstick:
    """Measures factors against one matrix of confidences.

    Parameters
    ----------
    confidence
        CSR, shape (n, m): alpha × w of the known pairs, over 0.
    regularization
        λ.
    rng
        Chooses the known pairs that stand for all, when there are more than `sample`, and the subjects and
        items.
    most_rows
        As many subjects, and items, stand for all in the sums over absent pairs, when there are more; None:
        all are looked at.
    """

    def __init__(
        self,
        confidence: Any,
        regularization: float,
        rng: np.random.Generator,
        *,
        sample: int = SAMPLE,
        most_rows: int | None = None,
    ) -> None:
        self._regularization = regularization
        self._chosen = [
            np.sort(rng.choice(count, most_rows, replace=False)) if most_rows and count > most_rows else None
            for count in confidence.shape
        ]
        chosen = np.arange(confidence.nnz)
        if confidence.nnz > sample:
            chosen = np.sort(rng.choice(confidence.nnz, sample, replace=False))
        self._row = np.searchsorted(confidence.indptr, chosen, side="right") - 1
        self._column = confidence.indices[chosen]
        self._confidence = confidence.data[chosen].astype(np.float64)
        self._scale = confidence.nnz / len(chosen)
        pairs = float(confidence.shape[0]) * confidence.shape[1]
        self._known = float(confidence.data.sum(dtype=np.float64))
        self._all = self._known + pairs - confidence.nnz

    def measure(self, subjects: NDArray[np.float32], items: NDArray[np.float32]) -> AlsQuality:
        """Return how good factors (n, f) and (m, f) are."""
        scores = np.empty(len(self._row))
        for at in range(0, len(scores), BLOCK):
            part = slice(at, at + BLOCK)
            scores[part] = np.einsum("ij,ij->i", subjects[self._row[part]], items[self._column[part]])
        sides = zip((subjects, items), self._chosen, strict=True)
        grams = [_gram(factors, chosen) for factors, chosen in sides]
        # Over all pairs as if absent, then the known ones put right.
        known = self._confidence * (1.0 - scores) ** 2 - scores**2
        residual = float((grams[0] * grams[1]).sum()) + self._scale * float(known.sum())
        residual = max(residual, 0.0)
        penalty = self._regularization * float(sum(np.trace(gram) for gram in grams))
        total = self._known * (1.0 - self._known / self._all)
        return AlsQuality(
            loss=(residual + penalty) / self._all,
            explained_variance=1.0 - residual / total if total > 0.0 else 0.0,
            reconstruction_error=float(np.sqrt(residual / self._all)),
        )


def _gram(factors: NDArray[np.float32], chosen: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Return FᵀF, (f, f), of all rows, or as some of them tell it."""
    rows = factors if chosen is None else factors[chosen]
    found: NDArray[np.float64] = (rows.T @ rows).astype(np.float64) * (len(factors) / max(len(rows), 1))
    return found
