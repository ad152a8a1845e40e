"""Sessions that come while a call to the store is under way go out together, with the next one.

A store takes a hundred sessions in one transaction for little more than one, so the calls a second that it
answers bound the calls, not the lists.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from matchloop.errors import DeadlinePassed, InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

CALLS = 1
"""Calls under way at a time, but for sessions whose batch was refused."""


class Store(Protocol):
    """What is used of a `SessionStore`."""

    def patience(self) -> float:
        """Return the seconds that the caller may wait."""

    def record(self, encoded: Sequence[bytes], *, seconds: float) -> None:
        """Store all or none."""


@dataclass(slots=True, eq=False)
class _Session:
    """A session and its caller.

    Parameters
    ----------
    until
        When its caller gives up, as `time.monotonic` tells.
    told
        What the caller waits for: the sessions that it shall store itself; none: its own is stored.
    gone
        Its caller has given up.
    """

    encoded: bytes
    until: float
    told: Future[tuple[_Session, ...]] = field(default_factory=Future)
    gone: bool = False


class GroupCommit:
    """Stores sessions, each for a caller that waits for it; safe for many threads.

    There is no thread of its own. A caller that finds the store free calls it with its own session, as if it
    were alone. Who comes meanwhile waits. When the call ends, one of those who wait makes the next one for
    all of them: the one with the most time left, so that nobody fails for another's haste. Nobody waits
    longer than its own time.

    Parameters
    ----------
    store
        Where sessions belong. Storing one twice has to store it once: who gives up does not know whether a
        call under way has stored it.
    most
        Sessions in a call.
    calls
        Calls under way at a time.
    """

    def __init__(self, store: Store, *, most: int, calls: int = CALLS) -> None:
        self._store = store
        self._most = most
        self._calls = calls
        self._lock = threading.Lock()
        self._under_way = 0
        self._waiting: deque[_Session] = deque()

    def record(self, encoded: bytes) -> None:
        """Store a session; it is stored when this returns.

        Raises
        ------
        InvalidInput, NotFound
            If the store will never take this session.
        MatchloopError
            If it can't now, or not in time.
        """
        mine = _Session(encoded, time.monotonic() + self._store.patience())
        with self._lock:
            free = self._under_way < self._calls
            if free:
                self._under_way += 1
            else:
                self._waiting.append(mine)
        batch = (mine,) if free else self._wait(mine)
        if batch:
            self._call(mine, batch)

    def _wait(self, mine: _Session) -> tuple[_Session, ...]:
        """Wait for another's call to store it; returns what the caller shall store itself, else nothing."""
        try:
            return mine.told.result(timeout=max(0.0, mine.until - time.monotonic()))
        except TimeoutError:
            with self._lock:
                if not mine.told.done():
                    mine.gone = True
                    if mine in self._waiting:
                        self._waiting.remove(mine)
                    raise DeadlinePassed("the store did not take the session in time") from None
            return mine.told.result()

    def _call(self, mine: _Session, batch: tuple[_Session, ...]) -> None:
        """Store the batch, which holds `mine`, and tell the others; then let the next call be made."""
        others = [each for each in batch if each is not mine]
        try:
            self._store.record([each.encoded for each in batch], seconds=mine.until - time.monotonic())
        except (InvalidInput, NotFound):
            if not others:
                raise
            self._part(others)
            self._store.record([mine.encoded], seconds=mine.until - time.monotonic())
        except BaseException as error:
            for each in others:
                each.told.set_exception(error)
            raise
        else:
            for each in others:
                each.told.set_result(())
        finally:
            self._pass_on()

    def _part(self, others: Sequence[_Session]) -> None:
        """Let each caller of a refused batch store its own at once: a bad session hurts nobody else."""
        with self._lock:
            for each in others:
                if not each.gone:
                    self._under_way += 1
                    each.told.set_result((each,))

    def _pass_on(self) -> None:
        """End a call, and let one who waits make the next."""
        with self._lock:
            self._under_way -= 1
            if self._waiting and self._under_way < self._calls:
                self._under_way += 1
                size = min(self._most, len(self._waiting))
                batch = tuple([self._waiting.popleft() for _ in range(size)])
                max(batch, key=lambda each: each.until).told.set_result(batch)
