"""The failure table's rows: what fails, how it is made to, and what clients and operators see of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.fault_kinds import (
    hung,
    killed,
    registry_broken,
    registry_hangs,
    restart,
    slow,
    store_killed,
    store_with_a_bug,
)
from benchmarks.fault_load import STRANGERS, TIMEOUT, Answer, FaultLoad
from benchmarks.fault_releases import Release
from benchmarks.fault_world import World
from matchloop.ranking.v1.ranking_service_pb2 import RecommendRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from playground.processes import ServiceProcess

Fault = Callable[[World, FaultLoad], AbstractContextManager[None]]

FLOOD = 200
"""Calls kept open at a time for an overload: a service accepts 64 unless set otherwise."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A metric that grows while something fails: of which service, with which labels."""

    service: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def read(self, world: World) -> float:
        """Return its value now."""
        return world.count(getattr(world, self.service), self.name, self.labels)


@dataclass(frozen=True, slots=True)
class Row:
    """One way to fail.

    Parameters
    ----------
    fails
        What, in the words of the failure table.
    fault
        Does it, and undoes it.
    seen
        Whether an answer is what the table promises while it lasts.
    counter
        What an operator sees.
    both
        Clients spread their calls over two ranking_svc and retry.
    refusals
        Lists may be refused with RESOURCE_EXHAUSTED; no other failure is ever allowed.
    strangers
        Share of lists for subjects nobody knows.
    long
        Left to the benchmark: the tests do the same another way.
    """

    fails: str
    fault: Fault
    seen: Callable[[Answer], bool]
    counter: Counter | None = None
    both: bool = False
    refusals: bool = False
    strangers: float = STRANGERS
    long: bool = False


def _degraded(*parts: str) -> Callable[[Answer], bool]:
    return lambda answer: answer.degraded.issuperset(parts)


def _degraded_counter(part: str) -> Counter:
    return Counter("ranking", "matchloop_degraded_total", {"part": part})


def _sound(answer: Answer) -> bool:
    return answer.release == Release.SOUND and not answer.degraded


@contextmanager
def _flooded(world: World, load: FaultLoad) -> Iterator[None]:
    """Keep `FLOOD` more calls open than the load does, whatever becomes of them."""
    closed, room = threading.Event(), threading.Semaphore(FLOOD)
    request = RecommendRequest(
        use_case=world.use_case.id, subject_id=world.subjects[0], count=10, preview=True
    )

    def pour() -> None:
        with world.clients() as clients:
            while not closed.is_set():
                room.acquire()
                call = clients.ranking.Recommend.future(request, timeout=10 * TIMEOUT)
                call.add_done_callback(partial(done, time.monotonic()))
            for _ in range(FLOOD):
                room.acquire()

    def done(began: float, call: Any) -> None:
        load.answers.append(Answer(began, time.monotonic(), call.code().name))
        room.release()

    thread = threading.Thread(target=pour)
    thread.start()
    try:
        yield
    finally:
        closed.set()
        thread.join()


@contextmanager
def _champion(world: World, release: Release) -> Iterator[None]:
    world.releases.promote(release)
    try:
        yield
    finally:
        world.promote(Release.SOUND)


@contextmanager
def _no_champion(world: World) -> Iterator[None]:
    world.releases.withdraw()
    try:
        yield
    finally:
        world.promote(Release.SOUND)


@contextmanager
def _restarted(*services: ServiceProcess) -> Iterator[None]:
    for service in services:
        restart(service)
    yield


@contextmanager
def _restarted_without_registry(world: World) -> Iterator[None]:
    with registry_hangs(world.registry_file):
        restart(world.twin)
        yield


@contextmanager
def _stopped_store(world: World) -> Iterator[None]:
    pid = world.stack.postgres.pid
    assert pid is not None
    with hung(pid):
        yield


ROWS = (
    Row(
        "one method",
        lambda world, _: _champion(world, Release.NO_ALS),
        lambda answer: answer.release == Release.NO_ALS and bool(answer.items),
        Counter("candidate", "matchloop_method_skips_total", {"method": "als"}),
    ),
    Row(
        "subject unknown",
        lambda *_: nullcontext(),
        lambda answer: answer.tier == "TIER_COLD" and answer.items > 0,
        Counter("ranking", "matchloop_recommendations_total", {"tier": "cold"}),
        strangers=1.0,
    ),
    Row(
        "no ranker",
        lambda world, _: _no_champion(world),
        lambda answer: not answer.release and not answer.reranked,
        Counter("ranking", "matchloop_unranked_total", {"reason": "no_release"}),
    ),
    Row(
        "ranker fails",
        lambda world, _: _champion(world, Release.FAILING_RANKER),
        _degraded("ranker"),
        _degraded_counter("ranker"),
    ),
    Row(
        "candidate_svc killed",
        lambda world, _: killed(world.candidate),
        _degraded("candidates"),
        _degraded_counter("candidates"),
    ),
    Row(
        "candidate_svc hangs",
        lambda world, _: hung(world.candidate.pid),
        _degraded("candidates"),
        _degraded_counter("candidates"),
    ),
    Row("candidate_svc slow", lambda world, _: slow(world.candidate.pid), _sound),
    Row(
        "feedback_svc killed",
        lambda world, _: killed(world.feedback),
        _degraded("feedback", "session_store"),
        _degraded_counter("session_store"),
    ),
    Row(
        "feedback_svc hangs",
        lambda world, _: hung(world.feedback.pid),
        _degraded("feedback", "session_store"),
        _degraded_counter("session_store"),
    ),
    Row("feedback_svc slow", lambda world, _: slow(world.feedback.pid), _sound),
    Row(
        "PostgreSQL killed",
        lambda world, _: store_killed(world.stack.postgres),
        _degraded("feedback", "session_store"),
        _degraded_counter("session_store"),
    ),
    Row(
        "PostgreSQL hangs",
        lambda world, _: _stopped_store(world),
        _degraded("feedback", "session_store"),
        _degraded_counter("session_store"),
    ),
    Row(
        "registry down",
        lambda world, _: registry_broken(world.registry_file),
        _sound,
        Counter("ranking", "matchloop_release_poll_failures_total"),
    ),
    Row(
        "registry hangs, ranking_svc starts",
        lambda world, _: _restarted_without_registry(world),
        _sound,
        both=True,
    ),
    Row(
        "overload",
        _flooded,
        lambda answer: answer.code == "RESOURCE_EXHAUSTED",
        Counter("ranking", "matchloop_grpc_requests_total", {"code": "RESOURCE_EXHAUSTED"}),
        refusals=True,
    ),
    Row(
        "a bug",
        lambda world, _: store_with_a_bug(world.stack.database_url),
        _degraded("session_store"),
        Counter("feedback", "matchloop_unexpected_errors_total"),
    ),
    Row(
        "SIGTERM of candidate_svc",
        lambda world, _: _restarted(world.candidate),
        _sound,
        long=True,
    ),
    Row(
        "SIGTERM of feedback_svc",
        lambda world, _: _restarted(world.feedback),
        _sound,
        long=True,
    ),
    Row(
        "SIGTERM of ranking_svc, one of two",
        lambda world, _: _restarted(world.twin),
        _sound,
        both=True,
    ),
    Row(
        "ranking_svc killed, one of two",
        lambda world, _: killed(world.twin),
        _sound,
        both=True,
        long=True,
    ),
)
