"""The record at one moment: a single read-only transaction, read as Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import adbc_driver_manager
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from feedback_svc.export.statements import (
    AMENDED,
    AMENDMENTS,
    CHANGES,
    ESTIMATES,
    MOMENT,
    RANGES,
    SESSION,
    SMALL,
    SMALL_SOURCES,
    with_vectors,
)
from matchloop.errors import Reason, Unavailable
from matchloop.snapshot import TableName

SEQUENCES_OF_A_CHANGE = 9
"""Bits: a change's sequences are the change << 9, and up to 511 more."""
SETTLING = ("entities", "tombstones", "matches", AMENDED)
"""What is exported, or shows in what is exported, before all changes below it have ended."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a transaction sees.

    Parameters
    ----------
    store
        The database and its history.
    watermark
        The highest sequence that is settled: whatever is at or below it is in sight.
    settled
        Whether nothing above the watermark shows in what is exported.
    pruned
        Amendments of changes below it are gone.
    latest
        The highest sequence in sight, by source.
    """

    store: str
    watermark: int
    settled: bool
    pruned: int
    latest: dict[str, int]

    def changed(self, table: TableName, since: int) -> bool:
        """Tell whether a table that is read whole may differ from how it was at a watermark."""
        change = since >> SEQUENCES_OF_A_CHANGE
        return any(self.latest[source] >> SEQUENCES_OF_A_CHANGE > change for source in SMALL_SOURCES[table])


class Record:
    """A connection in one REPEATABLE READ transaction: everything it reads is as of its first statement.

    One statement at a time: a table has been read to its end before the next is asked for.

    Parameters
    ----------
    url
        SQLAlchemy or libpq URL of a migrated database.

    Raises
    ------
    Unavailable
        When the database cannot be reached, breaks off, or has another schema; also from every method.
    """

    def __init__(self, url: str) -> None:
        with told():
            self._connection = dbapi.connect(libpq_url(url), autocommit=True)
            self._cursor = self._connection.cursor()
            try:
                for statement in SESSION:
                    self._cursor.execute(statement)
                self._connection.adbc_connection.set_autocommit(False)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the transaction and the connection, in the middle of a table too."""
        self._cursor.close()
        self._connection.close()

    def moment(self) -> Moment:
        """Look where the record stands."""
        (row,) = self._rows(MOMENT)
        horizon = row["horizon"]
        changes = self._rows(CHANGES.format(horizon=horizon))
        latest = {change["source"]: change["latest"] or 0 for change in changes}
        return Moment(
            store=row["store"],
            watermark=max(0, *(change["settled"] or 0 for change in changes)),
            settled=all(
                latest[source] >> SEQUENCES_OF_A_CHANGE < horizon
                for source in latest
                if source.startswith(SETTLING)
            ),
            pruned=row["pruned"],
            latest=latest,
        )

    def estimates(self) -> dict[str, int]:
        """Return about how many rows the tables have, by name."""
        return {row["name"]: row["rows"] or 0 for row in self._rows(ESTIMATES)}

    def amendments(self, table: TableName, after: int) -> pa.Table:
        """Return `sequence` and `change_sequence` of a table's amendments by changes above one."""
        return self._table(AMENDMENTS.format(table=table, after=after))

    def range(self, table: TableName, first: int, last: int) -> Iterator[pa.Table]:
        """Stream a range of a table in parts, by sequence, both ends included, in blocks that fit memory."""
        yield from self._blocks(RANGES[table].format(first=first, last=last))

    def whole(self, table: TableName, watermark: int) -> Iterator[pa.Table]:
        """Stream a table that is not in parts."""
        blocks = self._blocks(SMALL[table].format(watermark=watermark))
        yield from map(with_vectors, blocks) if table is TableName.FEATURES else blocks

    def _blocks(self, statement: str) -> Iterator[pa.Table]:
        with told():
            self._cursor.execute(statement)
            for batch in self._cursor.fetch_record_batch():
                yield pa.Table.from_batches([batch])

    def _table(self, statement: str) -> pa.Table:
        with told():
            self._cursor.execute(statement)
            return self._cursor.fetch_arrow_table()

    def _rows(self, statement: str) -> list[dict[str, Any]]:
        return list(self._table(statement).to_pylist())


def libpq_url(url: str) -> str:
    """Return a SQLAlchemy URL as libpq reads it: without the driver's name."""
    scheme, rest = url.split("://", 1)
    return f"{scheme.partition('+')[0]}://{rest}"


@contextmanager
def told() -> Iterator[None]:
    """Tell the driver's errors in our own terms."""
    try:
        yield
    except adbc_driver_manager.Error as error:
        state = error.sqlstate or ""
        if state in ("42P01", "42703", "42883"):
            message = f"the store has another schema: run python -m feedback_svc.migrate (SQLSTATE {state})"
        else:
            message = f"the store cannot be read: {str(error).strip()}"
        raise Unavailable(message, reason=Reason.STORE_UNAVAILABLE) from error
