"""Read a snapshot, having checked that it is whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from matchloop.errors import InvalidInput, NotFound, Violation
from matchloop.snapshot.manifest import MANIFEST_FILE, SnapshotManifest, sha256_of
from matchloop.snapshot.schemas import SCHEMA_VERSION, SCHEMAS, TableName


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot whose files were checked against its manifest."""

    folder: Path
    manifest: SnapshotManifest

    def path(self, name: TableName) -> Path:
        """Return the Parquet file of a table."""
        return self.folder / f"{name}.parquet"

    def table(self, name: TableName) -> pa.Table:
        """Read a whole table, with the columns of `SCHEMAS`."""
        return pq.read_table(self.path(name), schema=SCHEMAS[name])


def read_snapshot(folder: Path) -> Snapshot:
    """Open a snapshot and verify version, presence, checksum and columns of every file.

    Raises
    ------
    NotFound
        When there is no manifest: nothing was exported here, or an export did not finish.
    InvalidInput
        Naming every file that is missing, changed or has other columns.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise NotFound(f"{folder}: no {MANIFEST_FILE}, so no finished snapshot")
    try:
        manifest = SnapshotManifest.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise InvalidInput.of([Violation(MANIFEST_FILE, str(error))]) from error
    problems = [problem for name in TableName for problem in _file_problems(folder, name, manifest)]
    if manifest.schema_version != SCHEMA_VERSION:
        problems.insert(
            0, Violation(MANIFEST_FILE, f"schema version {manifest.schema_version}, not {SCHEMA_VERSION}")
        )
    if problems:
        raise InvalidInput.of(problems)
    return Snapshot(folder, manifest)


def _file_problems(folder: Path, name: TableName, manifest: SnapshotManifest) -> list[Violation]:
    file = f"{name}.parquet"
    entry = manifest.files.get(file)
    if entry is None:
        return [Violation(file, "not in the manifest")]
    path = folder / file
    if not path.is_file():
        return [Violation(file, "missing")]
    found = sha256_of(path)
    if found != entry.sha256:
        return [Violation(file, f"sha256 {found}, not {entry.sha256}")]
    if not pq.read_schema(path).equals(SCHEMAS[name]):
        return [Violation(file, "columns differ from the schema")]
    return []
