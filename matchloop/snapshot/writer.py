"""Write the files of a snapshot, in pieces as small as the caller likes; the manifest makes it one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from matchloop.errors import InvalidInput, Violation
from matchloop.snapshot.manifest import FileEntry, SnapshotManifest, sha256_of
from matchloop.snapshot.reader import Snapshot, read_snapshot
from matchloop.snapshot.schemas import PARTED, SCHEMAS, TableName

TIME_COLUMNS = {
    TableName.INTERACTIONS: "event_time",
    TableName.SESSIONS: "serve_time",
    TableName.DISLIKES: "event_time",
}
SEQUENCE = "sequence"
FEW_VALUES = (
    *("kind", "active", "name", "type", "use_case", "subject_id", "item_id", "event_type", "source", "rank"),
    *("method", "release", "arm", "tier", "reranked", "reason", "used_by_release", "state"),
    *("values.list.element", "item_ids.list.element", "methods.list.element", "feature_names.list.element"),
)
"""Columns whose values repeat: the others are not worth a dictionary."""
GROWING = ("sequence", "event_time", "receive_time", "serve_time", "create_time", "update_time")
"""Columns that grow from row to row, more or less: differences are smaller."""
_OURS = re.compile(rf"({'|'.join(TableName)})(-.*)?\.parquet(\.unfinished)?")


class FileWriter:
    """Writes one Parquet file of a snapshot; its name, with its checksum in it, is known when it is whole.

    So a file never changes under its name, and snapshots of the same folder, or of others by hard links,
    share what they have in common.

    Parameters
    ----------
    folder
        Of the snapshot; it exists.
    as_of
        The watermark at which the rows are read.
    """

    def __init__(self, folder: Path, name: TableName, *, as_of: int) -> None:
        self._folder, self._name, self._as_of = folder, name, as_of
        self._path = folder / f"{name}-{os.getpid()}.parquet.unfinished"
        self._rows = 0
        self._sequences: list[int] = []
        self._times: list[datetime] = []
        self._file = pq.ParquetWriter(self._path, SCHEMAS[name], **_encoding(name))

    @property
    def rows(self) -> int:
        """How many were appended."""
        return self._rows

    @property
    def last_sequence(self) -> int | None:
        """The highest of the rows appended; None without, and for a table that is not in parts."""
        return max(self._sequences, default=None)

    def append(self, table: pa.Table) -> None:
        """Add rows; columns may stand in any order, and are cast to the schema.

        Raises
        ------
        InvalidInput
            When columns are missing or unknown, a required value is null or a cast loses data.
        """
        self._file.write_table(conform(self._name, table))
        self._rows += table.num_rows
        if not table.num_rows:
            return
        if self._name in PARTED:
            self._sequences += pc.min_max(table[SEQUENCE]).as_py().values()
        if self._name in TIME_COLUMNS:
            self._times += pc.min_max(table[TIME_COLUMNS[self._name]]).as_py().values()

    def finish(self) -> tuple[str, FileEntry]:
        """End the file and bring it to disk; return its name and what the manifest says of it."""
        self._file.close()
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
        entry = FileEntry(
            table=self._name,
            sha256=sha256_of(self._path),
            bytes=self._path.stat().st_size,
            rows=self._rows,
            as_of=self._as_of,
            first_sequence=min(self._sequences, default=None),
            last_sequence=max(self._sequences, default=None),
            first_time=min(self._times, default=None),
            last_time=max(self._times, default=None),
        )
        place = f"-{entry.first_sequence or 0:020d}" if self._name in PARTED else ""
        name = f"{self._name}{place}-{entry.sha256[:16]}.parquet"
        self._path.replace(self._folder / name)
        return name, entry

    def abandon(self) -> None:
        """Remove what was written, as far as the disk lets us."""
        with suppress(OSError):  # the disk is full, or gone: it is being told already
            self._file.close()
        self._path.unlink(missing_ok=True)


def _encoding(name: TableName) -> dict[str, Any]:
    schema = SCHEMAS[name]
    leaves = [f"{f.name}.list.element" if pa.types.is_list(f.type) else f.name for f in schema]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [leaf for leaf in leaves if leaf in FEW_VALUES],
        "column_encoding": {leaf: "DELTA_BINARY_PACKED" for leaf in leaves if leaf in GROWING},
    }


def publish(folder: Path, manifest: SnapshotManifest) -> None:
    """Make the files a snapshot: write the manifest in one step, then remove files of snapshots before it."""
    manifest.write(folder)
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path.name not in manifest.files:
            path.unlink(missing_ok=True)


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
    """Write a snapshot that is in memory, a file a table; a table left out is empty.

    Returns
    -------
    Snapshot
        As `read_snapshot` gives it, verified.

    Raises
    ------
    InvalidInput
        When a table does not fit its schema; a snapshot that was in the folder is left as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, FileEntry] = {}
    for name in TableName:
        file = FileWriter(folder, name, as_of=watermark)
        try:
            if name in tables:
                file.append(tables[name])
            written, entry = file.finish()
        except BaseException:
            file.abandon()
            raise
        files[written] = entry
    publish(folder, SnapshotManifest.of(files, watermark=watermark, created=created))
    return read_snapshot(folder)
