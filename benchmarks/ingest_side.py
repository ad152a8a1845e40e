"""One database with its feedback_svc, as `benchmarks.ingest` measures it, beside COPY and an empty call."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.reactions import USE_CASE, Market
from feedback_svc.export import export
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from matchloop.feedback.v1 import feedback_service_pb2 as calls
from matchloop.feedback.v1 import feedback_service_pb2_grpc, interaction_pb2
from matchloop.rpc.channel import open_channel
from matchloop.rpc.convert import timestamp
from playground.processes import ServiceProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from feedback_svc.interactions import Interaction

ROUND_BATCHES = 40
ROUND_SINGLES = 200
ROUND_STATES = 150
WARM_UP = 10
"""Calls of each kind before the first round: a connection plans a statement anew five times."""

CALL_SECONDS = 30.0
UPKEEP_SECONDS = 3600.0
"""Longest that VACUUM, or a COPY of all, may take."""

SUBJECTS = {"state_10": 10, "state_10000": 10_000}


@dataclass(slots=True)
class Timings:
    """Seconds by what was timed: one list of calls a round."""

    rounds: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))

    def medians(self, name: str) -> list[float]:
        """Return each round's median, seconds."""
        return [float(np.median(each)) for each in self.rounds[name]]

    def ratio(self, name: str, over: str) -> list[float]:
        """Return each round's median over another's."""
        return [a / b for a, b in zip(self.medians(name), self.medians(over), strict=True)]

    @property
    def batch_rate(self) -> list[float]:
        """Reactions a second of each round: all its batches over all their time."""
        return [500 * len(each) / sum(each) for each in self.rounds["batch"]]

    def figures(self) -> dict[str, Any]:
        """Return medians over the rounds."""
        copy_rate = [500 * ROUND_BATCHES / each for each in self.medians("copy_rows")]
        return {
            "batch_interactions_per_s": round(float(np.median(self.batch_rate))),
            "bare_copy_interactions_per_s": round(float(np.median(copy_rate))),
            "p50_ms": {
                name: round(float(np.median(self.medians(name))) * 1e3, 3)
                for name in (
                    "noop",
                    "single",
                    "copy_one",
                    "batch",
                    *SUBJECTS,
                    *(f"copy_{s}" for s in SUBJECTS),
                )
            },
        }


