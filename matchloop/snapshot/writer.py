"""Write a snapshot table by table, in pieces as small as the caller likes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from matchloop.errors import InvalidInput, Violation
from matchloop.snapshot.manifest import MANIFEST_FILE, FileEntry, SnapshotManifest, sha256_of, span
from matchloop.snapshot.reader import Snapshot, read_snapshot
from matchloop.snapshot.schemas import SCHEMAS, TableName

TIME_COLUMNS = {
    TableName.INTERACTIONS: "event_time",
    TableName.SESSIONS: "serve_time",
    TableName.DISLIKES: "event_time",
}


class SnapshotWriter:
    """Writes the Parquet files of one snapshot; the manifest comes last and makes it a snapshot.

    Use it as a context manager: leaving with an exception writes no manifest, so what is there can't be
    taken for a snapshot. An older snapshot's manifest in the folder is removed first.

    Parameters
    ----------
    folder
        Made when missing.
    watermark
        The store's highest sequence in the snapshot, 0 or more.
    created
        Aware; when the snapshot was taken.
    """

    def __init__(self, folder: Path, *, watermark: int, created: datetime) -> None:
        self._folder = folder
        self._watermark = watermark
        self._created = created
        self._files: dict[TableName, pq.ParquetWriter] = {}
        self._rows = dict.fromkeys(TableName, 0)
        self._times: list[datetime] = []

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / MANIFEST_FILE).unlink(missing_ok=True)
        for name, schema in SCHEMAS.items():
            self._files[name] = pq.ParquetWriter(self._path(name), schema, compression="zstd")
        return self

    def append(self, name: TableName, table: pa.Table) -> None:
        """Add rows to a table; columns may stand in any order, and are cast to the schema.

        Raises
        ------
        InvalidInput
            When columns are missing or unknown, a required value is null or a cast loses data.
        """
        self._files[name].write_table(conform(name, table))
        self._rows[name] += table.num_rows
        if name in TIME_COLUMNS and table.num_rows:
            bounds = pc.min_max(table[TIME_COLUMNS[name]]).as_py()
            self._times += [bounds["min"], bounds["max"]]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        if kind is None:
            first, last = span(self._times)
            SnapshotManifest(
                watermark=self._watermark,
                created=self._created,
                files={self._path(name).name: self._entry(name) for name in TableName},
                first_event_time=first,
                last_event_time=last,
            ).write(self._folder)

    def _path(self, name: TableName) -> Path:
        return self._folder / f"{name}.parquet"

    def _entry(self, name: TableName) -> FileEntry:
        path = self._path(name)
        return FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size, rows=self._rows[name])


def conform(name: TableName, table: pa.Table) -> pa.Table:
    """Return `table` with exactly the schema's columns, order and types.

    Raises
    ------
    InvalidInput
        Naming every column that is missing, unknown, null where it may not be, or of a wrong type.
    """
    schema = SCHEMAS[name]
    problems = [
        *(
            Violation(f"{name}.{column}", "missing")
            for column in schema.names
            if column not in table.column_names
        ),
        *(
            Violation(f"{name}.{column}", "unknown")
            for column in table.column_names
            if column not in schema.names
        ),
    ]
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            continue
        column = table[field.name]
        if not field.nullable and column.null_count:
            problems.append(Violation(f"{name}.{field.name}", f"{column.null_count} values are null"))
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            problems.append(Violation(f"{name}.{field.name}", str(error)))
    if problems:
        raise InvalidInput.of(problems)
    return pa.table(columns, schema=schema)


def write_snapshot(
    folder: Path, tables: Mapping[TableName, pa.Table], *, watermark: int, created: datetime
) -> Snapshot:
    """Write a snapshot that is in memory; a table left out is empty.

    Returns
    -------
    Snapshot
        As `read_snapshot` gives it, verified.

    Raises
    ------
    InvalidInput
        When a table does not fit its schema.
    """
    with SnapshotWriter(folder, watermark=watermark, created=created) as writer:
        for name, table in tables.items():
            writer.append(name, table)
    return read_snapshot(folder)
