"""How often each client may call: a bound on the rate, with bursts."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CLIENTS = 10_000
"""Clients remembered; of more, those nearest to being allowed everything again are forgotten."""

_ROUNDING = 1e-9


class Pace:
    """Counts calls by client; safe to use from several threads.

    The generic cell rate algorithm (ITU-T I.371): one number a client, the time at which its next call would
    come if it kept the rate exactly; a burst is how far ahead of that it may be.

    Parameters
    ----------
    clock
        Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}

    def take(self, client: str, rate: float, burst: int) -> float:
        """Take a call of a client, or say when.

        Parameters
        ----------
        rate
            Calls per second, over 0.
        burst
            Calls at once, 1 or more.

        Returns
        -------
        float
            0.0: taken. Else the seconds until one will be; the call is not counted.
        """
        apart = 1.0 / rate
        with self._lock:
            now = self._clock()
            due = max(self._due.get(client, now), now)
            wait = due - now - (burst - 1) * apart
            if wait > _ROUNDING:
                return wait
            if client not in self._due and len(self._due) >= MAX_CLIENTS:
                self._forget(now)
            self._due[client] = due + apart
            return 0.0

    def _forget(self, now: float) -> None:
        late = sorted((due, client) for client, due in self._due.items() if due > now)
        self._due = {client: due for due, client in late[-(MAX_CLIENTS // 2) :]}
