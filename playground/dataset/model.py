"""What a data set holds once it is read: entities, events in columns, faults."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from matchloop.entities import Entity
    from matchloop.usecase import UseCase

TRAIN = 0
TEST = 1


@dataclass(frozen=True, slots=True)
class RowFault:
    """One mistake in one row: the row, or this one value of it, is left out; all else is kept.

    Parameters
    ----------
    file
        Its name as `dataset.toml` gives it.
    line
        Line of the file, from 1; the header is line 1.
    column
        Name of the column, or empty when the row as a whole is broken.
    message
        What is wrong, with the value found.
    row_kept
        True when the column may be empty: the row was read as if it were.
    """

    file: str
    line: int
    column: str
    message: str
    row_kept: bool = False

    def __str__(self) -> str:
        """Return ``file:line: column: message``."""
        return ": ".join(part for part in (f"{self.file}:{self.line}", self.column, self.message) if part)


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Events in columns of equal length, in the order of the files.

    Parameters
    ----------
    rows
        By kind: row of the entity in ``Dataset.entities[kind]`` (int32), or -1 where the event names none.
    time
        UTC (datetime64[us]); NaT when the data set has no times.
    event_type
        As written in the file; empty when the data set has no types.
    value
        float64; NaN where missing.
    part
        TRAIN (0) or TEST (1) by the file an event stands in; all TRAIN in a data set of one file.
    """

    rows: Mapping[str, NDArray[np.int32]]
    time: NDArray[np.datetime64]
    event_type: NDArray[np.str_]
    value: NDArray[np.float64]
    part: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, slots=True)
class Split:
    """How train and test are told apart: by `cutoff`, or (None) by file.

    `relevant` names the event types that count in the test; empty means all.
    """

    cutoff: datetime | None = None
    relevant: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """The events as one use case reads them, in columns of equal length.

    Parameters
    ----------
    use_case
        Whose reading this is.
    interaction_id
        The same in every import of the same rows, whatever stands around them: hashed from the data set's
        name, use case, subject, item, type and time, and the ordinal among rows equal in all of these.
    subject_row, item_row
        Rows in the entities of the subject and the item kind.
    subject_id, item_id, event_type
        As the services take them.
    time
        UTC (datetime64[us]); NaT when the data set has no times.
    value
        float64; NaN where missing.
    train, test
        Masks by the data set's split. Test pairs that are in train are in neither.
    """

    use_case: UseCase
    interaction_id: NDArray[np.str_]
    subject_row: NDArray[np.int32]
    item_row: NDArray[np.int32]
    subject_id: NDArray[np.str_]
    item_id: NDArray[np.str_]
    event_type: NDArray[np.str_]
    time: NDArray[np.datetime64]
    value: NDArray[np.float64]
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.time)

    def time_at(self, row: int) -> datetime | None:
        """Return the time of a row as an aware UTC datetime, None when it has none."""
        time = self.time[row]
        return None if np.isnat(time) else time.astype(datetime).replace(tzinfo=UTC)


class Reading(NamedTuple):
    """A use case of the data set, and the type it gives events that bring none of its own."""

    use_case: UseCase
    event_type: str


