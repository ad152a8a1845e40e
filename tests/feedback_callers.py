"""Clients that write to feedback_svc for as long as something is done to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from matchloop.errors import MatchloopError, Reason
from tests.e2e.waiting import until
from tests.feedback_rpc_world import World, interaction, item, record, session, show, startup, upsert


@dataclass
class Callers:
    """Two clients that do what clients do, until the block ends; they remember what came of it.

    Parameters
    ----------
    name
        Begins every id they send.
    acknowledged
        Ids that were: an entity ``i<id>``, a session ``x<id>`` with it, and a click ``<id>`` on another item.
    longest
        Seconds of the longest round of three calls.
    """

    world: World
    name: str = ""
    calls: int = 0
    longest: float = 0.0
    acknowledged: list[str] = field(default_factory=list)
    failures: list[MatchloopError] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def reasons(self) -> set[Reason]:
        """Why calls failed."""
        return {error.reason for error in self.failures}

    @contextmanager
    def calling(self) -> Iterator[Callers]:
        """Call: some rounds before the block, and some after it."""
        threads = [threading.Thread(target=self._run, args=(caller,)) for caller in range(2)]
        for thread in threads:
            thread.start()
        try:
            self.until_calls(10)
            yield self
            self.until_calls(10)
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join(30)

    def until_calls(self, number: int) -> None:
        """Wait until so many more rounds are done."""
        wanted = self.calls + number
        until(lambda: self.calls >= wanted, f"{wanted} rounds of calls")

    def _run(self, caller: int) -> None:
        number = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                self._round(f"{self.name}{caller}-{number}")
            except MatchloopError as error:
                self.failures.append(error)
            self.longest = max(self.longest, time.monotonic() - started)
            self.calls += 1
            number += 1

    def _round(self, name: str) -> None:
        call = self.world.call
        call("UpsertEntities", upsert(startup(f"i{name}")))
        call("RecordSessions", show(session(f"x{name}", items=[item("i"), item(f"i{name}")])))
        call("RecordInteractions", record(interaction(name, session_id=f"x{name}")))
        self.acknowledged.append(name)
