"""Deadlines as budgets: what is left of the caller's time, less a reserve, goes on to the next call."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from matchloop.errors import DeadlinePassed

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_DEADLINE = 10.0
"""Seconds a call may take when its caller says nothing."""

RESERVE = 0.005
"""Seconds kept back from an upstream call, to answer with."""

LEAST = 0.002
"""An upstream call that would have less than this many seconds is not made."""

_until: ContextVar[float | None] = ContextVar("matchloop_deadline", default=None)


def begin(seconds: float) -> None:
    """Start the budget of the call served in this context: `seconds` from now."""
    _until.set(time.monotonic() + seconds)


@contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Bound a stretch of work outside a server (jobs, tests), or tighten the budget within one."""
    outer = _until.get()
    own = time.monotonic() + seconds
    token = _until.set(own if outer is None else min(own, outer))
    try:
        yield
    finally:
        _until.reset(token)


def remaining() -> float | None:
    """Return the seconds left, never negative; None when no budget is in force."""
    until = _until.get()
    return None if until is None else max(0.0, until - time.monotonic())


def is_enough(*, reserve: float = RESERVE, least: float = LEAST) -> bool:
    """Say whether the time left allows for another call; so it does when no budget is in force."""
    left = remaining()
    return left is None or left - reserve >= least


def share(part: float, *, most: float = math.inf) -> float:
    """Return a part (0 to 1) of the time left, at most `most` seconds; 0 when no budget is in force."""
    left = remaining()
    return 0.0 if left is None else min(most, part * left)


def upstream_timeout(
    *, most: float = DEFAULT_DEADLINE, reserve: float = RESERVE, least: float = LEAST
) -> float:
    """Return the timeout for a call made on behalf of the current one.

    Parameters
    ----------
    most
        Upper bound, seconds; the answer when no budget is in force.
    reserve
        Seconds of the budget kept back for the caller's own work afterwards.
    least
        Seconds under which the call is not worth making.

    Returns
    -------
    float
        Seconds in [least, most].

    Raises
    ------
    DeadlinePassed
        If less than `least` would be left.
    """
    left = remaining()
    if left is None:
        return most
    timeout = min(most, left - reserve)
    if timeout < least:
        raise DeadlinePassed(f"{left * 1000:.0f} ms left, too little for another call")
    return timeout
