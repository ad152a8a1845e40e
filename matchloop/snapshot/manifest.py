"""The manifest of a snapshot: what is in it, and how to tell that it is whole."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict

from matchloop.snapshot.schemas import SCHEMA_VERSION

MANIFEST_FILE = "manifest.json"


class FileEntry(BaseModel):
    """One Parquet file: its checksum (hex), size in bytes, and rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    bytes: int
    rows: int


class SnapshotManifest(BaseModel):
    """What a snapshot holds.

    Parameters
    ----------
    watermark
        The store's highest sequence in it: two snapshots with one watermark hold the same record.
    created
        When it was taken, by the store's clock.
    files
        By file name.
    first_event_time, last_event_time
        Span of the interactions, session serve times and dislikes; null when there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    watermark: int
    created: AwareDatetime
    files: dict[str, FileEntry]
    first_event_time: AwareDatetime | None = None
    last_event_time: AwareDatetime | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Rows by table."""
        return {name.removesuffix(".parquet"): entry.rows for name, entry in self.files.items()}

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits over the files' content and the watermark: equal content, equal fingerprint."""
        content = {"watermark": self.watermark, "files": {n: f.sha256 for n, f in self.files.items()}}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` in one step: a reader sees all of it or none."""
        path = folder / MANIFEST_FILE
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        unfinished.replace(path)


def sha256_of(path: Path) -> str:
    """Return the hex checksum of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def span(times: list[datetime]) -> tuple[datetime | None, datetime | None]:
    """Return the first and last of `times`; two nulls for none."""
    return (min(times), max(times)) if times else (None, None)
