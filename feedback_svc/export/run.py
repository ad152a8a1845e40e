"""One export: what is there already, what has to be read, and the snapshot that comes of it."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from feedback_svc.export.plan import Reading, amended, cut, readings
from feedback_svc.export.progress import PROGRESS_FILE, Found, Progress, found, nothing
from feedback_svc.export.record import SEQUENCES_OF_A_CHANGE, Moment, Record
from matchloop.errors import Conflict, Reason, Unavailable
from matchloop.snapshot import PARTED, FileEntry, FileWriter, SnapshotManifest, TableName, publish

PART_ROWS: dict[TableName, int] = {TableName.INTERACTIONS: 2_000_000, TableName.SESSIONS: 200_000}
"""Rows after which a table goes on in another part."""
LOCK_FILE = "export.lock"

Advance = Callable[[TableName, int], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did.

    Parameters
    ----------
    written
        False when the folder held the record as it is already.
    rows_read
        By table; the others were kept.
    """

    manifest: SnapshotManifest
    written: bool
    rows_read: dict[TableName, int]

    @property
    def watermark(self) -> int:
        """The manifest's."""
        return self.manifest.watermark

    def rows_kept(self, table: TableName) -> int:
        """Return how many rows of a table were not read again."""
        return self.manifest.counts[table] - self.rows_read.get(table, 0)


def export(
    url: str,
    out: Path,
    *,
    now: datetime,
    base: Path | None = None,
    full: bool = False,
    advance: Advance = lambda _table, _rows: None,
    part_rows: dict[TableName, int] | None = None,
) -> Exported:
    """Write a snapshot of the record into `out`, reading only what changed since the newest start there is.

    A start is what an export that was broken off left in `out`, the snapshot in `out`, or that in `base`.
    The snapshot in `out` stays as it is until the new one is whole; its files go then.

    Parameters
    ----------
    url
        SQLAlchemy URL.
    now
        Noted as the time of creation.
    full
        Start from nothing.
    advance
        Told of every block that is read: its table and how many rows it has.
    part_rows
        Instead of `PART_ROWS`.

    Raises
    ------
    Unavailable
        When the database cannot be read, or the folder not be written; the old snapshot is intact.
    Conflict
        When another export writes into the folder.
    NotFound, InvalidInput
        When `base` holds no whole snapshot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _alone_in(out), Record(url) as record:
            moment = record.moment()
            start = nothing(moment.store) if full else found(out, base, moment.store, moment.watermark)
            published = start.published
            if published and published.watermark == moment.watermark and moment.settled and not full:
                return Exported(published, written=False, rows_read={})
            return _Export(record, moment, out, start, advance, part_rows or PART_ROWS).run(now)
    except OSError as error:
        raise Unavailable(
            f"{out} cannot be written ({error}); the snapshot in it, if any, is as it was",
            reason=Reason.STORE_UNAVAILABLE,
        ) from error


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    with (folder / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"another export writes into {folder}") from None
        yield


@dataclass(slots=True)
class _Export:
    record: Record
    moment: Moment
    out: Path
    start: Found
    advance: Advance
    part_rows: dict[TableName, int]
    rows_read: dict[TableName, int] = field(default_factory=dict)
    progress: Progress = field(init=False)

    def run(self, now: datetime) -> Exported:
        """Read what is missing or stale, file by file, and publish."""
        files = {
            file: entry
            for file, entry in self.start.progress.files.items()
            if entry.table not in PARTED or entry.rows
        }
        watermark = self.moment.watermark
        self.progress = self.start.progress.model_copy(update={"files": files, "watermark": watermark})
        for table in PARTED:
            self._parts(table)
        for table in TableName:
            if table not in PARTED:
                self._small(table)
        manifest = SnapshotManifest.of(
            {f: e.model_copy(update={"as_of": watermark}) for f, e in self.progress.files.items()},
            watermark=watermark,
            created=now,
            store=self.moment.store,
        )
        publish(self.out, manifest)
        (self.out / PROGRESS_FILE).unlink(missing_ok=True)
        return Exported(manifest, written=True, rows_read=self.rows_read)

    def _files(self, table: TableName) -> dict[str, FileEntry]:
        """Return a table's files so far, parts by sequence."""
        files = [(f, e) for f, e in self.progress.files.items() if e.table == table]
        return dict(sorted(files, key=lambda file: file[1].first_sequence or 0))

    def _parts(self, table: TableName) -> None:
        files = self._files(table)
        stale = set(self.start.damaged & files.keys())
        if files:
            since = min(entry.as_of for entry in files.values()) >> SEQUENCES_OF_A_CHANGE
            stale |= amended(files, self.record.amendments(table, since), pruned=self.moment.pruned)
        for reading in readings(files, stale, part_rows=self.part_rows[table]):
            self._again(table, reading)
        self._onwards(table)
        if not self._files(table):
            self._finish(FileWriter(self.out, table, as_of=self.moment.watermark))

    def _again(self, table: TableName, reading: Reading) -> None:
        blocks = self.record.range(table, reading.first, reading.last)
        with self._writing(table) as file:
            for block in blocks:
                self._append(table, file, block)
            for replaced in reading.replaces:
                del self.progress.files[replaced]
            if file.rows:
                self._finish(file)
            else:
                file.abandon()
                self.progress.note(self.out)

    def _onwards(self, table: TableName) -> None:
        """Read what is new, in as many parts as it takes."""
        watermark = self.moment.watermark
        blocks = self.record.range(table, self.progress.covered[table] + 1, watermark)
        file: FileWriter | None = None
        try:
            for begins, piece in cut(blocks, self.part_rows[table]):
                if begins and file is not None:
                    self.progress.covered[table] = file.last_sequence or 0
                    self._finish(file)
                    file = None
                file = file or FileWriter(self.out, table, as_of=watermark)
                self._append(table, file, piece)
            self.progress.covered[table] = watermark
            if file is not None:
                self._finish(file)
        except BaseException:
            if file is not None:
                file.abandon()
            raise

    def _small(self, table: TableName) -> None:
        files = self._files(table)
        since = min((entry.as_of for entry in files.values()), default=-1)
        if (
            files
            and not self.start.damaged & files.keys()
            and not self.moment.changed(table, since)
            and (since >> SEQUENCES_OF_A_CHANGE) + 1 >= self.moment.pruned
        ):
            return
        with self._writing(table) as file:
            for block in self.record.whole(table, self.moment.watermark):
                self._append(table, file, block)
            for replaced in files:
                del self.progress.files[replaced]
            self._finish(file)

    @contextmanager
    def _writing(self, table: TableName) -> Iterator[FileWriter]:
        file = FileWriter(self.out, table, as_of=self.moment.watermark)
        try:
            yield file
        except BaseException:
            file.abandon()
            raise

    def _append(self, table: TableName, file: FileWriter, block: pa.Table) -> None:
        file.append(block)
        self.rows_read[table] = self.rows_read.get(table, 0) + block.num_rows
        self.advance(table, block.num_rows)

    def _finish(self, file: FileWriter) -> None:
        name, entry = file.finish()
        self.progress.files[name] = entry
        self.progress.note(self.out)
