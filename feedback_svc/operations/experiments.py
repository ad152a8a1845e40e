"""When an experiment may start, and how experiments are listed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from matchloop.errors import Conflict, NotFound, Reason
from matchloop.experiments.experiment import Experiment


@dataclass(frozen=True, slots=True, order=True)
class ExperimentPosition:
    """Where an experiment stands in a listing, which goes by falling position: those that run first."""

    runs: bool
    start_time: datetime
    experiment_id: str


def position_of(experiment: Experiment) -> ExperimentPosition:
    """Return where an experiment stands."""
    return ExperimentPosition(experiment.runs, experiment.start_time, experiment.experiment_id)


def started(sent: Experiment, *, same_id: Experiment | None, running: Experiment | None) -> Experiment:
    """Return the experiment as it is stored after a start; `sent` itself is to be stored if it is new.

    Parameters
    ----------
    same_id
        What is stored under its id.
    running
        What runs in its use case.

    Raises
    ------
    Conflict
        When the id named another experiment, or another one runs in the use case.
    """
    if same_id is not None:
        if _content(same_id) != _content(sent):
            raise Conflict(f"`{sent.experiment_id}` is the id of another experiment")
        return same_id
    if running is not None:
        raise Conflict(f"experiment `{running.experiment_id}` runs in `{sent.use_case}`")
    return sent


def _content(experiment: Experiment) -> tuple[str, float, str, str]:
    """Return what makes it this experiment: a replay may have come without its time."""
    return (
        experiment.use_case,
        experiment.challenger_share,
        experiment.champion_release,
        experiment.challenger_release,
    )


def stopped(experiment: Experiment, *, reason: str, now: datetime) -> Experiment:
    """Return an experiment stopped; one stopped before keeps its time and reason."""
    if not experiment.runs:
        return experiment
    return replace(experiment, stop_time=max(now, experiment.start_time), stop_reason=reason)


def missing(experiment_id: str) -> NotFound:
    """Return the error that no such experiment is stored."""
    return NotFound(f"no experiment `{experiment_id}` is stored", reason=Reason.EXPERIMENT_NOT_FOUND)
