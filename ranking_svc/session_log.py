"""Sessions are durable before the reply: in the store, or on disk until the store takes them."""

from __future__ import annotations

import random
import threading
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from matchloop.errors import InvalidInput, MatchloopError, NotFound
from matchloop.observe import faults
from matchloop.observe.logs import get_logger
from ranking_svc.group_commit import GroupCommit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matchloop.observe.metrics import Metrics
    from ranking_svc.domain import Session
    from ranking_svc.spool import Spool

BATCH = 100
"""Sessions delivered per call; the contract's bound."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
IDLE_SECONDS = 30.0

_log = get_logger()


class SessionStore(Protocol):
    """Where sessions end up; storing one twice stores it once."""

    def encode(self, session: Session) -> bytes:
        """Return the session as `record` takes it and as it waits on disk."""

    def patience(self) -> float:
        """Return the seconds that a session may wait now for being stored: of the current time budget.

        Raises
        ------
        DeadlinePassed
            If there is too little left to call the store.
        """

    def record(self, encoded: Sequence[bytes], *, seconds: float) -> None:
        """Store 1 to 100 sessions, all or none, within so many seconds.

        Raises
        ------
        InvalidInput, NotFound
            If the store will never take them as they are.
        MatchloopError
            If it can't now.
        """


class Outcome(StrEnum):
    """What became of a session."""

    STORED = "stored"
    SPOOLED = "spooled"
    LOST = "lost"


class SessionLog:
    """Stores sessions, and while the store can't take them keeps them on disk and delivers them later.

    Sessions that come while the store is busy with others go to it together (`GroupCommit`). While anything
    waits on disk, new sessions join the queue without trying the store: they arrive in order, and a store
    that is down costs no request its time. One thread delivers, the oldest first, in batches; after a failure
    it pauses, longer each time.

    Parameters
    ----------
    store
        Where sessions belong.
    spool
        Where they wait; may hold sessions of an earlier run.
    metrics
        `spool_depth`, `spool_dropped`.
    rng
        Spreads the pauses of many pods.
    first_pause, longest_pause
        Seconds; the pause doubles from the one to the other.
    """

    def __init__(
        self,
        store: SessionStore,
        spool: Spool,
        metrics: Metrics,
        *,
        rng: random.Random,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        self._store = store
        self._group = GroupCommit(store, most=BATCH)
        self._spool = spool
        self._metrics = metrics
        self._rng = rng
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        metrics.spool_depth.set_function(lambda: len(spool))

    def store(self, session: Session) -> Outcome:
        """Make a session durable; never raises for a fault of the store or of the disk."""
        encoded = self._store.encode(session)
        if not len(self._spool):
            try:
                self._group.record(encoded)
            except (InvalidInput, NotFound) as error:
                return self._refused(error)
            except MatchloopError as error:
                _log.warning("session_store_failed", reason=error.reason.value, error=faults.said(error))
            else:
                return Outcome.STORED
        return self._keep(encoded)

    def start(self) -> None:
        """Start delivering what waits."""
        self._thread = threading.Thread(target=self._run, name="session-delivery", daemon=True)
        self._thread.start()

    def close(self, timeout: float = 5.0) -> None:
        """Try once more to deliver, stop, close the spool; what is left stays on disk.

        Waits at most `timeout` seconds for the thread.
        """
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
        self._spool.close()

    def deliver(self) -> int:
        """Deliver the oldest batch; returns how many sessions left the queue.

        Raises
        ------
        MatchloopError
            If the store can't take them now: they stay.
        """
        batch = self._spool.peek(BATCH)
        if not batch:
            return 0
        try:
            self._store.record(batch, seconds=self._store.patience())
        except (InvalidInput, NotFound):
            return self._deliver_singly(batch)
        self._spool.remove(len(batch))
        return len(batch)

    def _deliver_singly(self, batch: Sequence[bytes]) -> int:
        """Deliver one by one, so that a session the store will never take does not hold up the others."""
        for encoded in batch:
            try:
                self._store.record([encoded], seconds=self._store.patience())
            except (InvalidInput, NotFound) as error:
                self._refused(error)
            self._spool.remove(1)
        return len(batch)

    def _keep(self, encoded: bytes) -> Outcome:
        try:
            kept = self._spool.append(encoded)
        except OSError as error:
            _log.error("spool_failed", error=faults.said(error))
            kept = False
        if not kept:
            self._metrics.spool_dropped.inc()
            return Outcome.LOST
        self._wake.set()
        return Outcome.SPOOLED

    def _refused(self, error: MatchloopError) -> Outcome:
        self._metrics.spool_dropped.inc()
        _log.error("session_refused", reason=error.reason.value, error=faults.said(error))
        return Outcome.LOST

    def _run(self) -> None:
        pause = self._first_pause
        while not self._closed.is_set():
            if self._try_to_deliver():
                pause = self._first_pause
                if not len(self._spool):
                    self._wake.wait(IDLE_SECONDS)
                    self._wake.clear()
            else:
                self._closed.wait(pause * self._rng.uniform(0.5, 1.0))
                pause = min(pause * 2.0, self._longest_pause)
        self._try_to_deliver()

    def _try_to_deliver(self) -> bool:
        try:
            self.deliver()
        except MatchloopError as error:
            _log.warning("session_delivery_failed", reason=error.reason.value, waiting=len(self._spool))
            return False
        except Exception:  # noqa: BLE001 - the thread must outlive a bug
            _log.exception("session_delivery_failed", waiting=len(self._spool))
            return False
        return True
