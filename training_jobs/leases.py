"""A lease in use: prolonged while a block runs, and told to the block when it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from matchloop.errors import Conflict, MatchloopError
from matchloop.leases import Lease
from matchloop.observe import faults
from matchloop.observe.logs import get_logger

PROLONGS = 3
"""Times that a lease is prolonged before it would expire."""

Ask = Callable[[float], tuple[bool, Lease]]
"""Asks for the lease (again) within so many seconds: whether it is ours, and the lease as it is now."""

_log = get_logger()


class LeaseTaken(Conflict):
    """Somebody else does it; `lease` says who, and until when."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(f"lease `{lease.name}` is {_said(lease)}")
        self.lease = lease


class LeaseLost(Conflict):
    """The lease expired while it was in use: somebody else may be doing the same."""


class HeldLease:
    """A lease in use; once `lost` it stays so."""

    def __init__(self, lease: Lease) -> None:
        self.name, self.holder = lease.name, lease.holder
        self._acquire_time = lease.acquire_time
        self._why = ""

    @property
    def lost(self) -> bool:
        """Whether somebody else may be doing the same."""
        return bool(self._why)

    def raise_if_lost(self) -> None:
        """Raise LeaseLost if it is lost: to be called before what must not be done twice."""
        if self._why:
            raise LeaseLost(f"lease `{self.name}` was lost: {self._why}")

    def prolong(
        self, ask: Ask, *, seconds: float, expires: float, most: float, ended: threading.Event
    ) -> None:
        """Prolong until the block ends or the lease is lost.

        Parameters
        ----------
        seconds
            For which the lease is asked each time.
        expires
            When it does if it is not prolonged, by the monotonic clock.
        most
            Seconds that a call may take.
        """
        pause = seconds / PROLONGS
        while not self.lost and not ended.wait(min(pause, max(0.0, expires - time.monotonic()))):
            asked = time.monotonic()
            if asked >= expires:
                self._lose("feedback_svc did not answer until it expired")
                return
            try:
                acquired, lease = ask(min(pause, most, expires - asked))
            except MatchloopError as error:
                _log.warning("lease_not_prolonged", lease=self.name, error=faults.said(error))
                continue
            if not acquired:
                self._lose(_said(lease))
            elif lease.acquire_time != self._acquire_time:
                self._lose("it had expired before it was prolonged")
            expires = asked + seconds

    def _lose(self, why: str) -> None:
        self._why = why
        _log.warning("lease_lost", lease=self.name, holder=self.holder, why=why)


def _said(lease: Lease) -> str:
    return f"held by `{lease.holder}` until {lease.expire_time.isoformat(timespec='seconds')}"
