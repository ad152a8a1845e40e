"""A circuit breaker: a neighbour that hangs costs a few calls their patience, not every call."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

from matchloop.errors import DeadlinePassed, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from matchloop.observe.metrics import Metrics

T = TypeVar("T")

TIMEOUTS = 5
PAUSE = 0.5
"""Seconds from a call that ran out of time, once the circuit is open, to the next one that is made."""
LEAST_WAIT = 0.05
"""Seconds. A call that was given less and ran out of time says nothing of its neighbour."""


class CircuitBreaker:
    """Guards calls to one neighbour; safe for many threads.

    A neighbour that is down refuses at once. One that hangs makes every call wait for its timeout, and soon
    every thread of this server waits too. After `TIMEOUTS` calls in a row that ran out of time the circuit is
    open: now and then one call is still made, all others fail at once. Any answer closes it, a refusal too.

    Parameters
    ----------
    upstream
        The neighbour's name, for messages and the metric.
    metrics
        `circuit_open`.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, upstream: str, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._upstream = upstream
        self._clock = clock
        self._timeouts = 0
        self._next_probe = 0.0
        self._probing = threading.Lock()
        metrics.circuit_open.labels(upstream).set_function(lambda: float(self.open))

    @property
    def open(self) -> bool:
        """Whether all calls but one now and then fail at once."""
        return self._timeouts >= TIMEOUTS

    def call(self, work: Callable[[], T]) -> T:
        """Make a call.

        Raises
        ------
        Unavailable
            If the circuit is open, and another call is finding out whether that is over, or just did.
        MatchloopError
            What `work` raises.
        """
        if not self.open:
            return self._observed(work)
        if self._clock() < self._next_probe or not self._probing.acquire(blocking=False):
            raise Unavailable(f"{self._upstream} does not answer")
        try:
            return self._observed(work)
        finally:
            self._probing.release()

    def _observed(self, work: Callable[[], T]) -> T:
        began = self._clock()
        try:
            answer = work()
        except DeadlinePassed:
            if self._clock() - began >= LEAST_WAIT:
                self._timeouts += 1  # two threads may count as one: it opens a call later
                self._next_probe = self._clock() + PAUSE
            raise
        except Exception:
            self._timeouts = 0
            raise
        self._timeouts = 0
        return answer
