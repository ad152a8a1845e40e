"""Clients of `benchmarks.recommend`: a closed loop, where each waits for its answer, and an open one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np

from matchloop.feedback.v1.session_pb2 import Method, Tier
from matchloop.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub
from matchloop.rpc.channel import open_channel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matchloop.ranking.v1.ranking_service_pb2 import RecommendRequest, RecommendResponse

TIMEOUT = 10.0
CONNECTIONS = 4
"""Over which an open loop spreads its requests."""


@dataclass(slots=True)
class Run:
    """What requests took.

    Parameters
    ----------
    waited
        Seconds of each request that was answered.
    seconds
        From the first request's start until the last answer.
    seen
        How many answers by tier and by method that found items; how many were not ranked by a model,
        degraded or without a session; how many requests failed, by code.
    """

    waited: list[float] = field(default_factory=list)
    seconds: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """How many were answered."""
        return len(self.waited)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.waited) / self.seconds

    def ms(self, quantile: float) -> float:
        """Return a quantile of the waiting, milliseconds."""
        return float(np.quantile(self.waited, quantile)) * 1e3

    def add(self, other: Run) -> Self:
        """Take in what another run saw, one after the other."""
        self.waited += other.waited
        self.seconds += other.seconds
        self.seen += other.seen
        return self

    def note(self, reply: RecommendResponse) -> None:
        """Count what an answer says of itself."""
        self.seen[Tier.Name(reply.tier).removeprefix("TIER_").lower()] += 1
        for method in {item.method for item in reply.items}:
            self.seen[Method.Name(method).removeprefix("METHOD_").lower()] += 1
        self.seen["unranked"] += not reply.reranked
        self.seen["degraded"] += bool(reply.degraded)
        self.seen["no_session"] += not reply.session_id


class Load:
    """Asks a server for lists, its requests one after the other and again from the first.

    Parameters
    ----------
    address
        Of the server, or a gRPC target of several.
    requests
        What is asked for.
    """

    def __init__(self, address: str, requests: Sequence[RecommendRequest]) -> None:
        self._address, self._requests = address, requests
        self._next = count()  # its next() is one step: threads may share it

    def closed(self, clients: int, *, seconds: float | None = None, requests: int | None = None) -> Run:
        """Let `clients`, each with a connection of its own, ask again as soon as they are answered.

        Parameters
        ----------
        seconds, requests
            After which they end, whichever is given.
        """
        until = time.perf_counter() + seconds if seconds is not None else float("inf")
        left = iter(range(requests)) if requests is not None else count()

        def client(ask: Callable[..., Any]) -> Run:
            run = Run()
            while time.perf_counter() < until and next(left, None) is not None:
                begin = time.perf_counter()
                try:
                    reply = ask(self._request(), timeout=TIMEOUT)
                except grpc.RpcError as error:
                    run.seen[error.code().name] += 1
                    continue
                run.waited.append(time.perf_counter() - begin)
                run.note(reply)
            return run

        with ExitStack() as stack:
            stubs = [self._stub(stack) for _ in range(clients)]
            pool = stack.enter_context(ThreadPoolExecutor(clients))
            begin = time.perf_counter()
            whole = Run()
            for run in pool.map(client, [stub.Recommend for stub in stubs]):
                whole.add(run)
            whole.seconds = time.perf_counter() - begin
        return whole

    def open(self, rate: float, seconds: float) -> Run:
        """Send a request every ``1 / rate`` seconds, whatever became of those before.

        A request's waiting counts from when it should have been sent, so that a client that is held up does
        not hide what its requests would have waited.
        """
        run, lock, number = Run(), threading.Lock(), round(rate * seconds)
        done = threading.Semaphore(0)

        def answered(future: Any, due: float) -> None:
            now = time.perf_counter()
            with lock:
                if future.exception() is None:
                    run.waited.append(now - due)
                    run.note(future.result())
                else:
                    run.seen[future.code().name] += 1
            done.release()

        with ExitStack() as stack:
            stubs = [self._stub(stack) for _ in range(CONNECTIONS)]
            begin = time.perf_counter()
            for at in range(number):
                due = begin + at / rate
                time.sleep(max(0.0, due - time.perf_counter()))
                future = stubs[at % CONNECTIONS].Recommend.future(self._request(), timeout=TIMEOUT)
                future.add_done_callback(lambda future, due=due: answered(future, due))
            for _ in range(number):
                done.acquire()
            run.seconds = time.perf_counter() - begin
        return run

    def _request(self) -> RecommendRequest:
        return self._requests[next(self._next) % len(self._requests)]

    def _stub(self, stack: ExitStack) -> Any:
        return RankingServiceStub(stack.enter_context(open_channel(self._address, own_connection=True)))
