"""The Two-Tower's data set as a file: pairs of all sources, with both sides' features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis
import numpy as np
import pyarrow as pa

from training_jobs.datasets.features import with_features
from training_jobs.datasets.two_tower import RANDOM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from matchloop.usecase import UseCase
    from training_jobs.datasets.tables import SnapshotTables
    from training_jobs.datasets.two_tower import PairDataset


def write_pairs(dataset: PairDataset, folder: Path, tables: SnapshotTables, use_case: UseCase) -> Path:
    """Write ``two_tower.parquet`` and ``two_tower.json`` into `folder`; returns the first.

    Columns: subject_id, item_id, rank and score (null where shown nowhere), rank_weight, label, weight,
    source, then a column for each feature, as `with_features` names them. Rows are by subject, item, source.
    """
    dataset.manifest.write(folder)
    pairs = ibis.memtable(pair_table(dataset))
    found = with_features(pairs, tables, use_case).order_by(["subject_id", "item_id", "source"])
    path = folder / "two_tower.parquet"
    found.to_parquet(path)
    return path


def pair_table(dataset: PairDataset) -> pa.Table:
    """Return the pairs with their ids, the drawn ones at the end; a text that repeats is held once."""
    drawn = dataset.drawn
    count = len(drawn)
    nothing, none = np.zeros(count, np.float32), np.ones(count, np.bool_)
    rank = np.concatenate([dataset.rank, np.zeros(count, np.int32)])
    score = np.concatenate([dataset.score, nothing])
    source = pa.chunked_array([pa.array(dataset.source, pa.string()), pa.repeat(RANDOM, count)])
    return pa.table(
        {
            "subject_id": _texts(dataset.subject_ids, dataset.subject, drawn.subject),
            "item_id": _texts(dataset.item_ids, dataset.item, drawn.item),
            "rank": pa.array(rank, mask=rank == 0),
            "score": pa.array(score, mask=np.concatenate([np.isnan(dataset.score), none])),
            "rank_weight": np.concatenate([dataset.rank_weight, np.ones(count, np.float32)]),
            "label": np.concatenate([dataset.label, nothing]),
            "weight": np.concatenate([dataset.weight, nothing]),
            "source": source.dictionary_encode().combine_chunks(),
        }
    )


def _texts(texts: Sequence[str], *rows: NDArray[np.int64]) -> pa.DictionaryArray:
    """Return the texts that stand in these rows, one after the other."""
    codes = np.concatenate([each.astype(np.int32) for each in rows])
    return pa.DictionaryArray.from_arrays(codes, pa.array(texts, pa.string()))
