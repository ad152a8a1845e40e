"""Where a release comes from: its settings and data manifests, kept in the release itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from training_jobs.config import TrainingConfig
    from training_jobs.datasets import DatasetManifest

PROVENANCE_FILE = "provenance.json"

Provenance = dict[str, dict[str, Any]]
"""``settings``: of the training, by section. ``data``: manifests by data set."""


def provenance_of(config: TrainingConfig, manifests: Iterable[DatasetManifest]) -> Provenance:
    """Gather what a release tells of where it comes from."""
    return {
        "settings": config.model_dump(mode="json"),
        "data": {manifest.name: manifest.model_dump(mode="json") for manifest in manifests},
    }


def write_provenance(folder: Path, provenance: Mapping[str, Mapping[str, Any]]) -> None:
    """Write ``provenance.json`` into a release's folder, before its manifest."""
    (folder / PROVENANCE_FILE).write_text(json.dumps(provenance, indent=1), encoding="utf-8")


def read_provenance(folder: Path) -> Provenance:
    """Return what `write_provenance` wrote; both parts empty for a release that was made without."""
    path = folder / PROVENANCE_FILE
    if not path.is_file():
        return {"settings": {}, "data": {}}
    told: Provenance = json.loads(path.read_text(encoding="utf-8"))
    return told
