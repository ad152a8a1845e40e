"""A lock that any number of readers share, or one writer has alone."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class ReadWriteLock:
    """Readers share it; a writer waits for them to leave, and no new one enters before it had its turn.

    Not reentrant, for neither.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._readers = 0
        self._writing = False
        self._writers_waiting = 0
        self._reading = _Reading(self)

    def start_reading(self) -> None:
        """Wait until no writer holds it or waits for it, then hold it."""
        with self._changed:
            while self._writing or self._writers_waiting:
                self._changed.wait()
            self._readers += 1

    def stop_reading(self) -> None:
        """Let go of what `start_reading` took."""
        with self._changed:
            self._readers -= 1
            if not self._readers and self._writers_waiting:
                self._changed.notify_all()

    def reading(self) -> _Reading:
        """Hold it together with other readers."""
        return self._reading

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold it alone."""
        with self._changed:
            self._writers_waiting += 1
            while self._writing or self._readers:
                self._changed.wait()
            self._writers_waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()


class _Reading:
    """A reader's turn; holds nothing of its own, so that one serves all readers."""

    __slots__ = ("_lock",)

    def __init__(self, lock: ReadWriteLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.start_reading()

    def __exit__(self, *_: object) -> None:
        self._lock.stop_reading()
