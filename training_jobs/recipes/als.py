"""ALS on implicit feedback (Hu, Koren, Volinsky 2008), by `implicit`."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from matchloop.entities import EntityId
from matchloop.retrieval.als import AlsModel
from matchloop.retrieval.fold_in import aged, saturated
from training_jobs.datasets import LEAST_PAIRS
from training_jobs.recipes.als_checkpoint import AlsCheckpoint, Reached, key_of
from training_jobs.recipes.als_quality import AlsYardstick
from training_jobs.recipes.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

    from training_jobs.config import AlsConfig, AlsTrial
    from training_jobs.datasets import AlsMatrix

LEAST = 2
"""Subjects, items and pairs that there have to be."""

CURVE_SAMPLE = 10_000
CURVE_ROWS = 4096
"""Known pairs, and subjects and items, that the loss after each iteration looks at: little beside it."""
MOST_ROWS = 16_384
"""Subjects and items that the final figures look at."""


@dataclass(frozen=True, slots=True)
class AlsResult:
    """What came of it.

    Parameters
    ----------
    trial
        The setting used.
    quality
        By trial, what `judge` said; empty with one trial.
    metrics
        ``als_explained_variance`` and ``als_reconstruction_error``, as `als_quality` defines them, and
        ``als_factors``, those used.
    curves
        ``als_loss``: the loss by iteration; ``als_trials``: the quality by trial, in the order tried.
    """

    model: AlsModel
    trial: AlsTrial
    quality: list[tuple[AlsTrial, float]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)


def train_als(
    matrix: AlsMatrix,
    config: AlsConfig,
    *,
    seed: int,
    judge: Callable[[AlsModel], float] | None = None,
    watch: Callable[[int, AlsModel], None] | None = None,
    checkpoints: Path | None = None,
    console: Console | None = None,
) -> AlsResult:
    """Train; with a judge, try every setting of `config.trials` first and use the best.

    Forward and reverse are the same recipe: the use case's matrix has its subjects as rows.

    Parameters
    ----------
    judge
        Validation quality of a model, higher is better; None uses the first trial.
    watch
        Told the number of iterations done, from 1, and the model so far, while the model that is returned is
        trained; what it raises ends the training.
    checkpoints
        Folder of this training alone, to go on from after a kill: holds factors, every
        `config.checkpoint_seconds` and at the end, and the quality of trials. The outcome is the same, bit
        by bit, as without the kill. Left as it is at the end: asked again, nothing is done twice.

    Raises
    ------
    TooFewExamples
        When the matrix has fewer than two subjects, items or values.
    """
    matrix.require(LEAST_PAIRS)
    trials = config.trials if judge is not None else config.trials[:1]
    key = key_of(matrix, config.model_dump(mode="json"), seed) if checkpoints else ""
    kept = AlsCheckpoint(checkpoints, key, console)
    quality: list[tuple[AlsTrial, float]] = []
    tried = trials if judge is not None and len(trials) > 1 else ()
    with progress_bar("als", len(tried) * config.trial_iterations + config.iterations, console) as bar:
        known = kept.trials()
        for trial in tried:
            if str(trial) not in known:
                run = _Fit(matrix, config, trial, config.trial_iterations, seed)
                run.go(kept, bar.advance)
                assert judge is not None
                known[str(trial)] = judge(run.model())
                kept.save_trial(str(trial), known[str(trial)])
            quality.append((trial, known[str(trial)]))
            bar.advance(f"{trial}: {quality[-1][1]:.4f}", steps=0)
        best = max(quality, key=lambda found: found[1])[0] if quality else trials[0]
        run = _Fit(matrix, config, best, config.iterations, seed)
        run.go(kept, bar.advance, watch)
    curves = {"als_loss": run.losses}
    if quality:
        curves["als_trials"] = [found for _, found in quality]
    return AlsResult(run.model(), best, quality, run.metrics(), curves)


def refit_als(
    matrix: AlsMatrix, config: AlsConfig, trial: AlsTrial, *, seed: int, checkpoints: Path | None = None
) -> AlsResult:
    """Train once with a known setting, e.g. on all data after it was chosen on a part."""
    only = config.model_copy(update={"trials": (trial,)})
    return train_als(matrix, only, seed=seed, checkpoints=checkpoints)


class _Fit:
    """One run of `implicit` with one setting.

    alpha counts in mean pair weights: it means the same whatever the weights' scale.
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
        self._als: Any = None

    def go(
        self,
        kept: AlsCheckpoint,
        advance: Callable[[str], None],
        watch: Callable[[int, AlsModel], None] | None = None,
    ) -> None:
        """Iterate, from the checkpoint where there is one; an iteration depends on the factors alone."""
        from implicit.als import AlternatingLeastSquares

        name = f"{self._trial}, {self._iterations} iterations"
        reached = kept.load(name)
        with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):
            warnings.simplefilter("ignore")
            als = self._als = AlternatingLeastSquares(
                factors=self._factors,
                regularization=self._trial.regularization,
                alpha=self._alpha,
                iterations=self._iterations,
                num_threads=self._config.threads,
                random_state=self._seed,
                use_gpu=False,
            )
            if reached is not None:
                als.user_factors, als.item_factors = reached.subjects, reached.items
                self.losses = reached.losses
                als.iterations -= len(self.losses)
                for loss in self.losses:
                    advance(f"loss {loss:.4f}")

            saved = time.monotonic()

            def done(_iteration: int, _seconds: float, _loss: float | None) -> None:
                nonlocal saved
                subjects, items = als.user_factors, als.item_factors
                self.losses.append(self._yardstick.measure(subjects, items).loss)
                advance(f"loss {self.losses[-1]:.4f}")
                due = time.monotonic() - saved >= self._config.checkpoint_seconds
                if due or len(self.losses) == self._iterations:
                    saved = time.monotonic()
                    kept.save(name, Reached(self.losses, subjects, items))
                if watch is not None:
                    watch(len(self.losses), self.model())

            als.fit(self._weights, show_progress=False, callback=done)

    def model(self) -> AlsModel:
        """Return the model as far as it has come."""
        with threadpool_limits(limits=1, user_api="blas"):
            return AlsModel(
                [EntityId(id_) for id_ in self._matrix.item_ids],
                np.array(self._als.item_factors, dtype=np.float32),
                [EntityId(id_) for id_ in self._matrix.subject_ids],
                np.array(self._als.user_factors, dtype=np.float32),
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
            found = yardstick.measure(self._als.user_factors, self._als.item_factors)
        return {
            "als_explained_variance": found.explained_variance,
            "als_reconstruction_error": found.reconstruction_error,
            "als_factors": float(self._factors),
        }


def _like(matrix: Any, values: Any) -> Any:
    """Return a matrix with the same pairs and other values; the pairs are shared, not copied."""
    return type(matrix)((values, matrix.indices, matrix.indptr), shape=matrix.shape)
