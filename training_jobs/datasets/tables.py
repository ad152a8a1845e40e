"""A snapshot's tables as Ibis tables, and what all data sets derive from them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import ibis

from matchloop.snapshot import Snapshot, TableName

if TYPE_CHECKING:
    from matchloop.usecase import UseCase

THREADS = 2
MEMORY = "3GB"
"""Of queries while they run; their results come on top."""

Table = Any
"""An Ibis table expression (Ibis brings no types that mypy can check)."""


@dataclass(frozen=True, slots=True)
class SnapshotTables:
    """The tables of `matchloop.snapshot.SCHEMAS`, and when the snapshot was taken."""

    interactions: Table
    sessions: Table
    dislikes: Table
    entities: Table
    features: Table
    taken: datetime

    def until(self, moment: datetime) -> SnapshotTables:
        """Return the record as it stood at `moment`: what came later, outcomes too, is not in it.

        Entities and their features stay as they are: a snapshot holds their latest state alone.
        """
        return replace(
            self,
            interactions=self.interactions.filter(self.interactions.event_time <= moment),
            sessions=self.sessions.filter(self.sessions.serve_time <= moment),
            dislikes=self.dislikes.filter(self.dislikes.event_time <= moment),
            taken=min(moment, self.taken),
        )


def open_tables(snapshot: Snapshot, connection: Any = None) -> SnapshotTables:
    """Open a snapshot's Parquet files.

    Parameters
    ----------
    connection
        An Ibis backend that reads Parquet; DuckDB in memory by default, Spark in a cluster.
    """
    backend = connection if connection is not None else _duckdb()

    def read(name: TableName) -> Table:
        parts = [backend.read_parquet(str(path)) for path in snapshot.paths(name)]
        return parts[0] if len(parts) == 1 else ibis.union(*parts)

    return SnapshotTables(
        interactions=read(TableName.INTERACTIONS),
        sessions=read(TableName.SESSIONS),
        dislikes=read(TableName.DISLIKES),
        entities=read(TableName.ENTITIES),
        features=read(TableName.FEATURES),
        taken=snapshot.manifest.created,
    )


def _duckdb() -> Any:
    """Return DuckDB in memory, which puts on disk what is more than `MEMORY`."""
    scratch = Path(tempfile.gettempdir()) / f"duckdb-{uuid4()}"  # made when needed, and gone afterwards
    backend = ibis.duckdb.connect(threads=THREADS, memory_limit=MEMORY, temp_directory=str(scratch))
    backend.raw_sql("SET enable_progress_bar = false")  # the job shows its own
    return backend


def by_event(column: Any, values: dict[str, float]) -> Any:
    """Return a number by event type; 0 for types the use case does not have."""
    return column.cases(*values.items(), else_=0.0)


def reactions(tables: SnapshotTables, use_case: UseCase, *, by_time: bool = True) -> Table:
    """Return the use case's interactions in order of time, numbered from 0 in column `place`.

    Columns: place, turn and sequence (by which it is ordered), subject_id, item_id, session_id, event_type,
    event_time, source, rank, score, weight, label; rank and score are those of the list it came from, null
    for an organic one.
    Interactions of event types the use case does not have are left out, and those of entities that the
    snapshot does not hold (erased, or never stored). `by_time` false numbers them in an order by chance, the
    same every time, for data whose own test part was drawn by chance.
    """
    found = tables.interactions.filter(
        tables.interactions.use_case == use_case.id,
        tables.interactions.event_type.isin(list(use_case.events)),
    )
    found = of_known(found, tables, use_case)
    turn = found.event_time if by_time else found.interaction_id.hash()
    return found.select(
        "subject_id",
        "item_id",
        "session_id",
        "event_type",
        "event_time",
        "source",
        "rank",
        "score",
        "sequence",
        turn=turn,
        place=ibis.row_number().over(ibis.window(order_by=[turn, found.sequence])),
        weight=by_event(found.event_type, {n: e.weight for n, e in use_case.events.items()}),
        label=by_event(found.event_type, {n: e.label for n, e in use_case.events.items()}),
    )


def of_known(found: Table, tables: SnapshotTables, use_case: UseCase) -> Table:
    """Return the rows whose `subject_id` and `item_id` are entities of the snapshot."""
    for kind, column in ((use_case.subject, "subject_id"), (use_case.item, "item_id")):
        known = tables.entities.filter(tables.entities.kind == kind).select(known_id="id")
        found = found.semi_join(known, found[column] == known.known_id)
    return found


def place_of(ordered: Table, count: int) -> tuple[Any, int] | None:
    """Return turn and sequence of the last of the first `count` of `reactions`; None where there are none."""
    ends = (
        ordered.select("turn", "sequence").order_by(["turn", "sequence"]).limit(1, offset=max(count - 1, 0))
    )
    found = ends.to_pyarrow().to_pylist() if count else []
    return (found[0]["turn"], found[0]["sequence"]) if found else None


def until_place(ordered: Table, last: tuple[Any, int] | None) -> Table:
    """Return `reactions` up to this turn and sequence, itself included; for None nothing.

    As `place` would tell, for which all of them have to be sorted.
    """
    if last is None:
        return ordered.limit(0)
    turn, sequence = last
    return ordered.filter(ordered.turn <= turn, (ordered.turn < turn) | (ordered.sequence <= sequence))
