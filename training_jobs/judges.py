"""How good a model is on the validation part: what chooses settings, in training and in searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from training_jobs.evaluate.ranking import top_by_vectors
from training_jobs.lists import shown_truth
from training_jobs.scoring import Known, als_top

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from matchloop.retrieval.als import AlsModel
    from training_jobs.config import TrainingConfig
    from training_jobs.evaluate import Truth
    from training_jobs.material import Material

AlsJudge = Callable[["AlsModel"], float]
TowerJudge = Callable[["NDArray[np.float32]", "NDArray[np.float32]"], float]


def judging_truth(material: Material, config: TrainingConfig) -> Truth:
    """Return what chooses: the latest lists, where there are enough (see `lists`), else all items."""
    lists = shown_truth(material)
    if len(lists) >= config.gates.least_pairs:
        return lists
    return material.truth(at_most=config.evaluate.subjects, seed=config.seed)


def als_judge(material: Material, config: TrainingConfig, truth: Truth | None = None) -> AlsJudge:
    """Return the mean NDCG@k of an ALS model, as it would be served; None: over `judging_truth`."""
    known, k = Known.of(material.training_events), config.evaluate.k
    truth = judging_truth(material, config) if truth is None else truth

    def judge(model: AlsModel) -> float:
        return _mean(truth.weighted_ndcg(als_top(model, material, known, truth, k), k))

    return judge


def tower_judge(material: Material, config: TrainingConfig) -> TowerJudge:
    """Return the mean NDCG@k of all subjects' and all items' vectors, over the whole catalogue."""
    k = config.evaluate.k
    truth = material.truth(at_most=config.two_tower.validation_subjects, seed=config.seed)

    def judge(subjects: NDArray[np.float32], items: NDArray[np.float32]) -> float:
        top = top_by_vectors(subjects[truth.subjects], items, truth, k)
        return _mean(truth.metrics(top, k)[f"ndcg@{k}"])

    return judge


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
