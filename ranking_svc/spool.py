"""A bounded queue of byte records on disk: what is appended survives a `kill -9`, and leaves in order.

The folder holds numbered segments, ``00000000000000000001.spool`` and up. A segment is a run of records, a
record is a header (payload length and CRC-32 of the payload, two little-endian uint32) and the payload. Only
the newest segment is written to, and never by a second process run: a tail torn by a crash is followed by
nothing, so reading a segment ends at the first record that is not whole. A segment is removed when its last
record was.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import zlib
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Self

from matchloop.errors import Conflict
from matchloop.observe.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO
    from pathlib import Path
    from typing import BinaryIO

SUFFIX = ".spool"
LOCK_FILE = "lock"
HEADER = struct.Struct("<II")
SEGMENT_BYTES = 8 * 1024 * 1024

_log = get_logger()


@dataclass(frozen=True, slots=True)
class _Record:
    """Where a record's payload lies."""

    segment: int
    offset: int
    length: int


class Spool:
    """The queue; safe for many appending threads and one that takes.

    Parameters
    ----------
    folder
        Its own folder, made if missing; one spool at a time may have it open.
    max_records, max_bytes
        Bounds on what waits; payload bytes. On disk lie at most one segment and the headers more.
    segment_bytes
        A segment that has reached this size is followed by a new one.

    Raises
    ------
    Conflict
        If another spool has the folder open.
    OSError
        If the folder can't be made or read.
    """

    def __init__(
        self, folder: Path, *, max_records: int, max_bytes: int, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._folder = folder
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._owner = (folder / LOCK_FILE).open("ab")
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._owner.close()
            raise Conflict(f"spool {folder}: another process has it open") from error
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._records: deque[_Record] = deque()
        self._bytes = 0
        self._active: FileIO | None = None
        self._active_size = 0
        self._segment = 0
        self._written = 0
        self._synced = 0
        self._recover()

    def __len__(self) -> int:
        """Return how many records wait."""
        return len(self._records)

    def append(self, payload: bytes) -> bool:
        """Store one record at the end; it is on disk when this returns True.

        Threads that append at the same time share one flush of the disk.

        Returns
        -------
        bool
            False when a bound would be passed: nothing was stored.

        Raises
        ------
        OSError
            If the disk fails or is full: the record is not stored.
        """
        with self._lock:
            if len(self._records) >= self._max_records or self._bytes + len(payload) > self._max_bytes:
                return False
            file = self._writable()
            _write(file, HEADER.pack(len(payload), zlib.crc32(payload)) + payload, failed=self._leave_active)
            record = _Record(self._segment, self._active_size + HEADER.size, len(payload))
            self._active_size += HEADER.size + len(payload)
            self._records.append(record)
            self._bytes += len(payload)
            self._written += 1
            ticket, descriptor = self._written, os.dup(file.fileno())
        try:
            self._sync(ticket, descriptor)
        finally:
            os.close(descriptor)
        return True

    def _sync(self, ticket: int, descriptor: int) -> None:
        """Flush the disk unless a flush that began after record `ticket` was written has ended."""
        with self._sync_lock:
            if self._synced >= ticket:
                return
            with self._lock:
                upto = self._written if self._same_file(descriptor) else ticket
            os.fsync(descriptor)
            self._synced = max(self._synced, upto)

    def _same_file(self, descriptor: int) -> bool:
        return self._active is not None and os.path.sameopenfile(self._active.fileno(), descriptor)

    def peek(self, most: int) -> list[bytes]:
        """Return the oldest `most` payloads or fewer, oldest first; they stay.

        A record that can no longer be read ends the answer; standing first, it is dropped and logged.
        """
        with self._lock:
            wanted = list(islice(self._records, most))
        payloads: list[bytes] = []
        for record in wanted:
            payload = self._read(record)
            if payload is not None:
                payloads.append(payload)
            elif payloads:
                break
            else:
                _log.error("spool_record_unreadable", segment=record.segment, offset=record.offset)
                self.remove(1)
        return payloads

    def remove(self, count: int) -> None:
        """Remove the oldest `count` records, which `peek` gave."""
        with self._lock:
            for _ in range(count):
                record = self._records.popleft()
                self._bytes -= record.length
                if not self._records or self._records[0].segment != record.segment:
                    if record.segment == self._segment:
                        self._leave_active()
                    self._path(record.segment).unlink(missing_ok=True)

    def close(self) -> None:
        """Give the folder free; what waits stays on disk."""
        with self._lock:
            self._leave_active()
            self._owner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:020d}{SUFFIX}"

    def _writable(self) -> FileIO:
        if self._active is not None and self._active_size >= self._segment_bytes:
            self._leave_active()
        if self._active is None:
            self._segment += 1
            self._active_size = 0
            self._active = self._path(self._segment).open("xb", buffering=0)
            _sync_folder(self._folder)
        return self._active

    def _leave_active(self) -> None:
        """Flush and close the newest segment; the next record goes to a new one."""
        if self._active is not None:
            active, self._active = self._active, None
            with active:
                os.fsync(active.fileno())

    def _read(self, record: _Record) -> bytes | None:
        try:
            with self._path(record.segment).open("rb") as file:
                file.seek(record.offset - HEADER.size)
                return _whole(file)
        except FileNotFoundError:
            return None

    def _recover(self) -> None:
        """Index what an earlier run left; remove segments that hold nothing whole."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            segment = int(path.stem)
            self._segment = max(self._segment, segment)
            found, end = 0, 0
            for offset, length in _scan(path):
                self._records.append(_Record(segment, offset, length))
                self._bytes += length
                found, end = found + 1, offset + length
            torn = path.stat().st_size - end
            if torn:
                _log.warning("spool_tail_torn", segment=segment, records=found, bytes_left_out=torn)
            if not found:
                path.unlink()


def _write(file: FileIO, content: bytes, *, failed: Callable[[], None]) -> None:
    try:
        written = file.write(content)
    except OSError:
        failed()
        raise
    if written != len(content):
        failed()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)


def _whole(file: BinaryIO) -> bytes | None:
    """Return the payload of the record the file stands at, None if it is not whole."""
    header = file.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    length, checksum = HEADER.unpack(header)
    if length > os.fstat(file.fileno()).st_size - file.tell():
        return None
    payload = file.read(length)
    return payload if len(payload) == length and zlib.crc32(payload) == checksum else None


def _scan(path: Path) -> Iterator[tuple[int, int]]:
    """Yield offset and length of each payload, up to the first record that is not whole."""
    with path.open("rb") as file:
        while (payload := _whole(file)) is not None:
            yield file.tell() - len(payload), len(payload)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
