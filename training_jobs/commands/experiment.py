"""``experiment start|stop|results``: a share of the subjects gets another release."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from matchloop.errors import NotFound, Reason
from matchloop.experiments.results import results_of
from matchloop.release import MlflowRegistry
from training_jobs.commands.console import console
from training_jobs.experiments import start_experiment, stop_experiment
from training_jobs.operations import Operations

if TYPE_CHECKING:
    from matchloop.experiments.intervals import Interval
    from matchloop.experiments.results import Rates, Results

app = typer.Typer(
    help="Compare a release with the champion on live subjects: a share of them gets it.",
    no_args_is_help=True,
)


UseCaseId = Annotated[str, typer.Argument(help="Id of a use case, e.g. investor_startup.")]
RegistryUri = Annotated[
    str,
    typer.Option(
        "--registry", envvar="MATCHLOOP_REGISTRY_URI", help="MLflow: sqlite:///FILE or a server's URL."
    ),
]
FeedbackAddress = Annotated[
    str, typer.Option("--feedback", envvar="MATCHLOOP_FEEDBACK_ADDRESS", help="host:port of feedback_svc.")
]
REGISTRY = "sqlite:///var/mlflow.db"


@app.command()
def start(
    use_case: UseCaseId,
    feedback: FeedbackAddress,
    share: Annotated[float, typer.Option(help="Of subjects that get it, between 0 and 1.")],
    release: Annotated[
        str | None,
        typer.Option(help="Id or version. Left out: the newest since the champion that its gates passed."),
    ] = None,
    registry: RegistryUri = REGISTRY,
) -> None:
    """Start an experiment: the release becomes challenger and a share of the subjects gets it."""
    with Operations(feedback) as operations:
        begun = start_experiment(
            MlflowRegistry(registry),
            operations,
            use_case,
            share=share,
            challenger=release,
            clock=lambda: datetime.now(UTC),
        )
    console.print(
        f"{begun.experiment_id}: {begun.challenger_share:.0%} of subjects get {begun.challenger_release}, "
        f"the others {begun.champion_release}",
        soft_wrap=True,
    )


@app.command()
def stop(
    use_case: UseCaseId,
    feedback: FeedbackAddress,
    reason: Annotated[str, typer.Option(help="Kept with the experiment.")] = "stopped by hand",
    registry: RegistryUri = REGISTRY,
) -> None:
    """Stop the running experiment: every subject gets the champion again, whoever was better."""
    with Operations(feedback) as operations:
        running = operations.running_experiment(use_case)
        if running is None:
            raise NotFound(f"no experiment of {use_case} runs", reason=Reason.EXPERIMENT_NOT_FOUND)
        stopped = stop_experiment(MlflowRegistry(registry), operations, running, reason=reason)
    console.print(f"{stopped.experiment_id} is stopped: {stopped.stop_reason}", soft_wrap=True)


@app.command()
def results(use_case: UseCaseId, feedback: FeedbackAddress) -> None:
    """Print the results by arm of the running experiment, else of the latest."""
    with Operations(feedback) as operations:
        latest = next(iter(operations.experiments(use_case, limit=1)), None)
        if latest is None:
            raise NotFound(f"no experiment of {use_case} was ever run", reason=Reason.EXPERIMENT_NOT_FOUND)
        rows = operations.reactions(use_case, latest.start_time, latest.stop_time, by_release=False)
    console.print(results_table(results_of(latest, rows)))


def results_table(found: Results) -> Table:
    """Return the results for a terminal."""
    experiment = found.experiment
    state = "runs" if experiment.runs else f"stopped: {experiment.stop_reason}"
    table = Table(
        *("arm", "release", "subjects", "lists", "items", "click rate", "strong positives", "dislikes"),
        title=f"{experiment.experiment_id}, {state}",
        caption=f"always-valid intervals at {found.confidence:.0%}, whenever looked at; "
        f"sample ratio p = {found.sample_ratio_p_value:.3g}",
    )
    for arm in found.arms:
        counts = (f"{number:,}" for number in (arm.sums.subjects, arm.sums.sessions, arm.sums.shown))
        table.add_row(arm.arm, arm.release, *counts, *_cells(arm.rates))
    if found.difference is not None:
        table.add_row("difference", "", "", "", "", *_cells(found.difference))
    return table


def _cells(rates: Rates) -> list[str]:
    def cell(interval: Interval) -> str:
        return f"{interval.rate:.4f} [{interval.low:.4f}, {interval.high:.4f}]"

    return [cell(rates.click_rate), cell(rates.strong_positive_rate), cell(rates.dislike_rate)]
