"""``drift``: how far what the champion serves has left what it was trained on."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from prometheus_client import write_to_textfile

from matchloop.acts import ActKind, ActNumber
from matchloop.errors import NotFound, Reason
from matchloop.observe.job_metrics import JobMetrics, told_job
from matchloop.release import CHAMPION, MlflowRegistry
from matchloop.usecase import load_use_cases
from training_jobs.asking import drift_since
from training_jobs.champion_folder import champion_folder
from training_jobs.commands.console import console
from training_jobs.commands.steps import (
    REGISTRY,
    WORK,
    Preset,
    RegistryUri,
    UseCaseFolder,
    UseCaseId,
    WorkFolder,
)
from training_jobs.config import load_config
from training_jobs.drift.verdict import drift_table
from training_jobs.operations import Operations
from training_jobs.retrain import utc_now

if TYPE_CHECKING:
    from datetime import datetime

    from training_jobs.drift import Drift

DRIFTED = 4
GAUGES = [row.name for row in (JobMetrics.drift_psi, JobMetrics.drift_bound, JobMetrics.drifted)]


def drift(
    use_case: UseCaseId,
    feedback: Annotated[
        str,
        typer.Option("--feedback", envvar="MATCHLOOP_FEEDBACK_ADDRESS", help="host:port of feedback_svc."),
    ],
    work: WorkFolder = WORK,
    registry: RegistryUri = REGISTRY,
    config: Preset = "default",
    use_cases: UseCaseFolder = None,
    textfile: Annotated[
        Path | None,
        typer.Option(help="Write the gauges here for Prometheus' node exporter, e.g. /metrics/drift.prom."),
    ] = None,
) -> None:
    """Compare the lists that the champion served of late with those it was trained on.

    Exit code 4 when a feature or the score has drifted, which is recorded, once a day; 0 when none has, or
    when it cannot be told yet: no baseline, too few lists.
    """
    with told_job("drift", use_case, fine=(0, DRIFTED)) as metrics:
        declared = load_use_cases(*([use_cases] if use_cases else []))[use_case]
        known, now = MlflowRegistry(registry), utc_now()
        champion = known.resolve(use_case, CHAMPION)
        if champion is None:
            raise NotFound(f"{use_case}: no champion", reason=Reason.RELEASE_NOT_FOUND)
        folder = champion_folder(known, champion, work)
        found = drift_since(declared, feedback, champion, folder, load_config(config).triggers, now=now)
        if found.features:
            console.print(drift_table(found, use_case))
        console.print(f"{champion.release}: {found}", highlight=False, soft_wrap=True)
        tell_drift(metrics, use_case, found)
        if textfile is not None:
            write_to_textfile(str(textfile), metrics.registry.restricted_registry(GAUGES))
        if found.drifted:
            with Operations(feedback) as operations:
                record_drift(operations, use_case, found, now)
            raise typer.Exit(DRIFTED)


def tell_drift(metrics: JobMetrics, use_case: str, found: Drift) -> None:
    """Set the gauges of every feature that could be told, and how many drifted: none where none could."""
    metrics.drifted.labels(use_case).set(len(found.drifted))
    for feature in found.features:
        metrics.drift_psi.labels(use_case, feature.name).set(feature.psi)
        metrics.drift_bound.labels(use_case, feature.name).set(feature.bound)


def record_drift(operations: Operations, use_case: str, found: Drift, now: datetime) -> bool:
    """Record that a release's lists have drifted, once a day; returns whether it is new."""
    day = f"matchloop:{ActKind.DRIFTED}:{found.release}:{now:%Y-%m-%d}"
    return operations.record_act(
        use_case,
        ActKind.DRIFTED,
        automatic=True,
        release=found.release,
        reason=str(found),
        numbers=[ActNumber(each.name, each.psi, each.bound) for each in found.features][:64],
        act_id=str(uuid.uuid5(uuid.NAMESPACE_URL, day)),
    )
