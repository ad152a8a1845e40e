"""Offline evaluation: full ranking on the latest part of the events, beside popularity and random."""

from training_jobs.evaluate.bootstrap import Interval, interval_of
from training_jobs.evaluate.metrics import METRICS, metrics_at
from training_jobs.evaluate.ranking import Truth, random_top, top_by_vectors, truth_of

__all__ = [
    "METRICS",
    "Interval",
    "Truth",
    "interval_of",
    "metrics_at",
    "random_top",
    "top_by_vectors",
    "truth_of",
]
