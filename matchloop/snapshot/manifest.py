"""The manifest of a snapshot: what is in it, and how to tell that it is whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from matchloop.snapshot.schemas import SCHEMA_VERSION, TableName

MANIFEST_FILE = "manifest.json"


class FileEntry(BaseModel):
    """One Parquet file.

    Parameters
    ----------
    table
        Whose rows it holds.
    sha256, bytes, rows
        Checksum (hex) and size.
    as_of
        The watermark at which these were the table's rows, or the rows of this range of it.
    first_sequence, last_sequence
        Of its rows, for a table in parts; null without rows. The ranges of two parts never overlap.
    first_time, last_time
        Span of its event or serve times; null for a table without, and without rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: TableName
    sha256: str
    bytes: int
    rows: int
    as_of: int
    first_sequence: int | None = None
    last_sequence: int | None = None
    first_time: AwareDatetime | None = None
    last_time: AwareDatetime | None = None


class SnapshotManifest(BaseModel):
    """What a snapshot holds.

    Parameters
    ----------
    watermark
        The store's highest sequence in it. All that the store holds at or below it is in the snapshot.
    created
        When it was taken, by the store's clock.
    store
        Which database, and which history of it (a restored one has another): sequences of two stores can't
        be compared. Empty for a snapshot that was made without a database.
    counts
        Rows by table.
    first_event_time, last_event_time
        Span of the interactions, session serve times and dislikes; null when there are none.
    files
        By file name; the parts of a table by sequence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    watermark: int
    created: AwareDatetime
    store: str = ""
    counts: dict[TableName, int]
    first_event_time: AwareDatetime | None = None
    last_event_time: AwareDatetime | None = None
    files: dict[str, FileEntry]

    @classmethod
    def of(
        cls, files: Mapping[str, FileEntry], *, watermark: int, created: datetime, store: str = ""
    ) -> Self:
        """Describe files; their order does not matter."""
        order = list(TableName)
        ordered = sorted(
            files.items(), key=lambda file: (order.index(file[1].table), file[1].first_sequence or 0)
        )
        entries = [entry for _, entry in ordered]
        return cls(
            watermark=watermark,
            created=created,
            store=store,
            counts={name: sum(e.rows for e in entries if e.table == name) for name in TableName},
            first_event_time=min((e.first_time for e in entries if e.first_time), default=None),
            last_event_time=max((e.last_time for e in entries if e.last_time), default=None),
            files=dict(ordered),
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``manifest.json``; raises FileNotFoundError and pydantic's ValidationError."""
        return cls.model_validate_json((folder / MANIFEST_FILE).read_bytes())

    def files_of(self, name: TableName) -> dict[str, FileEntry]:
        """Return the files of a table, parts by sequence."""
        return {file: entry for file, entry in self.files.items() if entry.table == name}

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits over the files' content and the watermark: equal content, equal fingerprint.

        The same rows cut into other parts are other content.
        """
        content = {"watermark": self.watermark, "files": sorted(e.sha256 for e in self.files.values())}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` in one step: a reader sees all of it or none."""
        write_whole(folder / MANIFEST_FILE, self.model_dump_json(indent=1))


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step, on disk when this returns: a reader sees the old or the new one."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def sha256_of(path: Path) -> str:
    """Return the hex checksum of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def changed(path: Path, entry: FileEntry) -> str | None:
    """Return what differs between a file and what the manifest says of it; None when nothing does."""
    if not path.is_file():
        return "missing"
    found = sha256_of(path)
    return None if found == entry.sha256 else f"sha256 {found}, not {entry.sha256}"


def overlapping(entries: Iterable[FileEntry]) -> list[tuple[FileEntry, FileEntry]]:
    """Return neighbours, by sequence, whose ranges overlap."""
    ranged = sorted((e for e in entries if e.first_sequence is not None), key=lambda e: e.first_sequence or 0)
    return [
        (one, other)
        for one, other in pairwise(ranged)
        if (one.last_sequence or 0) >= (other.first_sequence or 0)
    ]
