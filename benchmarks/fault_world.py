"""The stack that faults are done to: real processes, small releases, a second ranking_svc, their metrics."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.fault_releases import Release, Releases
from matchloop.errors import Unavailable
from matchloop.ranking.v1.ranking_service_pb2 import RecommendRequest
from matchloop.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub
from matchloop.release import MlflowRegistry
from matchloop.rpc.channel import open_channel
from playground.clients import Addresses, Clients
from playground.processes import ServiceProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from matchloop.usecase import UseCase
    from playground.stack import Stack

ENVIRONMENT = {
    "FEEDBACK_METRICS_PORT": "0",
    "CANDIDATE_METRICS_PORT": "0",
    "RANKING_METRICS_PORT": "0",
    "CANDIDATE_RELEASE_WAIT_SECONDS": "1",
    "RANKING_RELEASE_WAIT_SECONDS": "1",
}
"""Of the services: metrics on free ports, which each tells in its log; little patience with the registry."""
RETRIED = ("matchloop.ranking.v1.RankingService",)
PATIENCE = 60.0
PAUSE = 0.05


class BothRankers(Clients):
    """Stubs whose lists come from two ranking_svc in turn, as a client of a headless service gets them."""

    def __init__(self, addresses: Addresses, twin: str) -> None:
        super().__init__(addresses)
        target = f"ipv4:{addresses.ranking},{twin}"
        self._channels["both"] = open_channel(target, idempotent=RETRIED, watch_health=True)
        self.ranking = RankingServiceStub(self._channels["both"])


@dataclass(frozen=True, slots=True)
class World:
    """What a row of the fault table is measured on.

    Parameters
    ----------
    subjects
        Whom lists are asked for.
    twin
        A second ranking_svc beside the stack's.
    """

    stack: Stack
    use_case: UseCase
    subjects: Sequence[str]
    releases: Releases
    twin: ServiceProcess

    @property
    def registry_file(self) -> Path:
        """The registry's SQLite file."""
        return Path(self.stack.registry_uri.removeprefix("sqlite:///"))

    @property
    def feedback(self) -> ServiceProcess:
        """The stack's."""
        return _started(self.stack.feedback)

    @property
    def candidate(self) -> ServiceProcess:
        """The stack's."""
        return _started(self.stack.candidate)

    @property
    def ranking(self) -> ServiceProcess:
        """The stack's."""
        return _started(self.stack.ranking)

    def clients(self) -> Clients:
        """Open stubs that never retry."""
        return self.stack.clients()

    def clients_of_both(self) -> Clients:
        """Open stubs of both ranking_svc."""
        return BothRankers(self.stack.addresses, self.twin.address)

    def until_served(self, release: str) -> None:
        """Wait until both ranking_svc answer a known subject with this release, and nothing is degraded."""
        for connect in (self.clients, self._clients_of_twin):
            with connect() as clients:
                until(lambda clients=clients: self._served(clients) == release, f"release {release}")  # type: ignore[misc]

    def promote(self, release: Release) -> None:
        """Promote it, and wait until it is served."""
        self.releases.promote(release)
        self.until_served(release.value)

    def count(self, service: ServiceProcess, name: str, labels: Mapping[str, str]) -> float:
        """Return the sum of a metric's samples that have these labels; 0 when there are none."""
        with urllib.request.urlopen(f"http://127.0.0.1:{_metrics_port(service)}/metrics", timeout=5) as reply:
            told = reply.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(told)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def _clients_of_twin(self) -> Clients:
        own = self.stack.addresses
        return Clients(Addresses(own.feedback, own.candidate, self.twin.address))

    def _served(self, clients: Clients) -> str | None:
        request = RecommendRequest(
            use_case=self.use_case.id, subject_id=self.subjects[0], count=1, preview=True
        )
        try:
            reply = clients.ranking.Recommend(request, timeout=5.0)
        except grpc.RpcError:
            return None
        return reply.release if reply.items and not reply.degraded else None


@contextmanager
def fault_world(
    stack: Stack, use_case: UseCase, *, subjects: Sequence[str], items: Sequence[str]
) -> Iterator[World]:
    """Add to a running stack what the fault table needs; the sound release is champion."""
    ranking = _started(stack.ranking)
    port = free_port()
    twin = ServiceProcess(
        name=ranking.name,
        port=port,
        environment={
            **ranking.environment,
            "RANKING_PORT": str(port),
            "RANKING_STATE_FOLDER": str(stack.folder / "ranking" / "twin"),
        },
        log=stack.folder / "logs" / f"{ranking.name}-{port}.log",
    )
    twin.start()
    try:
        releases = Releases(
            MlflowRegistry(stack.registry_uri),
            use_case,
            subjects=subjects,
            items=items,
            folder=stack.folder / "fault-releases",
        )
        world = World(stack, use_case, subjects, releases, twin)
        twin.wait_serving()
        world.promote(Release.SOUND)
        yield world
    finally:
        twin.stop()


@contextmanager
def fault_environment() -> Iterator[None]:
    """Start services with `ENVIRONMENT` meanwhile."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def until(look: Callable[[], bool], what: str, *, seconds: float = PATIENCE) -> None:
    """Wait until `look` says yes.

    Raises
    ------
    Unavailable
        After so many seconds.
    """
    give_up = time.monotonic() + seconds
    while not look():
        if time.monotonic() > give_up:
            raise Unavailable(f"{what}: not within {seconds:g} s")
        time.sleep(PAUSE)


def _started(service: ServiceProcess | None) -> ServiceProcess:
    assert service is not None, "the stack is not started"
    return service


def _metrics_port(service: ServiceProcess) -> int:
    """Return what the service told last; several runs write to one log."""
    lines = service.log.read_text(encoding="utf-8", errors="replace").splitlines()
    ready = [json.loads(line) for line in lines if line.startswith("{") and '"ready"' in line]
    return int(ready[-1]["metrics_port"])
