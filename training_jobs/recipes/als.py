"""ALS on implicit feedback (Hu, Koren, Volinsky 2008): settings tried, the best one trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from training_jobs.config import AlsLibrary
from training_jobs.datasets import LEAST_PAIRS
from training_jobs.recipes.als_checkpoint import AlsCheckpoint, key_of
from training_jobs.recipes.als_implicit import ImplicitFit
from training_jobs.recipes.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

    from matchloop.retrieval.als import AlsModel
    from training_jobs.config import AlsConfig, AlsTrial
    from training_jobs.datasets import AlsMatrix
    from training_jobs.recipes.als_fit import Fit


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
        ``als_loss``: the loss by iteration, MLlib's at the end alone; ``als_trials``: the quality by trial,
        in the order tried.
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
        trained, by MLlib at its end alone; what it raises ends the training.
    checkpoints
        Folder of this training alone, to go on from after a kill: holds factors, every
        `config.checkpoint_seconds` and at the end, and the quality of trials. The outcome is the same, bit
        by bit, as without the kill. Left as it is at the end: asked again, nothing is done twice.

    Raises
    ------
    TooFewExamples
        When the matrix has fewer than two subjects, items or values.
    NotEquipped
        When `config.library` is Spark's and there is no Spark.
    """
    matrix.require(LEAST_PAIRS)
    trials = config.trials if judge is not None else config.trials[:1]
    key = key_of(matrix, config.model_dump(mode="json"), seed) if checkpoints else ""
    kept = AlsCheckpoint(checkpoints, key, console)
    quality: list[tuple[AlsTrial, float]] = []
    tried = trials if judge is not None and len(trials) > 1 else ()
    fit = _fit(config.library)
    with progress_bar("als", len(tried) * config.trial_iterations + config.iterations, console) as bar:
        known = kept.trials()
        for trial in tried:
            if str(trial) not in known:
                run = fit(matrix, config, trial, config.trial_iterations, seed)
                run.go(kept, bar.advance)
                assert judge is not None
                known[str(trial)] = judge(run.model())
                kept.save_trial(str(trial), known[str(trial)])
            quality.append((trial, known[str(trial)]))
            bar.advance(f"{trial}: {quality[-1][1]:.4f}", steps=0)
        best = max(quality, key=lambda found: found[1])[0] if quality else trials[0]
        run = fit(matrix, config, best, config.iterations, seed)
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


def _fit(library: AlsLibrary) -> type[Fit]:
    if library is AlsLibrary.SPARK:
        from training_jobs.recipes.als_spark import SparkFit

        return SparkFit
    return ImplicitFit
