"""Whether a file may have changed since it was read, without reading it again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")

SETTLED_SECONDS = 1.0
"""A file written less than this ago may be written again without getting a new time: clocks tick."""


class WhileUnchanged(Generic[T]):
    """Keeps what was read of files until one of them changes, comes or goes.

    Parameters
    ----------
    files
        What is looked at: time of the last change, size, inode.
    clock
        Seconds since 1970, the file system's.
    """

    def __init__(self, files: Sequence[Path], *, clock: Callable[[], float] = time.time) -> None:
        self._files = files
        self._clock = clock
        self._kept: tuple[object, T] | None = None

    def read(self, read: Callable[[], T]) -> T:
        """Return what `read` gave the last time, or gives now if a file may have changed since."""
        now, states = self._clock(), [_state(file) for file in self._files]
        kept = self._kept
        if kept is not None and kept[0] == states:
            return kept[1]
        found = read()
        settled = all(now - state[0] / 1e9 > SETTLED_SECONDS for state in states if state is not None)
        self._kept = (states, found) if settled else None
        return found


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
