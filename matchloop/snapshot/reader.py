"""Read a snapshot, having checked that it is whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from matchloop.errors import InvalidInput, NotFound, Violation
from matchloop.snapshot.manifest import MANIFEST_FILE, FileEntry, SnapshotManifest, changed, overlapping
from matchloop.snapshot.schemas import PARTED, SCHEMA_VERSION, SCHEMAS, TableName


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot whose files were checked against its manifest."""

    folder: Path
    manifest: SnapshotManifest

    def paths(self, name: TableName) -> list[Path]:
        """Return the Parquet files of a table, at least one; parts by sequence."""
        return [self.folder / file for file in self.manifest.files_of(name)]

    def table(self, name: TableName) -> pa.Table:
        """Read a whole table, with the columns of `SCHEMAS`; one in parts by sequence."""
        return pa.concat_tables(pq.read_table(path, schema=SCHEMAS[name]) for path in self.paths(name))


def read_snapshot(folder: Path) -> Snapshot:
    """Open a snapshot and verify version, presence, checksum and columns of every file.

    Raises
    ------
    NotFound
        When there is no manifest: nothing was exported here, or an export did not finish.
    InvalidInput
        Naming every file that is missing, changed or has other columns.
    """
    try:
        manifest = SnapshotManifest.read(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{folder}: no {MANIFEST_FILE}, so no finished snapshot") from None
    except ValidationError as error:
        raise InvalidInput.of([_manifest_problem(folder, error)]) from error
    problems = []
    if manifest.schema_version != SCHEMA_VERSION:
        problems.append(_version_problem(manifest.schema_version))
    for name in TableName:
        files = manifest.files_of(name)
        if not files:
            problems.append(Violation(f"{name}.parquet", "not in the manifest"))
        problems += [p for file, entry in files.items() if (p := _file_problem(folder / file, entry))]
        if name in PARTED and overlapping(files.values()):
            problems.append(Violation(name, "parts overlap"))
    if problems:
        raise InvalidInput.of(problems)
    return Snapshot(folder, manifest)


def _manifest_problem(folder: Path, error: ValidationError) -> Violation:
    """Tell another version as such: its fields differ."""
    try:
        version = json.loads((folder / MANIFEST_FILE).read_bytes())["schema_version"]
    except (ValueError, KeyError, TypeError):
        return Violation(MANIFEST_FILE, str(error))
    return Violation(MANIFEST_FILE, str(error)) if version == SCHEMA_VERSION else _version_problem(version)


def _version_problem(version: object) -> Violation:
    return Violation(MANIFEST_FILE, f"schema version {version}, not {SCHEMA_VERSION}: export it again")


def _file_problem(path: Path, entry: FileEntry) -> Violation | None:
    problem = changed(path, entry)
    if problem is None and not pq.read_schema(path).equals(SCHEMAS[entry.table]):
        problem = "columns differ from the schema"
    return None if problem is None else Violation(path.name, problem)
