"""The busiest part of a data set, for demonstrations that must not take long."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from playground.dataset.model import Dataset, Events

if TYPE_CHECKING:
    from numpy.typing import NDArray


def core(dataset: Dataset, most: int) -> Dataset:
    """Return the core: of each kind the `most` entities with most events, and the events among them."""
    kept: dict[str, NDArray[np.int64]] = {}
    events = dataset.events
    for kind, entities in dataset.entities.items():
        rows = events.rows.get(kind, np.zeros(0, dtype=np.int32))
        counts = np.bincount(rows[rows >= 0], minlength=len(entities))
        kept[kind] = np.sort(np.argsort(-counts, kind="stable")[:most])
    inside = np.ones(len(events), dtype=bool)
    moved: dict[str, NDArray[np.int32]] = {}
    for kind, rows in events.rows.items():
        place = np.full(len(dataset.entities[kind]) + 1, -1, dtype=np.int32)
        place[kept[kind]] = np.arange(len(kept[kind]), dtype=np.int32)
        moved[kind] = place[rows]
        inside &= (rows < 0) | (moved[kind] >= 0)
    return replace(
        dataset,
        entities={
            kind: tuple(entities[row] for row in kept[kind].tolist())
            for kind, entities in dataset.entities.items()
        },
        events=Events(
            rows={kind: rows[inside] for kind, rows in moved.items()},
            time=events.time[inside],
            event_type=events.event_type[inside],
            value=events.value[inside],
            part=events.part[inside],
        ),
    )
