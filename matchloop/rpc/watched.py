"""Files that are read again when they change: certificates, keys, tokens."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from matchloop.errors import InvalidInput
from matchloop.observe import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")

RETRY_SECONDS = 1.0
"""Between two readings of files that could not be used as they are."""

_log = logs.get_logger()


class Watched(Generic[T]):
    """What some files say; safe to use from several threads.

    Parameters
    ----------
    files
        Looked at with every `current`, which costs a `stat` each. Links are followed, so what Kubernetes does
        with a mounted Secret is a change.
    read
        Reads them; called again after a change. Raises OSError, ValueError or InvalidInput for what cannot be
        used; the message is logged, so it must not hold what a file holds.
    failed
        Called for each change that cannot be used.

    Raises
    ------
    OSError, ValueError, InvalidInput
        What `read` raises, the first time.
    """

    def __init__(
        self, files: Sequence[Path], read: Callable[[], T], *, failed: Callable[[], None] = lambda: None
    ) -> None:
        self._files = tuple(files)
        self._read = read
        self._failed = failed
        self._reading = threading.Lock()
        self._seen = self._states()
        self._value = read()
        self._refused: tuple[object, ...] | None = None
        self._retry_at = 0.0

    def current(self) -> T:
        """Return the newest that could be used: a change that cannot leaves what was there in force."""
        states = self._states()
        if states != self._seen and self._reading.acquire(blocking=False):
            try:
                self._read_again(states)
            finally:
                self._reading.release()
        return self._value

    def _states(self) -> tuple[object, ...]:
        return tuple(map(_state, self._files))

    def _read_again(self, states: tuple[object, ...]) -> None:
        if states == self._refused and time.monotonic() < self._retry_at:
            return
        names = [str(file) for file in self._files]
        try:
            value = self._read()
        except (OSError, ValueError, InvalidInput) as error:
            if states != self._refused:
                _log.error("files_refused", files=names, fault=str(error))
                self._failed()
            self._refused, self._retry_at = states, time.monotonic() + RETRY_SECONDS
            return
        if self._states() == states:  # else one was replaced while they were read: next time
            self._value, self._seen, self._refused = value, states, None
            _log.info("files_read_again", files=names)


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
