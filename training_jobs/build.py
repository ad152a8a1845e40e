"""Build the data sets of a use case from a snapshot, and look at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import TooFewExamples
from matchloop.position import Weighting
from training_jobs import datasets
from training_jobs.datasets import LEAST_PAIRS
from training_jobs.memory import give_back
from training_jobs.recipes.progress import progress_bar

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from matchloop.position import ExaminationCurve
    from training_jobs.config import TrainingConfig
    from training_jobs.material import Material


@dataclass(slots=True)
class DataSets:
    """The three data sets of a use case; ALS and Two-Tower hold the training part alone."""

    als: datasets.AlsMatrix
    pairs: datasets.PairDataset
    ranker: datasets.RankerDataset

    @property
    def manifests(self) -> tuple[datasets.DatasetManifest, ...]:
        """The manifests, for the run."""
        return (self.als.manifest, self.pairs.manifest, self.ranker.manifest)

    def too_few(self, config: TrainingConfig) -> dict[str, str]:
        """Return, by data set that cannot be trained on, why, with the numbers."""
        found: dict[str, str] = {}
        for name, dataset, least in (
            ("als", self.als, LEAST_PAIRS),
            ("two_tower", self.pairs, LEAST_PAIRS),
            ("ranker", self.ranker, config.ranker.least_positives),
        ):
            try:
                dataset.require(least)
            except TooFewExamples as error:
                found[name] = error.message
        return found

    def write(self, folder: Path, material: Material) -> None:
        """Write each data set as Parquet beside its manifest; the Two-Tower's with both sides' features."""
        self.als.write(folder)
        self.ranker.write(folder)
        give_back()
        datasets.write_pairs(self.pairs, folder, material.training_tables, material.use_case)


def build_datasets(material: Material, config: TrainingConfig, *, console: Console | None = None) -> DataSets:
    """Run the data set expressions on the snapshot, with a progress bar where somebody looks.

    Raises
    ------
    TooFewExamples
        When estimated position weights are asked for and too little exploration is logged.
    """
    with progress_bar("data sets", 4, console) as bar:
        curve = curve_of(material, config)
        bar.advance("als")
        als = als_of(material, config)
        give_back()
        bar.advance("two_tower")
        pairs = pairs_of(material, config, curve)
        give_back()
        bar.advance("ranker")
        ranker = ranker_of(material, config, curve)
        give_back()
        bar.advance()
    return DataSets(als, pairs, ranker)


def als_of(material: Material, config: TrainingConfig) -> datasets.AlsMatrix:
    """Build the ALS matrix from the training part."""
    pairs = datasets.als_pairs(material.training_part, least_interactions=config.dataset.least_interactions)
    return datasets.als_matrix(
        pairs, use_case=material.use_case.id, snapshot=material.snapshot.manifest.fingerprint
    )


def pairs_of(
    material: Material, config: TrainingConfig, curve: ExaminationCurve | None = None
) -> datasets.PairDataset:
    """Build the Two-Tower's pairs from the training part, with the record as it stood at its end."""
    settings, use_case, tables = config.dataset, material.use_case, material.training_tables
    return datasets.two_tower_dataset(
        datasets.two_tower_examples(material.training_part, tables, use_case, settings),
        subject_ids=material.subject_ids,
        item_ids=material.item_ids,
        use_case=use_case,
        snapshot=material.snapshot.manifest.fingerprint,
        weighting=settings.two_tower_weighting,
        curve=curve,
        shown=datasets.shown_pairs(tables, use_case),
        random_negatives=settings.random_of(use_case),
        rng=np.random.default_rng(config.seed),
    )


def ranker_of(
    material: Material, config: TrainingConfig, curve: ExaminationCurve | None = None
) -> datasets.RankerDataset:
    """Build the ranker's examples, from all lists."""
    settings, use_case = config.dataset, material.use_case
    return datasets.ranker_dataset(
        datasets.ranker_examples(material.tables, use_case, settings),
        use_case=use_case,
        snapshot=material.snapshot.manifest.fingerprint,
        weighting=settings.ranker_weighting,
        curve=curve,
    )


def curve_of(material: Material, config: TrainingConfig) -> ExaminationCurve | None:
    """Estimate examination, when a weighting asks for it, from the training part alone."""
    settings = config.dataset
    if Weighting.ESTIMATED not in (settings.ranker_weighting, settings.two_tower_weighting):
        return None
    return datasets.examination_of(material.training_tables, material.use_case, settings)
