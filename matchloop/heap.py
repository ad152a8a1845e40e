"""The memory of this process: few heaps, what starting left behind out of sight, what is free given back."""

from __future__ import annotations

import ctypes
import gc
import os

ARENAS = 2
"""Heaps of the C library. It would make one for each thread, up to eight a core, and each keeps what its
busiest moment took; threads that mostly wait for the interpreter's lock need no more."""

_M_ARENA_MAX = -8  # malloc.h


def share_arenas() -> None:
    """Let threads share heaps. Call it first: those there are stay.

    ``MALLOC_ARENA_MAX`` in the environment is left to have its way.
    """
    limit = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's; another C library has one heap
    if limit is not None and "MALLOC_ARENA_MAX" not in os.environ:
        limit(_M_ARENA_MAX, ARENAS)


def settle() -> None:
    """Take all there is out of the garbage collector's sight; call it when everything is loaded.

    A program and its catalogue are millions of objects that stay as long as the process. Looking at them
    again and again takes longer than to answer; and since the collector looks at everything only once a
    quarter as much has been added, garbage waits for it. What goes is freed as ever, but for what then holds
    itself in a circle: once is enough, and a release must hold no circles.
    """
    gc.collect()
    gc.freeze()
    trim()


def trim() -> None:
    """Give memory that is free back to the system; the C library keeps it otherwise."""
    give = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give is not None:
        give(0)