@dataclass(frozen=True)
class Dataset:
    """A data set, read.

    Parameters
    ----------
    name
        From `dataset.toml`.
    entities
        By kind, in the order of the file; ids differ within a kind.
    events
        All good events, of all use cases.
    readings
        By use case id: the use case and its event type.
    split
        None when the data set has none.
    faults
        Every mistake, by file and line.
    """

    name: str
    entities: Mapping[str, tuple[Entity, ...]]
    events: Events
    readings: Mapping[str, Reading]
    split: Split | None
    faults: tuple[RowFault, ...]

    @property
    def use_cases(self) -> tuple[UseCase, ...]:
        """The use cases, in the order they are declared."""
        return tuple(reading.use_case for reading in self.readings.values())

    @property
    def rows_left_out(self) -> int:
        """Rows of which nothing was kept."""
        return len({(fault.file, fault.line) for fault in self.faults if not fault.row_kept})

    @property
    def values_left_out(self) -> int:
        """Broken values of rows that were kept."""
        broken = {(fault.file, fault.line) for fault in self.faults if not fault.row_kept}
        return sum(fault.row_kept and (fault.file, fault.line) not in broken for fault in self.faults)

    @cached_property
    def ids(self) -> Mapping[str, NDArray[np.str_]]:
        """Entity ids by kind, in row order."""
        return {
            kind: np.array([str(entity.key.id) for entity in entities], dtype=np.str_)
            for kind, entities in self.entities.items()
        }

    def interactions(self, use_case_id: str) -> Interactions:
        """Return the events as this use case reads them; a reverse use case reads them the other way.

        An event whose type the use case declares keeps it; another takes the use case's own type, and is left
        out when there is none. Events that do not name both an entity of its subject kind and one of its item
        kind are left out.

        Raises
        ------
        KeyError
            The data set does not declare the use case.
        """
        use_case, own_type = self.readings[use_case_id]
        events = self.events
        subjects, items = events.rows[use_case.subject], events.rows[use_case.item]
        types = _types_read(events.event_type, use_case, own_type)
        kept = np.flatnonzero((subjects >= 0) & (items >= 0) & (types != ""))
        subjects, items, types = subjects[kept], items[kept], types[kept]
        subject_id, item_id = self.ids[use_case.subject][subjects], self.ids[use_case.item][items]
        train, test = self._parts(kept, subjects, items, types)
        return Interactions(
            use_case=use_case,
            interaction_id=_interaction_ids(
                self.name, use_case.id, subject_id, item_id, types, events.time[kept]
            ),
            subject_row=subjects,
            item_row=items,
            subject_id=subject_id,
            item_id=item_id,
            event_type=types,
            time=events.time[kept],
            value=events.value[kept],
            train=train,
            test=test,
        )

    def _parts(
        self,
        kept: NDArray[np.intp],
        subjects: NDArray[np.int32],
        items: NDArray[np.int32],
        types: NDArray[np.str_],
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        if self.split is None:
            return np.ones(len(kept), bool), np.zeros(len(kept), bool)
        if self.split.cutoff is None:
            train = self.events.part[kept] == TRAIN
        else:
            cutoff = np.datetime64(self.split.cutoff.astimezone(UTC).replace(tzinfo=None), "us")
            train = self.events.time[kept] < cutoff
        pairs = subjects.astype(np.int64) << 32 | items.astype(np.int64)
        test = ~train & ~np.isin(pairs, pairs[train])
        if self.split.relevant:
            written = self.events.event_type[kept]
            wanted = sorted(self.split.relevant)
            test &= np.isin(types, wanted) | np.isin(written, wanted)
        return train, test


def _types_read(written: NDArray[np.str_], use_case: UseCase, own_type: str) -> NDArray[np.str_]:
    """Return each event's type for the use case; empty where it has none."""
    known, codes = np.unique(written, return_inverse=True)
    read = np.array([name if name in use_case.events else own_type for name in known.tolist()], dtype=np.str_)
    result: NDArray[np.str_] = read[codes.reshape(-1)] if len(known) else written
    return result


def _interaction_ids(
    name: str,
    use_case_id: str,
    subjects: NDArray[np.str_],
    items: NDArray[np.str_],
    types: NDArray[np.str_],
    times: NDArray[np.datetime64],
) -> NDArray[np.str_]:
    seen: dict[tuple[str, str, str, str], int] = {}
    ids = []
    columns = (subjects.tolist(), items.tolist(), types.tolist(), times.astype(np.str_).tolist())
    for row in zip(*columns, strict=True):
        ordinal = seen.get(row, 0)
        seen[row] = ordinal + 1
        digest = hashlib.blake2b(
            "\x1f".join((name, use_case_id, *row, str(ordinal))).encode(), digest_size=16
        )
        ids.append(f"imp-{digest.hexdigest()}")
    return np.array(ids, dtype=np.str_)
