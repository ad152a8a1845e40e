"""The ALS data set: a sparse matrix subjects × items of summed event weights, positives only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from matchloop.days import SECONDS_A_DAY
from matchloop.errors import TooFewExamples
from matchloop.snapshot import Source
from training_jobs.datasets.manifest import DatasetManifest, manifest_of, span_of
from training_jobs.datasets.texts import Texts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from training_jobs.datasets.tables import Table


@dataclass(frozen=True, slots=True)
class AlsMatrix:
    """The matrix and its id mappings.

    Parameters
    ----------
    weights
        CSR float32, shape (len(subject_ids), len(item_ids)), over 0 where it holds a value.
    age_days
        float32, as many as `weights` has values, in their order: days from a pair's latest event to the
        latest of all.
    subject_ids, item_ids
        Sorted; only those with a value.
    """

    weights: Any
    age_days: NDArray[np.float32]
    subject_ids: list[str]
    item_ids: list[str]
    manifest: DatasetManifest

    def require(self, least: int) -> None:
        """Raise TooFewExamples, with the counts, for fewer than `least` subjects, items or pairs."""
        if min(*self.weights.shape, self.weights.nnz) < least:
            raise TooFewExamples(
                f"als: {self.weights.shape[0]} subjects, {self.weights.shape[1]} items and "
                f"{self.weights.nnz} pairs of positive weight; {least} of each are needed"
            )

    def write(self, folder: Path) -> Path:
        """Write ``als.parquet`` (subject, item, weight, age_days) and ``als.json`` into `folder`."""
        self.manifest.write(folder)
        entries = self.weights.tocoo()
        columns = {
            "subject": pa.array(self.subject_ids, pa.string()).take(pa.array(entries.row)),
            "item": pa.array(self.item_ids, pa.string()).take(pa.array(entries.col)),
            "weight": entries.data,
            "age_days": self.age_days,
        }
        path = folder / "als.parquet"
        pq.write_table(pa.table(columns), path)
        return path


def als_pairs(ordered: Table, *, least_interactions: int = 1) -> Table:
    """Return one row a pair: its summed event weight, over 0, and where its events come from.

    Columns: subject_id, item_id, weight, interactions, listed (whether one came from a list), first_time,
    last_time.

    Parameters
    ----------
    ordered
        As `datasets.tables.reactions` gives it, or a part of it. A dislike's weight is negative, so it takes
        away from a pair, and a pair with nothing left is gone.
    least_interactions
        Subjects with fewer interactions, counted over the pairs that are left, are left out.
    """
    pairs = ordered.group_by(["subject_id", "item_id"]).aggregate(
        weight=ordered.weight.sum(),
        interactions=ordered.count(),
        listed=(ordered.source == Source.RECOMMENDATION.value).any(),
        first_time=ordered.event_time.min(),
        last_time=ordered.event_time.max(),
    )
    pairs = pairs.filter(pairs.weight > 0)
    if least_interactions > 1:
        pairs = pairs.mutate(of_subject=pairs.interactions.sum().over(ibis.window(group_by="subject_id")))
        pairs = pairs.filter(pairs.of_subject >= least_interactions).drop("of_subject")
    return pairs


def als_matrix(pairs: Table, *, use_case: str, snapshot: str) -> AlsMatrix:
    """Run `als_pairs` and make the matrix; an empty one has the shape (0, 0)."""
    found = pairs.to_pyarrow()
    subject_ids, subject_rows = _sorted_codes(found["subject_id"])
    item_ids, item_rows = _sorted_codes(found["item_id"])
    shape = (len(subject_ids), len(item_ids))
    order = np.argsort(subject_rows.astype(np.int64) * len(item_ids) + item_rows)
    subject_rows, item_rows = subject_rows[order], item_rows[order]
    weights = found["weight"].to_numpy().astype(np.float32)[order]
    last = found["last_time"].to_numpy().astype("datetime64[s]")[order]
    age = (last.max() - last).astype(np.float64) / SECONDS_A_DAY if len(last) else np.zeros(0)
    # Pairs stand once and in order of both ids, so the matrix keeps their order.
    matrix = sparse.csr_matrix((weights, (subject_rows, item_rows)), shape=shape)
    listed = int(np.count_nonzero(found["listed"].to_numpy()))
    manifest = manifest_of(
        "als",
        use_case,
        snapshot,
        {
            "subject_ids": np.array(subject_ids, dtype=np.str_),
            "item_ids": np.array(item_ids, dtype=np.str_),
            "subject": subject_rows,
            "item": item_rows,
            "weight": weights,
            "age_days": age.astype(np.float32),
        },
        span_of(found["first_time"], found["last_time"]),
        labels={"positive": len(weights)},
        sources={"recommendation": listed, "organic": len(weights) - listed},
        subjects=len(subject_ids),
        items=len(item_ids),
    )
    return AlsMatrix(matrix, age.astype(np.float32), subject_ids, item_ids, manifest)


def _sorted_codes(column: Any) -> tuple[list[str], NDArray[np.int32]]:
    """Return a column's different texts, sorted, and each row's place among them."""
    texts = Texts.of(column)
    values = [value for value in texts.values if value is not None]
    order = sorted(range(len(values)), key=values.__getitem__)
    place = np.empty(len(values), dtype=np.int32)
    place[order] = np.arange(len(values), dtype=np.int32)
    return [values[at] for at in order], place[texts.rows]
