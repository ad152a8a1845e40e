"""Offline evaluation: full ranking on the latest part of the events, beside baselines never served."""

from training_jobs.evaluate.baselines import Ease, ItemKnn
from training_jobs.evaluate.bootstrap import Interval, interval_of, intervals_of, paired_interval
from training_jobs.evaluate.metrics import METRICS, metrics_at
from training_jobs.evaluate.ranking import Truth, random_top, top_by_vectors, truth_of
from training_jobs.evaluate.tiers import parts_of, split_parts

__all__ = [
    "METRICS",
    "Ease",
    "Interval",
    "ItemKnn",
    "Truth",
    "interval_of",
    "intervals_of",
    "metrics_at",
    "paired_interval",
    "parts_of",
    "random_top",
    "split_parts",
    "top_by_vectors",
    "truth_of",
]
