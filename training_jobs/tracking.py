"""Runs in MLflow: parameters, metrics, curves, manifests."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from matchloop.release.mlflow_registry import quiet_mlflow

if TYPE_CHECKING:
    from matchloop.release import MlflowRegistry


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
        """See `Tracker`; curves are metrics by step, and files are under ``training/``."""
        quiet_mlflow()
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        experiment = self._registry.experiment_id(use_case)  # first: it makes the tables of a new registry
        client = MlflowClient(tracking_uri=self._registry.uri)
        run = client.create_run(experiment, run_name=name)
        now = int(time.time() * 1000)
        values = [Metric(mlflow_name(key), float(value), now, 0) for key, value in metrics.items()]
        values += [
            Metric(f"curve_{mlflow_name(key)}", float(value), now, step)
            for key, curve in curves.items()
            for step, value in enumerate(curve)
        ]
        client.log_batch(
            run.info.run_id,
            metrics=values[:1000],
            params=[Param(key, str(value)[:500]) for key, value in flat(parameters).items()][:100],
        )
        client.log_artifacts(run.info.run_id, str(artifacts), "training")
        client.set_terminated(run.info.run_id)
        return str(run.info.run_id)


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
