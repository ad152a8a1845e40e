"""The ALS data set: a sparse matrix subjects × items of summed event weights, positives only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
from scipy import sparse

from training_jobs.datasets.manifest import DatasetManifest, manifest_of

if TYPE_CHECKING:
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


def als_pairs(ordered: Table, *, least_interactions: int = 1) -> Table:
    """Return subject_id, item_id, weight (summed over the pair's events, over 0), first_time, last_time.

    Parameters
    ----------
    ordered
        As `datasets.tables.reactions` gives it, or a part of it. A dislike's weight is negative, so it takes
        away from a pair, and a pair with nothing left is gone.
    least_interactions
        Subjects with fewer pairs are left out.
    """
    pairs = ordered.group_by(["subject_id", "item_id"]).aggregate(
        weight=ordered.weight.sum(), first_time=ordered.event_time.min(), last_time=ordered.event_time.max()
    )
    pairs = pairs.filter(pairs.weight > 0)
    if least_interactions > 1:
        pairs = pairs.mutate(pairs_of_subject=pairs.count().over(ibis.window(group_by="subject_id")))
        pairs = pairs.filter(pairs.pairs_of_subject >= least_interactions).drop("pairs_of_subject")
    return pairs.order_by(["subject_id", "item_id"])


def als_matrix(pairs: Table, *, use_case: str, snapshot: str) -> AlsMatrix:
    """Run `als_pairs` and make the matrix; an empty one has the shape (0, 0)."""
    found = pairs.to_pyarrow()
    subjects, items = (found[name].combine_chunks().dictionary_encode() for name in ("subject_id", "item_id"))
    subject_ids, subject_rows = _sorted_codes(subjects)
    item_ids, item_rows = _sorted_codes(items)
    weights = found["weight"].to_numpy().astype(np.float32)
    last = found["last_time"].to_numpy().astype("datetime64[s]")
    age = (last.max() - last).astype(np.float64) / 86_400.0 if len(last) else np.zeros(0)
    # Pairs stand once and in order of both ids, so the matrix keeps their order.
    order = np.lexsort((item_rows, subject_rows))
    shape = (len(subject_ids), len(item_ids))
    matrix = sparse.csr_matrix((weights[order], (subject_rows[order], item_rows[order])), shape=shape)
    times = [t for name in ("first_time", "last_time") for t in found[name].to_pylist()]
    manifest = manifest_of(
        "als",
        use_case,
        snapshot,
        {"subject": subject_rows, "item": item_rows, "weight": weights},
        times,
        labels={"positive": len(weights)},
        sources={"subjects": len(subject_ids), "items": len(item_ids)},
    )
    return AlsMatrix(matrix, age[order].astype(np.float32), subject_ids, item_ids, manifest)


def _sorted_codes(encoded: Any) -> tuple[list[str], Any]:
    """Turn a dictionary-encoded column into sorted distinct values and each row's place among them."""
    values = encoded.dictionary.to_pylist()
    order = sorted(range(len(values)), key=values.__getitem__)
    place = np.empty(len(values), dtype=np.int32)
    place[order] = np.arange(len(values), dtype=np.int32)
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    return [values[at] for at in order], place[codes] if len(codes) else np.zeros(0, dtype=np.int32)
