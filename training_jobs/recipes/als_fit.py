"""One fit of ALS with one setting: what every library is given, and what is made of its factors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from matchloop.entities import EntityId
from matchloop.retrieval.als import AlsModel
from matchloop.retrieval.fold_in import aged, saturated
from training_jobs.recipes.als_quality import AlsYardstick

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from training_jobs.config import AlsConfig, AlsTrial
    from training_jobs.datasets import AlsMatrix
    from training_jobs.recipes.als_checkpoint import AlsCheckpoint

CURVE_SAMPLE = 10_000
CURVE_ROWS = 4096
"""Known pairs, and subjects and items, that the loss after each iteration looks at: little beside it."""
MOST_ROWS = 16_384
"""Subjects and items that the final figures look at."""


class Fit(ABC):
    """alpha counts in mean pair weights: it means the same whatever the weights' scale.

    Parameters
    ----------
    iterations
        Of this fit: trials take fewer than what is released.
    """

    def __init__(
        self, matrix: AlsMatrix, config: AlsConfig, trial: AlsTrial, iterations: int, seed: int
    ) -> None:
        self._matrix, self._config, self._trial = matrix, config, trial
        self._iterations, self._seed = iterations, seed
        self._weights = matrix.weights
        if trial.half_life_days is not None:
            decayed = aged(matrix.weights.data, matrix.age_days, trial.half_life_days).astype(np.float32)
            self._weights = _like(matrix.weights, decayed)
        self._saturation = None
        if trial.saturation is not None:
            self._saturation = trial.saturation * float(self._weights.data.mean())
            self._weights = _like(
                matrix.weights, saturated(self._weights.data, self._saturation).astype(np.float32)
            )
        self._alpha = trial.alpha / float(self._weights.data.mean())
        self._factors = min(config.factors, max(4, min(matrix.weights.shape) // 3))
        confidence = _like(matrix.weights, self._weights.data * np.float32(self._alpha))
        self._confidence, rng = confidence, np.random.default_rng(seed)
        self._yardstick = AlsYardstick(
            confidence, trial.regularization, rng, sample=CURVE_SAMPLE, most_rows=CURVE_ROWS
        )
        self.losses: list[float] = []

    @abstractmethod
    def go(
        self,
        kept: AlsCheckpoint,
        advance: Callable[[str], None],
        watch: Callable[[int, AlsModel], None] | None = None,
    ) -> None:
        """Iterate, telling `advance` of each iteration; what `watch` raises ends the fit."""

    @property
    @abstractmethod
    def factors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Those of subjects (n, f) and of items (m, f), as far as they have come."""

    def note(self) -> str:
        """Add the loss of the factors there are to `losses`; says it."""
        self.losses.append(self._yardstick.measure(*self.factors).loss)
        return f"loss {self.losses[-1]:.4f}"

    def model(self) -> AlsModel:
        """Return the model as far as it has come."""
        subjects, items = self.factors
        with threadpool_limits(limits=1, user_api="blas"):
            return AlsModel(
                [EntityId(id_) for id_ in self._matrix.item_ids],
                np.array(items, dtype=np.float32),
                [EntityId(id_) for id_ in self._matrix.subject_ids],
                np.array(subjects, dtype=np.float32),
                regularization=self._trial.regularization,
                alpha=self._alpha,
                half_life_days=self._trial.half_life_days,
                saturation=self._saturation,
            )

    def metrics(self) -> dict[str, float]:
        """Return how well the factors give the matrix back."""
        rng = np.random.default_rng(self._seed)
        yardstick = AlsYardstick(self._confidence, self._trial.regularization, rng, most_rows=MOST_ROWS)
        with threadpool_limits(limits=1, user_api="blas"):
            found = yardstick.measure(*self.factors)
        return {
            "als_explained_variance": found.explained_variance,
            "als_reconstruction_error": found.reconstruction_error,
            "als_factors": float(self._factors),
        }


def _like(matrix: Any, values: Any) -> Any:
    """Return a matrix with the same pairs and other values; the pairs are shared, not copied."""
    return type(matrix)((values, matrix.indices, matrix.indptr), shape=matrix.shape)
