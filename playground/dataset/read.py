"""Read a data set: every mistake is named by file, line and column, and costs no more than it must.

A broken cell that might have been empty (a feature, a creation time, an event's value) costs that value; a
broken id, or an event's time or type, costs the row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from matchloop.entities import MAX_ID_LENGTH, Entity, EntityId, EntityKey, FeatureValue, Kind
from matchloop.errors import InvalidInput
from playground.dataset import cells
from playground.dataset.layout import EntityFile, Layout, read_layout
from playground.dataset.model import TEST, TRAIN, Dataset, Events, Reading, RowFault, Split
from playground.dataset.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matchloop.errors import Violation
    from matchloop.usecase import UseCase

AHEAD = timedelta(days=1)
"""How far past `now` a time may lie before the stores refuse it."""


def read_dataset(folder: Path, use_cases: Mapping[str, UseCase], *, now: datetime | None = None) -> Dataset:
    """Read the data set of a folder.

    Parameters
    ----------
    folder
        Holds `dataset.toml` and the files it names.
    use_cases
        Those that may be named; features are checked against their schemas.
    now
        Times over a day past it are faults; None checks nothing.

    Returns
    -------
    Dataset
        All good rows, and a fault for every mistake. An entity without a creation time takes
        its first event's.

    Raises
    ------
    InvalidInput
        `dataset.toml` is wrong, names what there is not, or a file or column is missing: one violation each.
    """
    layout = read_layout(folder, use_cases)
    faults: list[RowFault] = []
    tables = _open(folder, layout, faults)
    latest = None if now is None else now + AHEAD
    read = {part.kind: _read_entities(tables[part.file], part, latest=latest) for part in layout.entities}
    columns = _EventReader(layout, read, use_cases, latest)
    for part, file in zip((TRAIN, TEST), layout.event_files, strict=False):
        columns.read(tables[file], part)
    events = columns.events()
    split = layout.split
    return Dataset(
        name=layout.name,
        entities={kind: _with_created(found.entities, events, kind) for kind, found in read.items()},
        events=events,
        readings={
            declared.id: Reading(use_cases[declared.id], declared.event_type or "")
            for declared in layout.use_case
        },
        split=None if split is None else Split(split.cutoff_time, frozenset(split.relevant)),
        faults=tuple(sorted(faults, key=lambda fault: (fault.file, fault.line))),
    )


def _open(folder: Path, layout: Layout, faults: list[RowFault]) -> dict[str, Table]:
    """Open every file and check its columns, all problems at once."""
    events = layout.events
    ids = [part.id for part in layout.entities if _named_in_events(part.kind, layout)]
    wanted: list[tuple[str, list[str | None]]] = [
        (part.file, [part.id, *part.typed, part.created]) for part in layout.entities
    ]
    wanted += [(file, [*ids, events.time, events.type, events.value]) for file in layout.event_files]
    tables: dict[str, Table] = {}
    violations: list[Violation] = []
    for file, columns in wanted:
        try:
            tables[file] = tables.get(file) or Table(folder, file, faults)
        except InvalidInput as error:
            violations += error.violations
        else:
            violations += tables[file].missing(columns)
    if violations:
        raise InvalidInput.of(violations)
    return tables


def _named_in_events(kind: str, layout: Layout) -> bool:
    return any(kind in (declared.subject, declared.item) for declared in layout.use_case)


@dataclass(slots=True)
class _Read:
    """Entities of one kind; `broken` holds the lines of the ids whose row was left out."""

    id_column: str
    file: str
    entities: list[Entity] = field(default_factory=list)
    row_of: dict[str, int] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)

    def add(self, entity: Entity) -> None:
        self.row_of[str(entity.key.id)] = len(self.entities)
        self.entities.append(entity)


def _read_entities(table: Table, part: EntityFile, *, latest: datetime | None) -> _Read:
    read = _Read(part.id, part.file)
    typed = part.typed
    rest = [*typed, *([part.created] if part.created else [])]
    for line, (identity, *others) in table.rows([part.id, *rest]):
        try:
            cells.check_id(identity, read.row_of)
        except cells.CellError as error:
            read.broken.setdefault(identity, line)
            table.fault(line, part.id, str(error))
            continue
        features: dict[str, FeatureValue] = {}
        created: datetime | None = None
        for column, cell in zip(rest, others, strict=True):
            if not cell:
                continue
            try:
                if column in typed:
                    features[column] = cells.feature(typed[column], cell)
                if column == part.created:
                    created = cells.time(cell, latest)
            except cells.CellError as error:
                table.fault(line, column, str(error), row_kept=True)
        read.add(Entity(EntityKey(Kind(part.kind), EntityId(identity)), MappingProxyType(features), created))
    return read


class _EventReader:
    """Gathers event columns over the files."""

    def __init__(
        self,
        layout: Layout,
        read: Mapping[str, _Read],
        use_cases: Mapping[str, UseCase],
        latest: datetime | None,
    ) -> None:
        self._columns = layout.events
        self._read = {kind: found for kind, found in read.items() if _named_in_events(kind, layout)}
        self._pairs = [(declared.subject, declared.item) for declared in layout.use_case]
        self._types = {name for declared in layout.use_case for name in use_cases[declared.id].events}
        self._any_type = any(declared.event_type for declared in layout.use_case)
        self._latest = latest
        self._rows: dict[str, list[int]] = {kind: [] for kind in self._read}
        self._times: list[datetime | None] = []
        self._kinds_of_event: list[str] = []
        self._values: list[float] = []
        self._parts: list[int] = []

    def read(self, table: Table, part: int) -> None:
        """Append the good rows of one file."""
        events = self._columns
        ids = [found.id_column for found in self._read.values()]
        columns = [*ids, *(column for column in (events.time, events.type, events.value) if column)]
        for line, found in table.rows(columns):
            faults: list[tuple[str, str]] = []
            rows = self._entity_rows(found[: len(ids)], faults)
            rest = dict(zip(columns[len(ids) :], found[len(ids) :], strict=True))
            time = self._checked_time(rest, faults)
            type_ = self._checked_type(rest, faults)
            value = self._value(rest, table, line)
            for column, message in faults:
                table.fault(line, column, message)
            if faults:
                continue
            for kind, row in zip(self._read, rows, strict=True):
                self._rows[kind].append(row)
            self._times.append(time)
            self._kinds_of_event.append(type_)
            self._values.append(value)
            self._parts.append(part)

    def _entity_rows(self, given: Sequence[str], faults: list[tuple[str, str]]) -> list[int]:
        rows = []
        for (kind, found), cell in zip(self._read.items(), given, strict=True):
            row = found.row_of.get(cell, -1)
            if cell and row < 0:
                where = (
                    f"was left out: {found.file}:{found.broken[cell]} is broken"
                    if cell in found.broken
                    else f"is not in {found.file}"
                )
                faults.append((found.id_column, f"{kind} `{cell[:MAX_ID_LENGTH]}` {where}"))
            rows.append(row)
        named = {kind for kind, cell in zip(self._read, given, strict=True) if cell}
        if not any(set(pair) <= named for pair in self._pairs):
            empty = [found.id_column for kind, found in self._read.items() if kind not in named]
            faults.append((empty[0], "is missing"))
        return rows

    def _checked_time(self, rest: Mapping[str, str], faults: list[tuple[str, str]]) -> datetime | None:
        column = self._columns.time
        if column is None:
            return None
        try:
            return cells.time(rest[column], self._latest)
        except cells.CellError as error:
            faults.append((column, str(error)))
            return None

    def _checked_type(self, rest: Mapping[str, str], faults: list[tuple[str, str]]) -> str:
        column = self._columns.type
        if column is None:
            return ""
        type_ = rest[column]
        if type_ not in self._types and not (type_ and self._any_type):
            known = ", ".join(sorted(self._types))
            faults.append(
                (column, f"no event type `{type_[:40]}`; there are: {known}" if type_ else "is missing")
            )
        return type_

    def _value(self, rest: Mapping[str, str], table: Table, line: int) -> float:
        column = self._columns.value
        if column is None or not rest[column]:
            return math.nan
        try:
            return cells.number(rest[column])
        except cells.CellError as error:
            table.fault(line, column, str(error), row_kept=True)
            return math.nan

    def events(self) -> Events:
        """Return the columns gathered so far."""
        times = [None if time is None else time.replace(tzinfo=None) for time in self._times]
        return Events(
            rows={kind: np.array(rows, dtype=np.int32) for kind, rows in self._rows.items()},
            time=np.array(times, dtype="datetime64[us]"),
            event_type=np.array(self._kinds_of_event, dtype=np.str_),
            value=np.array(self._values, dtype=np.float64),
            part=np.array(self._parts, dtype=np.int8),
        )


def _with_created(entities: Sequence[Entity], events: Events, kind: str) -> tuple[Entity, ...]:
    """Give entities without a creation time their first event's."""
    if kind not in events.rows:
        return tuple(entities)
    first = np.full(len(entities), np.datetime64("NaT"), dtype="datetime64[us]")
    named = events.rows[kind] >= 0
    np.fmin.at(first, events.rows[kind][named], events.time[named])
    times = first.tolist()
    return tuple(
        entity
        if entity.create_time is not None or time is None
        else replace(entity, create_time=time.replace(tzinfo=UTC))
        for entity, time in zip(entities, times, strict=True)
    )
