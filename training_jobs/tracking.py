"""Runs in MLflow: parameters, metrics, curves, manifests."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from matchloop.release.mlflow_registry import quiet_mlflow
from training_jobs.plots import plot_curves

if TYPE_CHECKING:
    from matchloop.release import MlflowRegistry

METRICS, PARAMETERS, PARAMETER = 1000, 100, 6000
"""What MLflow takes: metrics and parameters in one batch, characters of a parameter."""


class Tracker(Protocol):
    """Keeps what a run was told and what it reached."""

    def log(
        self,
        use_case: str,
        name: str,
        *,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        curves: Mapping[str, Sequence[float]],
        artifacts: Path,
    ) -> str | None:
        """Keep a finished run; returns its id, None where runs are not kept."""


class MlflowTracker:
    """`Tracker` on the MLflow that holds the registry."""

    def __init__(self, registry: MlflowRegistry) -> None:
        self._registry = registry

    def log(
        self,
        use_case: str,
        name: str,
        *,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        curves: Mapping[str, Sequence[float]],
        artifacts: Path,
    ) -> str | None:
        """See `Tracker`.

        Curves are metrics ``curve_<name>`` by step, from 1, and drawn in ``plots/curves.png``; files are
        under ``training/``. A run that could not be written whole is marked as failed.
        """
        quiet_mlflow()
        from mlflow import MlflowClient

        experiment = self._registry.experiment_id(use_case)  # first: it makes the tables of a new registry
        client = MlflowClient(tracking_uri=self._registry.uri)
        run_id = str(client.create_run(experiment, run_name=name).info.run_id)
        status = "FAILED"
        try:
            _log_values(client, run_id, parameters, metrics, curves)
            client.log_artifacts(run_id, str(artifacts), "training")
            with tempfile.TemporaryDirectory(prefix="plots-") as folder:
                plot_curves(curves, Path(folder) / "curves.png")
                client.log_artifacts(run_id, folder, "plots")
            status = "FINISHED"
        finally:
            client.set_terminated(run_id, status)
        return run_id


def _log_values(
    client: Any,
    run_id: str,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    curves: Mapping[str, Sequence[float]],
) -> None:
    """Log all of them, in batches of as many as MLflow takes at once; what is not finite is left out."""
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    values = [Metric(mlflow_name(key), float(value), now, 0) for key, value in metrics.items()]
    values += [
        Metric(f"curve_{mlflow_name(key)}", float(value), now, step)
        for key, curve in curves.items()
        for step, value in enumerate(curve, start=1)
    ]
    values = [value for value in values if math.isfinite(value.value)]
    told = [Param(key, str(value)[:PARAMETER]) for key, value in flat(parameters).items()]
    for at in range(0, len(told), PARAMETERS):
        client.log_batch(run_id, params=told[at : at + PARAMETERS])
    for at in range(0, len(values), METRICS):
        client.log_batch(run_id, metrics=values[at : at + METRICS])


class NoTracker:
    """`Tracker` that keeps nothing, for tests and offline runs."""

    def log(
        self,
        use_case: str,  # noqa: ARG002
        name: str,  # noqa: ARG002
        *,
        parameters: Mapping[str, Any],  # noqa: ARG002
        metrics: Mapping[str, float],  # noqa: ARG002
        curves: Mapping[str, Sequence[float]],  # noqa: ARG002
        artifacts: Path,  # noqa: ARG002
    ) -> str | None:
        """Do nothing."""
        return None


def mlflow_name(name: str) -> str:
    """Return a name MLflow takes: ``@`` is not allowed, ``_at_`` stands for it."""
    return name.replace("@", "_at_")


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted names; lists as JSON."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = json.dumps(value) if isinstance(value, list | tuple) else value
    return found
