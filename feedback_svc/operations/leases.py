"""Who gets a lease.

All times are the service's. Clocks of several processes of feedback_svc may differ by what a holder has left
when it prolongs: two thirds of the lease, as `training_jobs.operations` does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from matchloop.leases import Lease


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to who asks for a lease: whether it has it, and the lease as it is now."""

    acquired: bool
    lease: Lease


def ask(held: Lease | None, name: str, holder: str, *, duration: timedelta, now: datetime) -> Grant:
    """Say what becomes of a lease that `holder` asks for.

    One that nobody has, or that has expired, is taken from `now` on. The holder's own is prolonged, never
    shortened, and keeps its `acquire_time`: a holder that sees another one has not held it all the while.
    """
    if held is None or not held.holds(now):
        return Grant(acquired=True, lease=Lease(name, holder, now, now + duration))
    if held.holder != holder:
        return Grant(acquired=False, lease=held)
    expire_time = max(held.expire_time, now + duration)
    return Grant(acquired=True, lease=Lease(name, holder, held.acquire_time, expire_time))
