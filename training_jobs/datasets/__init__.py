"""Data sets: pure functions from a snapshot's tables to table expressions, run by DuckDB (or Spark)."""

from training_jobs.datasets.als import AlsMatrix, als_matrix, als_pairs
from training_jobs.datasets.examination import estimate_examination, examination_of
from training_jobs.datasets.features import with_features
from training_jobs.datasets.manifest import LEAST_PAIRS, DatasetManifest
from training_jobs.datasets.pair_file import write_pairs
from training_jobs.datasets.ranker import RankerDataset, ranker_dataset, ranker_examples, whole_lists
from training_jobs.datasets.shown import shown_pairs
from training_jobs.datasets.tables import SnapshotTables, open_tables
from training_jobs.datasets.two_tower import PairDataset, two_tower_dataset, two_tower_examples

__all__ = [
    "LEAST_PAIRS",
    "AlsMatrix",
    "DatasetManifest",
    "PairDataset",
    "RankerDataset",
    "SnapshotTables",
    "als_matrix",
    "als_pairs",
    "estimate_examination",
    "examination_of",
    "open_tables",
    "ranker_dataset",
    "ranker_examples",
    "shown_pairs",
    "two_tower_dataset",
    "two_tower_examples",
    "whole_lists",
    "with_features",
    "write_pairs",
]
