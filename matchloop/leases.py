"""Leases: the right to do something alone, for a while."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """A right that one holder has from `acquire_time` until `expire_time`, unless it prolongs it.

    Parameters
    ----------
    name
        What is done alone, e.g. ``retrain/investor_startup``.
    holder
        Unique to the run.
    """

    name: str
    holder: str
    acquire_time: datetime
    expire_time: datetime

    def holds(self, now: datetime) -> bool:
        """Say whether it is in force."""
        return now < self.expire_time
