"""Retraining inside the demo: the same steps as `python -m training_jobs retrain`, in this process.

One process spares importing torch and MLflow again for every release, and both directions of a round are
trained on one snapshot.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from feedback_svc.export import export
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from matchloop.release import MlflowRegistry
from matchloop.usecase import load_use_cases
from training_jobs.config import TrainingConfig, load_config
from training_jobs.retrain import Retrained, retrain
from training_jobs.tracking import MlflowTracker

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from playground.clients import Clients
    from playground.stack import Stack

_TIMEOUT = 20.0


class Trainer:
    """Trains on the running stack's record and promotes into its registry.

    Parameters
    ----------
    preset
        Name of a training configuration; the demo's lists need no attribution window, since its market
        reacts at once.
    """

    def __init__(self, stack: Stack, clients: Clients, *, preset: str = "fast") -> None:
        self._stack = stack
        self._clients = clients
        self._registry = MlflowRegistry(stack.registry_uri)
        self._tracker = MlflowTracker(self._registry)
        self._use_cases = load_use_cases()
        config = load_config(preset)
        dataset = config.dataset.model_copy(update={"attribution_minutes": 0.0})
        self._config: TrainingConfig = config.model_copy(update={"name": "demo", "dataset": dataset})
        self._snapshots = 0
        self._latest: Path | None = None

    def snapshot(self) -> Path:
        """Export the record as it is now; what did not change is that of the snapshot before."""
        self._snapshots += 1
        folder = self._stack.folder / "snapshots" / f"{self._snapshots:03d}"
        export(self._stack.database_url, folder, now=datetime.now(UTC), base=self._latest)
        self._latest = folder
        return folder

    def retrain(self, use_case: str, snapshot: Path) -> Retrained:
        """Train, gate, register, and promote what passes; mark the negatives it used."""
        return retrain(
            self._use_cases[use_case],
            snapshot,
            self._registry,
            self._config,
            work=self._stack.folder / "training",
            tracker=self._tracker,
            mark_used=lambda release, watermark: self._mark_used(use_case, release, watermark),
        )

    def keep_as(self, alias: str, use_cases: Iterable[str]) -> None:
        """Give each champion of now another alias, which stays when the champion moves on."""
        for use_case in use_cases:
            champion = self._registry.resolve(use_case, "champion")
            assert champion is not None, f"{use_case} has no champion yet"
            self._registry.set_alias(use_case, alias, champion.version)

    def _mark_used(self, use_case: str, release: str, watermark: int) -> int:
        reply = self._clients.feedback.MarkNegativesUsed(
            feedback_pb.MarkNegativesUsedRequest(use_case=use_case, release=release, to_sequence=watermark),
            timeout=_TIMEOUT,
        )
        return reply.marked
