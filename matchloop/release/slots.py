"""All slots of a process, started and stopped side by side: a registry that hangs is waited for once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matchloop.release.slot import ReleaseSlot


def start_all(slots: Sequence[ReleaseSlot[Any]], *, wait_seconds: float) -> int:
    """Begin to poll, and wait at most `wait_seconds` for all first polls together.

    What has no release by then starts from its last good copy.

    Returns
    -------
    int
        How many slots the registry has not answered yet.
    """
    for slot in slots:
        slot.begin()
    return settle_all(slots, wait_seconds=wait_seconds)


def settle_all(slots: Sequence[ReleaseSlot[Any]], *, wait_seconds: float) -> int:
    """Do the waiting of `start_all` alone, for slots that have begun."""
    until = time.monotonic() + wait_seconds
    return sum(not slot.settle(max(0.0, until - time.monotonic())) for slot in slots)


def close_all(slots: Sequence[ReleaseSlot[Any]], *, timeout: float) -> None:
    """Stop polling; waits at most `timeout` seconds for all together."""
    for slot in slots:
        slot.close(timeout=0.0)
    until = time.monotonic() + timeout
    for slot in slots:
        slot.close(timeout=max(0.0, until - time.monotonic()))
