"""What a data set's manifest says: where it comes from, what is in it, and its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict

from matchloop.position import exposure_weight
from training_jobs.datasets.texts import Texts

if TYPE_CHECKING:
    from matchloop.position import ExaminationCurve, Weighting

LEAST_PAIRS = 2
"""Fewer pairs, subjects or items than this, and ALS and the Two-Tower have nothing to tell apart."""
SHOWN_RANKS = (1, 2, 3, 5, 10, 20)
"""Ranks whose weights a manifest tells."""


class DatasetManifest(BaseModel):
    """What a data set holds.

    Parameters
    ----------
    name, use_case
        Which data set (ranker, two_tower, als), of which use case.
    snapshot
        Fingerprint of the snapshot.
    rows
        Examples in all.
    labels, sources
        Examples by label and by where they come from.
    subjects, items
        How many different ones the examples name.
    weights
        What a pair is worth by the rank it was shown at, for some ranks; empty where ranks do not count.
    first_time, last_time
        Span of the events or lists behind them; null for none.
    sha256
        Over every array, in a fixed order: equal data, equal hash.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    use_case: str
    snapshot: str
    rows: int
    labels: dict[str, int]
    sources: dict[str, int]
    subjects: int = 0
    items: int = 0
    weights: dict[int, float] = {}
    first_time: AwareDatetime | None
    last_time: AwareDatetime | None
    sha256: str

    def write(self, folder: Path) -> Path:
        """Write ``<name>.json`` into `folder`, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        return path


def counts_of(values: NDArray[Any]) -> dict[str, int]:
    """Return how often each value occurs, by value; floats as short as they go."""
    found, counts = np.unique(values, return_counts=True)
    names = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in found.tolist()]
    return dict(zip(names, counts.tolist(), strict=True))


def weights_by_rank(weighting: Weighting, curve: ExaminationCurve | None) -> dict[int, float]:
    """Return the weight at each of `SHOWN_RANKS`."""
    found = exposure_weight(SHOWN_RANKS, weighting, curve=curve)
    return {rank: round(weight, 4) for rank, weight in zip(SHOWN_RANKS, found.tolist(), strict=True)}


def hash_of(arrays: Mapping[str, NDArray[Any] | Texts]) -> str:
    """Return the hex SHA-256 over names, shapes, types and bytes; None counts as an empty text."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        blocks = array.blocks() if isinstance(array, Texts) else iter([np.ascontiguousarray(array)])
        first = next(blocks)
        digest.update(f"{name} {first.dtype} {(len(array), *first.shape[1:])}".encode())
        for block in chain([first], blocks):
            digest.update(block.data.cast("B") if block.size else b"")
    return digest.hexdigest()


def manifest_of(
    name: str,
    use_case: str,
    snapshot: str,
    arrays: Mapping[str, NDArray[Any] | Texts],
    times: list[datetime],
    *,
    labels: dict[str, int],
    sources: dict[str, int],
    subjects: int,
    items: int,
    weights: Mapping[int, float] = MappingProxyType({}),
) -> DatasetManifest:
    """Describe a data set by all its arrays, ids among them, and the times behind it."""
    return DatasetManifest(
        name=name,
        use_case=use_case,
        snapshot=snapshot,
        rows=sum(labels.values()),
        labels=labels,
        sources=sources,
        subjects=subjects,
        items=items,
        weights=dict(weights),
        first_time=min(times, default=None),
        last_time=max(times, default=None),
        sha256=hash_of(arrays),
    )


def span_of(first: Any, last: Any) -> list[datetime]:
    """Return the earliest of `first` and the latest of `last`, Arrow columns of times; empty for none.

    Times without a zone, as Spark gives them, are UTC.
    """
    times = [pc.min(first).as_py(), pc.max(last).as_py()] if len(first) else []
    return [time if time.tzinfo else time.replace(tzinfo=UTC) for time in times]