class Side:
    """A database and the client of its service; `opened` starts and ends both."""

    def __init__(self, url: str, market: Market, channel: grpc.Channel) -> None:
        self.timings = Timings()
        self._url = url
        self._market = market
        self._database = Database(url, pool_size=1, statement_timeout=UPKEEP_SECONDS)
        self._store = PostgresStore(self._database)
        stub = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
        self._record, self._look_up = stub.RecordInteractions, stub.LookupSubjectState
        self._noop = health_pb2_grpc.HealthStub(channel).Check
        self._run("DROP TABLE IF EXISTS bare")
        self._run("CREATE TABLE bare (LIKE interactions)")

    @classmethod
    @contextmanager
    def opened(cls, url: str, market: Market, log: Path) -> Iterator[Side]:
        """Start feedback_svc on a database."""
        port = free_port()
        environment = {"FEEDBACK_DATABASE_URL": url, "FEEDBACK_PORT": str(port)}
        service = ServiceProcess("feedback_svc", port, environment, log)
        service.start()
        try:
            service.wait_serving()
            with open_channel(service.address) as channel:
                side = cls(url, market, channel)
                try:
                    yield side
                finally:
                    side._store.close()
        finally:
            service.stop()

    def clear(self) -> None:
        """Empty the database but for the subjects that are asked about."""
        tables = self._rows(
            "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
            " AND tablename NOT IN ('alembic_version', 'change_clock')"
        )
        self._run(f"TRUNCATE {', '.join(name for (name,) in tables)}")
        self.settle()

    def settle(self) -> None:
        """Have the asked subjects, and the upkeep done that autovacuum would do in its own time."""
        for subject, size in SUBJECTS.items():
            reactions = self._market.of_subject(subject, size, datetime.now(UTC))
            if self._look(subject).state.interaction_count:
                continue
            for start in range(0, size, 500):
                self._send(reactions[start : start + 500])
        for _ in range(WARM_UP):
            self._send(self._market.batch(datetime.now(UTC)).interactions)
            self._send(self._market.batch(datetime.now(UTC), size=20).interactions[:1])
        self._run("VACUUM (ANALYZE)")
        for subject in [*SUBJECTS] * WARM_UP:
            self._look(subject)

    def round(self) -> None:
        """Measure everything but export once."""
        timed: dict[str, list[float]] = defaultdict(list)
        singles = self._market.of_subject("someone", ROUND_SINGLES, datetime.now(UTC))
        for each in singles:
            request = requested([each])
            timed["noop"].append(_seconds(self._noop, health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS))
            timed["single"].append(_seconds(self._record, request, timeout=CALL_SECONDS))
        for _ in range(ROUND_STATES):
            for subject in SUBJECTS:
                timed[subject].append(_seconds(self._look, subject))
        batches = [self._market.batch(datetime.now(UTC)) for _ in range(ROUND_BATCHES)]
        for batch in batches:
            self._store.record_sessions(batch.sessions, now=datetime.now(UTC))
        requests = [requested(batch.interactions) for batch in batches]
        for request in requests:
            timed["batch"].append(_seconds(self._record, request, timeout=CALL_SECONDS))
        self._time_copies(timed)
        for name, seconds in timed.items():
            self.timings.rounds[name].append(seconds)

    def _time_copies(self, timed: dict[str, list[float]]) -> None:
        """COPY the round's rows into a table without indexes, and the subjects' rows out."""
        latest = "SELECT * FROM interactions ORDER BY sequence DESC LIMIT"
        rows = self._copied_out(f"{latest} {500 * ROUND_BATCHES}")
        timed["copy_rows"].append(_seconds(self._copy_in, rows))
        one = self._copied_out(f"{latest} 1")
        timed["copy_one"] += [_seconds(self._copy_in, one) for _ in range(20)]
        self._run("TRUNCATE bare")
        for subject in SUBJECTS:
            own = (
                "SELECT item_id, event_type, event_time, hides FROM interactions"  # noqa: S608 - our own names
                f" WHERE use_case = '{USE_CASE}' AND subject_id = '{subject}'"
            )
            timed[f"copy_{subject}"] += [_seconds(self._copied_out, own) for _ in range(20)]

    def exports(self, repeats: int, step: Callable[[], None]) -> tuple[list[float], list[float]]:
        """Return the seconds of exports into new folders, and of bare COPYs of the interactions out."""
        exported, copied = [], []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory(prefix="ingest-export-") as folder:
                out = Path(folder) / "snapshot"
                exported.append(_seconds(export, self._url, out, now=datetime.now(UTC)))
            copied.append(_seconds(self._copy_to_nowhere, "SELECT * FROM interactions"))
            step()
        return exported, copied

    def count(self) -> int:
        """Return how many reactions are stored."""
        ((rows,),) = self._rows("SELECT count(*) FROM interactions")
        return int(rows)

    def _send(self, interactions: Sequence[Interaction]) -> None:
        self._record(requested(interactions), timeout=CALL_SECONDS)

    def _look(self, subject: str) -> Any:
        request = calls.LookupSubjectStateRequest(use_case=USE_CASE, subject_id=subject)
        return self._look_up(request, timeout=CALL_SECONDS)

    def _run(self, statement: str) -> None:
        self._database.run(lambda connection: connection.exec_driver_sql(statement) and None)

    def _rows(self, statement: str) -> Sequence[Any]:
        return self._database.run(lambda connection: connection.exec_driver_sql(statement).all())

    def _copied_out(self, query: str) -> bytes:
        sink = BytesIO()
        self._copy(f"COPY ({query}) TO STDOUT", sink)
        return sink.getvalue()

    def _copy_in(self, rows: bytes) -> None:
        self._copy("COPY bare FROM STDIN", BytesIO(rows))

    def _copy_to_nowhere(self, query: str) -> None:
        with Path("/dev/null").open("wb") as sink:
            self._copy(f"COPY ({query}) TO STDOUT", sink)

    def _copy(self, statement: str, file: Any) -> None:
        self._database.run(lambda connection: connection.connection.cursor().copy_expert(statement, file))


def requested(interactions: Sequence[Interaction]) -> calls.RecordInteractionsRequest:
    """Return the request that records reactions."""
    return calls.RecordInteractionsRequest(
        interactions=[
            interaction_pb2.Interaction(
                interaction_id=i.interaction_id,
                use_case=i.use_case,
                subject_id=i.subject_id,
                item_id=i.item_id,
                event_type=i.event_type,
                event_time=timestamp(i.event_time),
                session_id=i.session_id,
            )
            for i in interactions
        ]
    )


def _seconds(work: Callable[..., object], *arguments: object, **options: object) -> float:
    begin = time.perf_counter()
    work(*arguments, **options)
    return time.perf_counter() - begin
