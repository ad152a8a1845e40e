"""The items of one kind as rows: one writer appends and replaces, any number of readers look without a lock.

A row never moves and never goes: an id keeps its row until it is erased. The writer fills a row's columns
first and publishes the new `count` last, so a reader that takes `count` first and cuts every column there
sees whole rows. A column that is full is copied to a larger one; a reader that still holds the smaller one
sees values a moment old. Features are kept packed, and an item's values beside them for as long as they are
asked for: a million items take some hundred megabytes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isnan
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from candidate_svc.columns import Column, Postings
from candidate_svc.packed import (
    NO_FEATURES,
    FeaturePacker,
    join,
    join_texts,
    split,
    split_ids,
    split_texts,
)
from candidate_svc.unpacked import UnpackedValues
from matchloop.entities import Entity, EntityId, EntityKey, Kind, Numeric, discrete_values
from matchloop.retrieval.scored import row_by_id
from matchloop.usecase import FeatureType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from matchloop.rerank.values import ValueShares

NOBODY = EntityId("")
"""Id of a row whose item was erased; no item has it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
        self._ids: list[EntityId] = []
        self._packer = FeaturePacker()
        self._packed: list[bytes] = []  # a state of an item is a bytes object of its own
        self._unpacked = UnpackedValues()
        self._active = Column(np.bool_, fill=False)
        self._create_time = Column(np.float64, fill=np.nan)
        self._update_time = Column(np.float64, fill=np.nan)
        self._sequence = Column(np.int64, fill=0)
        self._numbers = {
            name: Column(np.float64, fill=np.nan)
            for name, type_ in schema.items()
            if type_ is FeatureType.NUMERIC
        }
        self._means: dict[str, tuple[int, float]] = {}
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

    def id(self, row: int) -> EntityId:
        """Return the id of a row."""
        return self._ids[row]

    def entity(self, row: int) -> Entity:
        """Return the item of a row as it is now, without vectors that were derived from its texts.

        It is put together anew each time: ask for what is needed of it alone where many are looked at.
        """
        return Entity(
            EntityKey(self.kind, self._ids[row]),
            self._packer.unpack(self._packed[row]),
            create_time=_time(self._create_time.get(row)),
            update_time=_time(self._update_time.get(row)),
            active=self._active.get(row),
            change_sequence=self._sequence.get(row),
        )

    def described(self, row: int) -> Entity:
        """Return an entity with the id and the features of a row, and nothing else of it."""
        return Entity(EntityKey(self.kind, self._ids[row]), self._packer.unpack(self._packed[row]))

    def state(self, row: int) -> object | None:
        """Return an object that stands for the features of a row; another one once they are others.

        None for an item without features.
        """
        packed = self._packed[row]
        return packed if packed != NO_FEATURES else None

    def discrete(self, row: int) -> Mapping[str, tuple[str, ...]]:
        """Return the categorical and multi values of a row by feature name."""
        return self._unpacked.of(row, self._packed[row], self._packer).discrete

    def shares(self, row: int) -> ValueShares:
        """Return the values of `discrete` as ranking features weigh them."""
        return self._unpacked.of(row, self._packed[row], self._packer).shares

    def came(self, rows: NDArray[np.int64], count: int) -> list[datetime | None]:
        """Return when the items of these rows under `count` came to be; None where unknown."""
        return [_time(seconds) for seconds in self._create_time.upto(count)[rows].tolist()]

    def find(self, item_id: str) -> Entity | None:
        """Return the item with that id as it is now, inactive ones too; None when unknown."""
        row = self.row(item_id)
        return None if row is None else self.entity(row)

    def active(self, count: int) -> NDArray[np.bool_]:
        """Return which of the first `count` rows may be shown, (count,)."""
        return self._active.upto(count)

    def create_times(self, count: int) -> NDArray[np.float64]:
        """Return seconds since 1970 (UTC) when each item came to be, (count,); NaN where unknown."""
        return self._create_time.upto(count)

    def update_times(self, count: int) -> NDArray[np.float64]:
        """Return seconds since 1970 (UTC) of the store's last change of each item, (count,); or NaN."""
        return self._update_time.upto(count)

    def numbers(self, feature: str, count: int) -> NDArray[np.float64]:
        """Return a numeric feature, (count,); NaN where missing."""
        return self._numbers[feature].upto(count)

    def numbers_or_mean(self, feature: str, rows: NDArray[np.int64], count: int) -> NDArray[np.float64]:
        """Return a numeric feature of these rows, (len(rows),), all finite: where missing, the mean of all.

        The mean is of the first `count` rows as they were when the last of them came; 0 when none has it.
        """
        column = self._numbers[feature].upto(count)
        known, mean = self._means.get(feature, (-1, 0.0))
        if known != count:
            there = column[np.isfinite(column)]
            mean = float(there.mean()) if len(there) else 0.0
            self._means[feature] = (count, mean)
        found = column[rows]
        return np.where(np.isfinite(found), found, mean)

    def holding(self, feature: str, value: str, count: int) -> NDArray[np.int32]:
        """Return the rows that hold a value of a categorical or multi feature."""
        return self._postings[feature].rows(value, count)

    def claim(self, item_id: EntityId) -> int:
        """Return the row of an id; one that has none gets an inactive row. By the writer only."""
        row = self._row_of.get(item_id)
        if row is None:
            row = len(self._ids)
            self._put(row, Entity(EntityKey(self.kind, item_id), active=False), NO_FEATURES)
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
            row, packed = self._row_of.get(entity.key.id), self._packer.pack(entity.features)
            if row is not None and self._same(row, entity, packed):
                self._put(row, entity, packed)  # as of its latest update
                continue
            before = {} if row is None else self._packer.unpack(self._packed[row])
            row = len(self._ids) if row is None else row
            for name in self._postings:
                old, new = discrete_values(before.get(name)), discrete_values(entity.features.get(name))
                if old != new:
                    discrete.setdefault(name, []).append((row, old, new))
            self._put(row, entity, packed)
            changed.append(entity)
        for name, changes in discrete.items():
            self._postings[name].update(changes)
        self._count = len(self._ids)
        return changed

    def _same(self, row: int, entity: Entity, packed: bytes) -> bool:
        """Tell whether an entity differs in nothing that is served from what its row holds."""
        return (
            self._packed[row] == packed
            and self._active.get(row) == entity.active
            and _time(self._create_time.get(row)) == entity.create_time
        )

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
        self._ids[row] = NOBODY
        self._packed[row] = NO_FEATURES
        self._unpacked.forget(row)
        return row

    def _put(self, row: int, entity: Entity, packed: bytes) -> None:
        self._active.set(row, value=entity.active)
        self._create_time.set(row, _seconds(entity.create_time))
        self._update_time.set(row, _seconds(entity.update_time))
        self._sequence.set(row, entity.change_sequence)
        for name, column in self._numbers.items():
            value = entity.features.get(name)
            column.set(row, value.value if isinstance(value, Numeric) else np.nan)
        if row == len(self._ids):
            self._packed.append(packed)
            self._ids.append(entity.key.id)
            self._row_of[entity.key.id] = row
        else:
            self._packed[row] = packed

    def ids(self, count: int) -> list[EntityId]:
        """Return the ids of the first `count` rows, inactive ones too."""
        return self._ids[:count]

    def active_ids(self) -> list[EntityId]:
        """Return the ids of all items that may be shown, by row."""
        return [self._ids[row] for row in np.flatnonzero(self.active(self._count)).tolist()]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all as arrays, for `restore`; by the writer only."""
        columns = {name: column.upto(self._count) for name, column in self._columns().items()}
        found: dict[str, NDArray[Any]] = dict(columns)
        found["words"], found["word_ends"] = join_texts(self._packer.words)
        found["ids"], found["id_ends"] = join_texts(self._ids)
        found["packed"], found["packed_ends"] = join(self._packed)
        for name, postings in self._postings.items():
            found |= {f"holding/{name}/{part}": array for part, array in postings.arrays().items()}
        return found

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what `arrays` gave; by the writer, while there are no rows.

        Raises
        ------
        KeyError, ValueError
            If something is missing, or malformed; there are no rows then.
        """
        columns = {name: arrays[name] for name in self._columns()}
        packer = FeaturePacker(split_texts(arrays["words"], arrays["word_ends"]))
        ids = split_ids(arrays["ids"], arrays["id_ends"])
        packed = split(arrays["packed"], arrays["packed_ends"])
        if {len(packed), *map(len, columns.values())} != {len(ids)}:
            raise ValueError(f"{len(ids)} ids, {len(packed)} items")
        for name, postings in self._postings.items():
            parts = ("values", "value_ends", "used", "rows")
            postings.restore({part: arrays[f"holding/{name}/{part}"] for part in parts})
        for name, column in self._columns().items():
            column.fill(columns[name])
        self._packer, self._packed, self._ids = packer, packed, ids
        self._row_of = cast("dict[str, int]", row_by_id(ids))
        self._row_of.pop(NOBODY, None)
        self._count = len(ids)

    def _columns(self) -> dict[str, Column]:
        own = {
            "active": self._active,
            "create_time": self._create_time,
            "update_time": self._update_time,
            "sequence": self._sequence,
        }
        return own | {f"number/{name}": column for name, column in self._numbers.items()}


def _seconds(moment: datetime | None) -> float:
    return np.nan if moment is None else (moment - _EPOCH) / timedelta(seconds=1)


def _time(seconds: float) -> datetime | None:
    return None if isnan(seconds) else _EPOCH + timedelta(0, 0, round(seconds * 1e6))
