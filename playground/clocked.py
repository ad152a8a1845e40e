"""The three services in this process, over real gRPC and a real database, on one clock that can be set."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from candidate_svc.__main__ import build as build_candidate
from candidate_svc.settings import CandidateSettings
from feedback_svc.serving import build_server
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from matchloop.candidate.v1 import candidate_service_pb2 as candidate_pb
from matchloop.errors import Unavailable
from matchloop.rpc.settings import LOOPBACK, ServerSettings
from matchloop.usecase import load_use_cases
from playground.clients import Addresses, Clients
from ranking_svc.__main__ import build as build_ranking
from ranking_svc.settings import RankingSettings

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

POLL_SECONDS = 0.05
"""How often the catalogue's mirror looks."""
CATCH_UP_SECONDS = 30.0
CALL_SECONDS = 20.0


class SettableClock:
    """A clock that stands still until it is moved.

    Parameters
    ----------
    now
        Aware UTC.
    """

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def advance(self, span: timedelta) -> None:
        """Move on by `span`."""
        self.now += span


class ClockedServices:
    """feedback_svc, candidate_svc and ranking_svc on one clock; a context manager.

    Parameters
    ----------
    database_url
        A migrated PostgreSQL database.
    folder
        For caches and the spool.
    clock
        What every decay, age and session time goes by; timeouts go by the machine's.
    """

    def __init__(self, database_url: str, folder: Path, clock: SettableClock) -> None:
        self.clock = clock
        self.use_cases = load_use_cases()
        self._database_url = database_url
        self._folder = folder
        self._stack = ExitStack()
        self.clients: Clients

    def __enter__(self) -> ClockedServices:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        common = {"host": LOOPBACK, "port": 0, "metrics_port": None, "linger_seconds": 0.0}
        database = Database(self._database_url)
        self._stack.callback(database.close)
        settings = ServerSettings.model_validate(common)
        feedback = build_server(settings, PostgresStore(database), self.use_cases, self.clock).start()
        self._stack.callback(feedback.stop)
        candidate = build_candidate(
            CandidateSettings.model_validate(
                common
                | {
                    "feedback_address": feedback.address,
                    "registry_uri": None,
                    "cache_folder": self._folder / "candidate",
                    "poll_seconds": POLL_SECONDS,
                    "lookup_seconds": CALL_SECONDS,
                }
            ),
            clock=self.clock,
        )
        self._stack.callback(candidate.server.stop)
        candidate.start()
        candidate.server.start()
        if not candidate.mirror.wait_ready(CATCH_UP_SECONDS):
            raise Unavailable("candidate_svc has not read the catalogue")
        ranking = build_ranking(
            RankingSettings.model_validate(
                common
                | {
                    "feedback_address": feedback.address,
                    "candidate_address": candidate.server.address,
                    "state_folder": self._folder / "ranking",
                    "candidate_timeout_seconds": CALL_SECONDS,
                    "session_timeout_seconds": CALL_SECONDS,
                }
            ),
            None,
            clock=self.clock,
        ).start()
        self._stack.callback(ranking.stop)
        self.clients = Clients(Addresses(feedback.address, candidate.server.address, ranking.address))
        self._stack.callback(self.clients.close)

    def wait_for_items(self, use_case: str, count: int) -> None:
        """Wait until candidate_svc has `count` items of a use case.

        Raises
        ------
        Unavailable
            If it has not within `CATCH_UP_SECONDS`.
        """
        request = candidate_pb.ListTrendingRequest(use_case=use_case, page_size=count)
        until = time.monotonic() + CATCH_UP_SECONDS
        while True:
            found = self.clients.candidate.ListTrending(request, timeout=CALL_SECONDS, wait_for_ready=True)
            if len(found.candidates) >= count:
                return
            if time.monotonic() > until:
                raise Unavailable(f"candidate_svc has {len(found.candidates)} of {count} items")
            threading.Event().wait(POLL_SECONDS)
