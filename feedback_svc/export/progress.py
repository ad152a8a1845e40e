"""What of a snapshot is there already: from an export that did not finish, or from an older snapshot."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from matchloop.snapshot import PARTED, FileEntry, SnapshotManifest, TableName, read_snapshot
from matchloop.snapshot.manifest import changed, write_whole
from matchloop.snapshot.schemas import SCHEMA_VERSION

PROGRESS_FILE = "progress.json"


class Progress(BaseModel):
    """The files of a snapshot in the making, noted after each one that is finished.

    Parameters
    ----------
    schema_version, store
        As in the manifest.
    watermark
        The highest at which any of it was read.
    covered
        By table in parts, the sequence up to which its rows are in the files.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int
    store: str
    watermark: int
    covered: dict[TableName, int]
    files: dict[str, FileEntry]

    def note(self, folder: Path) -> None:
        """Write it down, in one step."""
        write_whole(folder / PROGRESS_FILE, self.model_dump_json())


@dataclass(frozen=True, slots=True)
class Found:
    """What an export can start from.

    Parameters
    ----------
    damaged
        Files of `progress` that are missing or changed: they have to be read again.
    published
        The manifest in the export's own folder, when `progress` is the same and nothing is damaged.
    """

    progress: Progress
    damaged: frozenset[str] = frozenset()
    published: SnapshotManifest | None = None


def nothing(store: str) -> Found:
    """Start from nothing."""
    return Found(
        Progress(
            schema_version=SCHEMA_VERSION,
            store=store,
            watermark=0,
            covered=dict.fromkeys(PARTED, 0),
            files={},
        )
    )


def found(out: Path, base: Path | None, store: str, watermark: int) -> Found:
    """Look for the newest start for a snapshot of `store`; files of `base` are linked, or copied, into `out`.

    Parameters
    ----------
    watermark
        What is newer belongs to another history and is left alone.

    Raises
    ------
    NotFound, InvalidInput
        When `base` holds no snapshot, or one that is damaged.
    """
    if base is not None:
        read_snapshot(base)
    here = _manifest(out)
    starts = [
        (out, unfinished) if (unfinished := _unfinished(out)) else None,
        (out, _begun(here)) if here else None,
        (base, _begun(there)) if base and (there := _manifest(base)) else None,
    ]
    fitting = [s for s in starts if s and s[1].store == store and s[1].watermark <= watermark]
    if not fitting:
        return nothing(store)
    folder, progress = max(fitting, key=lambda start: start[1].watermark)
    damaged = frozenset(file for file, entry in progress.files.items() if changed(folder / file, entry))
    if folder != out:
        for file in progress.files.keys() - damaged:
            link(folder / file, out / file)
    same = here is not None and not damaged and progress.files == here.files
    return Found(progress, damaged, here if same else None)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where that cannot be (another disk)."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        os.link(source, unfinished)
    except OSError:
        shutil.copyfile(source, unfinished)
    unfinished.replace(target)
    unfinished.unlink(missing_ok=True)  # two names of one file: replacing does nothing


def _unfinished(folder: Path) -> Progress | None:
    """Return what an export that did not finish noted; None for none, and for one of another version."""
    try:
        noted = Progress.model_validate_json((folder / PROGRESS_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return noted if noted.schema_version == SCHEMA_VERSION else None


def _manifest(folder: Path) -> SnapshotManifest | None:
    """Return the manifest in a folder; None for none, and for one of another version."""
    try:
        manifest = SnapshotManifest.read(folder)
    except (FileNotFoundError, ValidationError):
        return None
    return manifest if manifest.schema_version == SCHEMA_VERSION else None


def _begun(manifest: SnapshotManifest) -> Progress:
    return Progress(
        schema_version=manifest.schema_version,
        store=manifest.store,
        watermark=manifest.watermark,
        covered=dict.fromkeys(PARTED, manifest.watermark),
        files=manifest.files,
    )
