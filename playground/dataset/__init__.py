"""Data sets in a folder: `dataset.toml` and gzipped CSV files, read with every mistake named."""

from playground.dataset.core import core
from playground.dataset.model import Dataset, Events, Interactions, RowFault, Split
from playground.dataset.read import read_dataset

__all__ = ["Dataset", "Events", "Interactions", "RowFault", "Split", "core", "read_dataset"]
