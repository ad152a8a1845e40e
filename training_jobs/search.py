"""Hyper-parameter search, bounded by time; stopped or killed, it goes on where it was when asked again."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matchloop.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study, Trial
    from optuna.trial import FrozenTrial
    from rich.console import Console

    from training_jobs.search_spaces import Choice, Space

Seconds = Callable[[], float]
"""A clock that never goes back."""

STARTUP = 8
"""Trials by chance before the others' results are looked at, and ones done before any is pruned."""


@dataclass(frozen=True, slots=True)
class TrialTold:
    """One trial.

    Parameters
    ----------
    state
        ``complete``, ``pruned`` (it fell behind the median of the others at the same step, or time was up) or
        ``fail`` (its process was killed; it is tried again).
    quality
        NDCG@k on validation; None unless complete.
    steps
        Quality by step, as reported.
    """

    number: int
    state: str
    quality: float | None
    seconds: float
    choice: Choice
    steps: dict[int, float]


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to; trials of earlier runs of the same search are among them."""

    best: TrialTold
    trials: list[TrialTold]
    seconds: float


def search(
    space: Space,
    storage: Path,
    *,
    seconds: float,
    seed: int,
    clock: Seconds = time.monotonic,
    began: float | None = None,
    console: Console | None = None,
) -> Found:
    """Try settings until time is up, and return the best: tree-structured Parzen estimator, median pruning.

    What a trial tries depends on the seed, its number and the trials before it alone, not on how often the
    search was stopped in between.

    Parameters
    ----------
    storage
        SQLite file of this search alone.
    seconds
        Bound, from `began` on. A trial under way then ends at its next report, at the latest when it is
        done; only the very first is always done, so that there is something to return.
    began
        When time began to count, by `clock`; None: now.

    Raises
    ------
    InvalidInput
        When there is no time at all.
    """
    if not seconds > 0.0:
        raise InvalidInput(f"a search of {seconds} s has no time to try anything")
    began = clock() if began is None else began
    with _study(storage) as study:
        _go_on(study, space)
        while not _done(study) or clock() < began + seconds:
            _seed(study, seed)
            trial = study.ask(space.distributions)
            _run(study, trial, space, began + seconds, clock)
            if console is not None:
                console.print(_line(study, began + seconds - clock()), highlight=False)
        trials = [_told(trial) for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
        return Found(_told(study.best_trial), trials, clock() - began)


@contextmanager
def _study(storage: Path) -> Iterator[Study]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        kept = optuna.storages.RDBStorage(f"sqlite:///{storage}")
        try:
            yield optuna.create_study(
                storage=kept,
                study_name="search",
                direction="maximize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_min_trials=3),
            )
        finally:
            kept.remove_session()
            kept.engine.dispose()


def _go_on(study: Study, space: Space) -> None:
    """Queue the configuration's own settings at the very beginning, and those whose trial was killed."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    if not trials:
        for start in space.starts():
            study.enqueue_trial(dict(start), skip_if_exists=True)
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)


def _seed(study: Study, seed: int) -> None:
    import optuna

    asked = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed + asked, n_startup_trials=STARTUP)


def _done(study: Study) -> list[FrozenTrial]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _run(study: Study, trial: Trial, space: Space, deadline: float, clock: Seconds) -> None:
    from optuna import TrialPruned
    from optuna.trial import TrialState

    first = not _done(study)

    def report(step: int, quality: float) -> None:
        trial.report(quality, step)
        if not first and (clock() >= deadline or trial.should_prune()):
            raise TrialPruned

    try:
        quality = space.quality_of(trial.params, report)
        study.tell(trial, quality if math.isfinite(quality) else 0.0)  # a training that blew up found nothing
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)


def _told(trial: FrozenTrial) -> TrialTold:
    from optuna.trial import TrialState

    complete = trial.state == TrialState.COMPLETE
    return TrialTold(
        number=trial.number,
        state=trial.state.name.lower(),
        quality=trial.value if complete else None,
        seconds=trial.duration.total_seconds() if trial.duration else 0.0,
        choice=dict(trial.params),
        steps=dict(trial.intermediate_values),
    )


def _line(study: Study, left: float) -> str:
    trial, best = _told(study.get_trials(deepcopy=False)[_latest(study)]), study.best_trial
    came = f"{trial.quality:.4f}" if trial.quality is not None else trial.state
    return (
        f"trial {trial.number}: {came} in {trial.seconds:.0f} s; best {best.value:.4f} (trial {best.number}: "
        f"{choice_text(best.params)}); {max(left, 0.0):.0f} s left"
    )


def _latest(study: Study) -> int:
    return max(trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished())


def choice_text(choice: Choice) -> str:
    """Return a choice in a few words."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in choice.items()
    )
