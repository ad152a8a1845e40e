"""ALS on implicit feedback (Hu, Koren, Volinsky 2008), by `implicit`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from matchloop.entities import EntityId
from matchloop.retrieval.als import AlsModel, aged
from training_jobs.datasets import LEAST_PAIRS
from training_jobs.recipes.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from training_jobs.config import AlsConfig, AlsTrial
    from training_jobs.datasets import AlsMatrix


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
        ``explained_variance``, ``reconstruction_error``, and the factors used.
    """

    model: AlsModel
    trial: AlsTrial
    quality: list[tuple[AlsTrial, float]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)


def train_als(
    matrix: AlsMatrix,
    config: AlsConfig,
    *,
    seed: int,
    judge: Callable[[AlsModel], float] | None = None,
    console: Console | None = None,
) -> AlsResult:
    """Train; with a judge, try every setting of `config.trials` first and use the best.

    Parameters
    ----------
    judge
        Validation quality of a model, higher is better; None uses the first trial.

    Raises
    ------
    TooFewExamples
        When the matrix has fewer than two subjects, items or values.
    """
    matrix.require(LEAST_PAIRS)
    trials = config.trials if judge is not None else config.trials[:1]
    quality: list[tuple[AlsTrial, float]] = []
    with progress_bar("als", len(trials) + 1, console) as bar:
        for trial in trials if len(trials) > 1 else ():
            model = _fit(matrix, config, trial, iterations=config.trial_iterations, seed=seed)
            quality.append((trial, judge(model) if judge else 0.0))
            bar.advance(f"{trial}: {quality[-1][1]:.4f}")
        best = max(quality, key=lambda tried: tried[1])[0] if quality else trials[0]
        model = _fit(matrix, config, best, iterations=config.iterations, seed=seed)
        bar.advance()
    return AlsResult(model, best, quality, _fit_quality(model, matrix.weights))


def refit_als(matrix: AlsMatrix, config: AlsConfig, trial: AlsTrial, *, seed: int) -> AlsResult:
    """Train once with a known setting, e.g. on all data after it was chosen on a part."""
    return train_als(matrix, config.model_copy(update={"trials": (trial,)}), seed=seed)


def _fit(matrix: AlsMatrix, config: AlsConfig, trial: AlsTrial, *, iterations: int, seed: int) -> AlsModel:
    """Run `implicit`; alpha counts in mean pair weights: it means the same whatever the weights' scale."""
    from implicit.als import AlternatingLeastSquares

    weights = matrix.weights
    if trial.half_life_days is not None:
        weights = weights.copy()
        weights.data = aged(weights.data, matrix.age_days, trial.half_life_days).astype(np.float32)
    alpha = trial.alpha / float(weights.data.mean())
    factors = min(config.factors, max(4, min(weights.shape) // 3))
    with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):
        warnings.simplefilter("ignore")
        als = AlternatingLeastSquares(
            factors=factors,
            regularization=trial.regularization,
            alpha=alpha,
            iterations=iterations,
            num_threads=config.threads,
            random_state=seed,
            use_gpu=False,
        )
        als.fit(weights, show_progress=False)
    return AlsModel(
        [EntityId(id_) for id_ in matrix.item_ids],
        np.asarray(als.item_factors, dtype=np.float32),
        [EntityId(id_) for id_ in matrix.subject_ids],
        np.asarray(als.user_factors, dtype=np.float32),
        regularization=trial.regularization,
        alpha=alpha,
        half_life_days=trial.half_life_days,
    )


def _fit_quality(model: AlsModel, weights: Any) -> dict[str, float]:
    """Compare preference 1 of the known pairs with what the factors say, and all pairs with 0 and 1.

    ``reconstruction_error`` is the root mean square of 1 − x·y over the known pairs; ``explained_variance``
    1 − residual / total over the whole 0-1 matrix P, total being the variance of P around its mean. A high
    alpha trades the absent pairs for the known ones, so it may well be negative there.
    """
    subjects, items = weights.nonzero()
    x, y = model.subject_factors, model.item_factors
    known = np.concatenate(
        [
            np.einsum("ij,ij->i", x[subjects[at : at + 65536]], y[items[at : at + 65536]])
            for at in range(0, len(subjects), 65536)
        ]
    ).astype(np.float64)
    # Σ (p − x·y)² over all pairs = Σ (x·y)² − 2 Σ_known x·y + n, and Σ (x·y)² is the trace of XᵀX YᵀY.
    gram_x, gram_y = (f.astype(np.float64).T @ f.astype(np.float64) for f in (x, y))
    residual = float((gram_x * gram_y).sum() - 2.0 * known.sum() + len(known))
    pairs = float(weights.shape[0]) * weights.shape[1]
    total = len(known) - len(known) ** 2 / pairs
    return {
        "als_explained_variance": 1.0 - residual / total if total > 0.0 else 0.0,
        "als_reconstruction_error": float(np.sqrt(np.mean((1.0 - known) ** 2))),
        "als_factors": float(model.width),
    }
