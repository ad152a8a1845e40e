"""Small worlds whose right answer is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from matchloop.entities import Categorical, Entity, EntityId, EntityKey, Kind, Multi
from matchloop.errors import InvalidInput

COLOURS = ("black", "white")


@dataclass(frozen=True, slots=True)
class WorldEvent:
    """One reaction of a world; `time` is aware UTC."""

    subject: EntityId
    item: EntityId
    event_type: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Checkerboard:
    """Subjects that like every item of their own colour, and nothing else.

    Subject i and item j are black if even, white if odd; a subject likes an item if and only if the
    colours agree. The diagonal, subject i with item i, is always liked and withheld from the events: the
    right answer for subject i, among the items it has not reacted to, is item i first.

    Parameters
    ----------
    subjects, items
        Entities in row order; subjects carry their colour in the multi feature `categories`, items theirs
        in the categorical `category`.
    events
        What was seen, oldest first, an hour apart, without the diagonal.
    withheld
        The item withheld from each subject.
    """

    subjects: tuple[Entity, ...]
    items: tuple[Entity, ...]
    events: tuple[WorldEvent, ...]
    withheld: dict[EntityId, EntityId]

    def seen(self, subject: EntityId) -> frozenset[EntityId]:
        """Return the items a subject reacted to."""
        return frozenset(event.item for event in self.events if event.subject == subject)

    def matrix(self) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """Return what was seen as ones, shape (subjects, items)."""
        row = {entity.key.id: at for at, entity in enumerate(self.subjects)}
        column = {entity.key.id: at for at, entity in enumerate(self.items)}
        seen = np.zeros((len(row), len(column)), dtype=np.float32)
        for event in self.events:
            seen[row[event.subject], column[event.item]] = 1.0
        return seen


def checkerboard(
    size: int,
    *,
    subject_kind: str = "investor",
    item_kind: str = "startup",
    event_type: str = "interest",
    start: datetime = datetime(2024, 1, 1, tzinfo=UTC),
) -> Checkerboard:
    """Build a checkerboard of `size` subjects and as many items, 4 or more."""
    if size < 4:
        raise InvalidInput(f"size is {size}, must be 4 or more")
    subjects = tuple(
        Entity(
            EntityKey(Kind(subject_kind), EntityId(f"s{i}")),
            {"categories": Multi((COLOURS[i % 2],))},
            create_time=start,
        )
        for i in range(size)
    )
    items = tuple(
        Entity(
            EntityKey(Kind(item_kind), EntityId(f"i{j}")),
            {"category": Categorical(COLOURS[j % 2])},
            create_time=start,
        )
        for j in range(size)
    )
    seen = [(i, j) for i in range(size) for j in range(size) if i != j and i % 2 == j % 2]
    events = tuple(
        WorldEvent(subjects[i].key.id, items[j].key.id, event_type, start + timedelta(hours=at))
        for at, (i, j) in enumerate(seen)
    )
    withheld = {subjects[i].key.id: items[i].key.id for i in range(size)}
    return Checkerboard(subjects, items, events, withheld)
