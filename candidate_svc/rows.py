"""The items of one kind as rows: one writer appends and replaces, any number of readers look without a lock.

A row never moves and never goes: an id keeps its row until it is erased. The writer fills a row's columns
first and publishes the new `count` last, so a reader that takes `count` first and cuts every column there
sees whole rows. A column that is full is copied to a larger one; a reader that still holds the smaller one
sees values a moment old.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from matchloop.entities import Entity, EntityId, EntityKey, Kind, Numeric, discrete_values
from matchloop.rerank.features import discrete_features, value_shares
from matchloop.usecase import FeatureType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

    from matchloop.rerank.features import ValueShares

FIRST_CAPACITY = 1024

NOBODY = EntityId("")
"""Id of a row whose item was erased; no item has it."""


class Column:
    """A growing array of one value a row; what was never set holds `fill`."""

    def __init__(self, dtype: DTypeLike, fill: float) -> None:
        self._fill = fill
        self._values: NDArray[Any] = np.full(FIRST_CAPACITY, fill, dtype=dtype)

    def set(self, row: int, value: float) -> None:
        """Set the value of a row, 0 or more; by the writer only."""
        if row >= len(self._values):
            grown = np.full(max(row + 1, 2 * len(self._values)), self._fill, dtype=self._values.dtype)
            grown[: len(self._values)] = self._values
            self._values = grown
        self._values[row] = value

    def upto(self, count: int) -> NDArray[Any]:
        """Return the first `count` rows, (count,); not to be written to."""
        values = self._values
        if len(values) < count:
            padded = np.full(count, self._fill, dtype=values.dtype)
            padded[: len(values)] = values
            return padded
        return values[:count]


class Postings:
    """The rows that hold each value of one categorical or multi feature."""

    def __init__(self) -> None:
        self._rows: dict[str, NDArray[np.int32]] = {}

    def update(self, changes: Iterable[tuple[int, Sequence[str], Sequence[str]]]) -> None:
        """Apply (row, values before, values now) changes, no row twice."""
        added: dict[str, list[int]] = {}
        removed: dict[str, list[int]] = {}
        for row, before, now in changes:
            for value in set(now).difference(before):
                added.setdefault(value, []).append(row)
            for value in set(before).difference(now):
                removed.setdefault(value, []).append(row)
        for value in added.keys() | removed.keys():
            self._replace(value, added.get(value, []), removed.get(value, []))

    def _replace(self, value: str, added: list[int], removed: list[int]) -> None:
        rows = self._rows.get(value, np.empty(0, dtype=np.int32))
        if removed:
            rows = rows[~np.isin(rows, removed)]
        rows = np.concatenate([rows, np.asarray(added, dtype=np.int32)])
        if len(rows):
            self._rows[value] = rows
        else:
            self._rows.pop(value, None)

    def rows(self, value: str, count: int) -> NDArray[np.int32]:
        """Return the rows under `count` that hold the value, in no order."""
        rows = self._rows.get(value)
        return np.empty(0, dtype=np.int32) if rows is None else rows[rows < count]


@dataclass(frozen=True, slots=True)
class _Values:
    """What was worked out of an entity."""

    entity: Entity
    discrete: Mapping[str, tuple[str, ...]]
    shares: ValueShares


class ItemRows:
    """The items of one kind.

    Parameters
    ----------
    kind
        Of every entity in it.
    schema
        Feature types by name; features it does not name are kept but not filtered on.
    """

    def __init__(self, kind: Kind, schema: Mapping[str, FeatureType]) -> None:
        self.kind = kind
        self.schema = dict(schema)
        self._count = 0
        self._row_of: dict[str, int] = {}
        self._entities: list[Entity] = []
        self._values: list[_Values | None] = []
        self._active = Column(np.bool_, fill=False)
        self._create_time = Column(np.float64, fill=np.nan)
        self._numbers = {
            name: Column(np.float64, fill=np.nan)
            for name, type_ in schema.items()
            if type_ is FeatureType.NUMERIC
        }
        self._postings = {
            name: Postings()
            for name, type_ in schema.items()
            if type_ in (FeatureType.CATEGORICAL, FeatureType.MULTI)
        }

    @property
    def count(self) -> int:
        """Rows published; inactive ones too."""
        return self._count

    def row(self, item_id: str) -> int | None:
        """Return the row of an id, None when it has none (yet)."""
        row = self._row_of.get(item_id)
        return row if row is not None and row < self._count else None

    def rows(self, item_ids: Iterable[str], count: int) -> NDArray[np.int64]:
        """Return the rows under `count` of those ids that have one, in the order given."""
        found = [row for item_id in item_ids if (row := self._row_of.get(item_id)) is not None]
        rows = np.asarray(found, dtype=np.int64)
        return rows[rows < count]

    def entity(self, row: int) -> Entity:
        """Return the item of a row as it is now."""
        return self._entities[row]

    def discrete(self, row: int) -> Mapping[str, tuple[str, ...]]:
        """Return the categorical and multi values of a row by feature name; remembered once asked for."""
        return self._values_of(row).discrete

    def shares(self, row: int) -> ValueShares:
        """Return the values of `discrete` as ranking features weigh them; remembered once asked for."""
        return self._values_of(row).shares

    def _values_of(self, row: int) -> _Values:
        entity, found = self._entities[row], self._values[row]
        if found is None or found.entity is not entity:
            discrete = discrete_features(entity)
            found = self._values[row] = _Values(entity, discrete, value_shares(discrete))
        return found

    def find(self, item_id: str) -> Entity | None:
        """Return the item with that id as it is now, inactive ones too; None when unknown."""
        row = self.row(item_id)
        return None if row is None else self._entities[row]

    def active(self, count: int) -> NDArray[np.bool_]:
        """Return which of the first `count` rows may be shown, (count,)."""
        return self._active.upto(count)

    def create_times(self, count: int) -> NDArray[np.float64]:
        """Return seconds since 1970 (UTC) when each item came to be, (count,); NaN where unknown."""
        return self._create_time.upto(count)

    def numbers(self, feature: str, count: int) -> NDArray[np.float64]:
        """Return a numeric feature, (count,); NaN where missing."""
        return self._numbers[feature].upto(count)

    def holding(self, feature: str, value: str, count: int) -> NDArray[np.int32]:
        """Return the rows that hold a value of a categorical or multi feature."""
        return self._postings[feature].rows(value, count)

    def claim(self, item_id: EntityId) -> int:
        """Return the row of an id; one that has none gets an inactive row. By the writer only."""
        row = self._row_of.get(item_id)
        if row is None:
            row = len(self._entities)
            self._values.append(None)
            self._entities.append(Entity(EntityKey(self.kind, item_id), active=False))
            self._row_of[item_id] = row
            self._active.set(row, value=False)
            self._count = row + 1
        return row

    def apply(self, entities: Sequence[Entity]) -> list[Entity]:
        """Put entities (all of this kind, the last of an id counts) in their rows; by the writer only.

        Returns
        -------
        list of Entity
            Those that say something else than what was there, in the order given.
        """
        last = {entity.key.id: entity for entity in entities}
        changed = []
        discrete: dict[str, list[tuple[int, tuple[str, ...], tuple[str, ...]]]] = {}
        for entity in last.values():
            row = self._row_of.get(entity.key.id)
            before = None if row is None else self._entities[row]
            if row is not None and before is not None and _same(before, entity):
                self._entities[row] = entity  # as of its latest update
                continue
            row = len(self._entities) if row is None else row
            for name in self._postings:
                old = discrete_values(before.features.get(name)) if before is not None else ()
                new = discrete_values(entity.features.get(name))
                if old != new:
                    discrete.setdefault(name, []).append((row, old, new))
            self._fill(row, entity)
            changed.append(entity)
        for name, changes in discrete.items():
            self._postings[name].update(changes)
        self._count = len(self._entities)
        return changed

    def forget(self, item_id: EntityId) -> int | None:
        """Take an id, and all that is known of it, out of its row; by the writer only.

        The row stays, inactive and under no id; the id gets another row if it comes back.

        Returns
        -------
        int or None
            The row; None when the id has none.
        """
        if item_id not in self._row_of:
            return None
        self.apply([Entity(EntityKey(self.kind, item_id), active=False)])
        row = self._row_of.pop(item_id)
        self._entities[row] = Entity(EntityKey(self.kind, NOBODY), active=False)
        self._values[row] = None
        return row

    def _fill(self, row: int, entity: Entity) -> None:
        self._active.set(row, value=entity.active)
        created = entity.create_time
        self._create_time.set(row, np.nan if created is None else created.timestamp())
        for name, column in self._numbers.items():
            value = entity.features.get(name)
            column.set(row, value.value if isinstance(value, Numeric) else np.nan)
        if row == len(self._entities):
            self._values.append(None)
            self._entities.append(entity)
            self._row_of[entity.key.id] = row
        else:
            self._entities[row] = entity

    def ids(self, count: int) -> list[EntityId]:
        """Return the ids of the first `count` rows, inactive ones too."""
        return [entity.key.id for entity in self._entities[:count]]

    def active_ids(self) -> list[EntityId]:
        """Return the ids of all items that may be shown, by row."""
        count = self._count
        return [self._entities[row].key.id for row in np.flatnonzero(self.active(count)).tolist()]


class RowMap:
    """Where the items of another list stand in an `ItemRows`; follows it as rows come.

    Parameters
    ----------
    ids
        Of the other list, in its order.
    """

    def __init__(self, ids: Sequence[EntityId], rows: ItemRows) -> None:
        self._ids = ids
        self._rows = rows
        self._known: tuple[int, NDArray[np.int64]] = (0, np.full(len(ids), -1, dtype=np.int64))

    def rows(self, count: int) -> NDArray[np.int64]:
        """Return each item's row, (len(ids),); −1 for one that has none under `count`."""
        seen, places = self._known
        if seen < count:
            seen, places = self._rows.count, places.copy()
            for at in np.flatnonzero(places < 0).tolist():
                row = self._rows.row(self._ids[at])
                places[at] = -1 if row is None else row
            self._known = (seen, places)
        return places if seen == count else np.where(places < count, places, -1)


def _same(one: Entity, other: Entity) -> bool:
    """Tell whether two states of an entity differ in nothing that is served."""
    return (
        one.active == other.active
        and one.create_time == other.create_time
        and dict(one.features) == dict(other.features)
    )
