"""``monitor``: the guards, asked once or again and again."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from matchloop.errors import MatchloopError
from matchloop.observe import faults
from matchloop.observe.job_metrics import told_job
from matchloop.observe.logs import configure_logging, get_logger
from matchloop.release import MlflowRegistry
from training_jobs.commands.console import console
from training_jobs.commands.experiment import REGISTRY, FeedbackAddress, RegistryUri, UseCaseId
from training_jobs.config import load_config
from training_jobs.exposition import read_requests
from training_jobs.guards import guard_table
from training_jobs.leases import LeaseTaken
from training_jobs.monitor import Monitor
from training_jobs.operations import Operations

if TYPE_CHECKING:
    from training_jobs.monitor import Look

LEASE_SECONDS = 120
ACTED = 4
"""Exit code of a single look that stopped an experiment or rolled back."""


_log = get_logger()


def monitor(
    use_case: UseCaseId,
    feedback: FeedbackAddress,
    registry: RegistryUri = REGISTRY,
    every: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds between two looks. Left out: one look.")
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            help="URL of a ranking_svc's metrics; once for each process. Without: no errors, no times."
        ),
    ] = None,
    config: Annotated[
        str, typer.Option(help="A preset, or a .toml file with a section [guards].")
    ] = "default",
) -> None:
    """Ask the guards; stop the experiment or roll the champion back where one is lost, and record why.

    Exit code 4 when a single look did so.
    """
    configure_logging("INFO", service="monitor")
    settings = load_config(config).guards
    known, pause = MlflowRegistry(registry), threading.Event()
    with Operations(feedback) as operations:
        watch = Monitor(
            use_case,
            known,
            operations,
            settings,
            clock=lambda: datetime.now(UTC),
            requests=lambda: read_requests(metrics or (), use_case, slow_seconds=settings.slow_seconds),
        )

        def look() -> list[Look]:
            with operations.lease(f"monitor/{use_case}", seconds=LEASE_SECONDS):
                return watch.look()

        if every is None:
            with told_job("monitor", use_case, fine=(0, ACTED)):
                _end(look())
            return
        while True:
            try:
                with told_job("monitor", use_case):
                    _show(look())
            except LeaseTaken as taken:
                _log.info("somebody_else_looks", reason=taken.message)
            except MatchloopError as error:  # the next look may find them back
                _log.warning("guards_not_asked", reason=error.reason.value, error=faults.said(error))
            pause.wait(every)


def _show(looks: list[Look]) -> None:
    for look in looks:
        title = f"{look.release} beside {look.other or 'nothing'}"
        console.print(guard_table(look.guards, title) if look.guards else f"{title}: {look.reason}")
        if look.done is not None:
            console.print(f"[red]{look.done}[/]: {look.reason}", soft_wrap=True)


def _end(looks: list[Look]) -> None:
    _show(looks)
    if any(look.done is not None for look in looks):
        raise typer.Exit(ACTED)
