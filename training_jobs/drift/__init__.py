"""Drift: how far served features and scores have left the lists a release was trained on."""

from training_jobs.drift.baseline import DRIFT_FILE, SCORE, Baseline, Reference
from training_jobs.drift.lists import Lists
from training_jobs.drift.psi import Bins, Chance, Tally, psi
from training_jobs.drift.verdict import Drift, FeatureDrift, drift_of

__all__ = [
    "DRIFT_FILE",
    "SCORE",
    "Baseline",
    "Bins",
    "Chance",
    "Drift",
    "FeatureDrift",
    "Lists",
    "Reference",
    "Tally",
    "drift_of",
    "psi",
]
