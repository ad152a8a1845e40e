"""Work beside requests that leaves the interpreter, and the cores, to them more often."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SWITCH_SECONDS = 0.0005
"""A thread that computes gives the interpreter up after this long if another waits; usually it is ten times
as long, and a request asks for it a dozen times."""

_lock = threading.Lock()
_usual: list[float] = []
"""The interval outside, once for each block that is entered now."""


@contextmanager
def gentle() -> Iterator[None]:
    """Let other threads of the process wait for this one's Python code a tenth as long as they would.

    The interval is the whole process's: it is put back when the last block is left.
    """
    with _lock:
        _usual.append(_usual[0] if _usual else sys.getswitchinterval())
        sys.setswitchinterval(min(SWITCH_SECONDS, _usual[0]))
    try:
        yield
    finally:
        with _lock:
            outside = _usual.pop()
            if not _usual:
                sys.setswitchinterval(outside)


def give_way(niceness: int) -> None:
    """Let other processes have the cores before this one, which does not take that back.

    Where Linux groups processes by session (autogroup), niceness counts within a group alone: a process that
    leads a session lowers its group too. One that does not would lower those that share its group.
    """
    os.nice(niceness)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # there are no such groups
            Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")
