"""``python -m tests.e2e.inverted``: a release like any other, but for its ranker, to which good is bad."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from matchloop.release import MlflowRegistry
from matchloop.usecase import load_use_cases
from training_jobs.build import DataSets
from training_jobs.config import load_config
from training_jobs.datasets import RankerDataset
from training_jobs.retrain import Retraining


class Inverted(Retraining):
    """Trains the ranker to put first what nobody wanted."""

    def datasets(self) -> DataSets:
        data = super().datasets()
        return replace(data, ranker=upside_down(data.ranker))


def upside_down(data: RankerDataset) -> RankerDataset:
    """Return the examples with positives as rejections, and what was not wanted as positive."""
    liked = data.label > 0.5
    source = np.where(liked, "disliked", "positive").astype(object)
    return replace(data, label=np.where(liked, 0.0, 1.0).astype(np.float32), source=source)


def main() -> None:
    """Train and assemble the release of a snapshot and settings; prints its id."""
    use_case, snapshot, registry, config, work = sys.argv[1:]
    steps = Inverted(
        load_use_cases()[use_case],
        Path(snapshot),
        MlflowRegistry(registry),
        load_config(config),
        work=Path(work),
    )
    manifest = steps.train()
    assert "ranker" in manifest.parts, steps.skipped()
    sys.stdout.write(f"{manifest.release}\n")


if __name__ == "__main__":
    main()
