"""`python -m playground up` as a person runs it: addresses, Ctrl-C, started again, killed, ports in use."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from matchloop.catalog.v1 import catalog_service_pb2 as catalog_pb
from matchloop.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from matchloop.catalog.v1.entity_pb2 import Entity, EntityKey
from tests.e2e.waiting import until

pytestmark = pytest.mark.processes

SERVICES = {"ranking_svc", "feedback_svc", "candidate_svc"}
STOPPED_WITHIN = 20.0
KEPT = EntityKey(kind="startup", id="kept")


class Up:
    """`up` in a process group of its own, as a shell starts it, and what it printed so far."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.out = folder.parent / f"{folder.name}.{time.monotonic_ns()}.out"
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "playground", "up", "--folder", str(folder), *options],
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "COLUMNS": "100"},
            )

    @property
    def said(self) -> str:
        return self.out.read_text()

    def addresses(self) -> dict[str, str]:
        """Return the printed addresses by service, once it is up."""

        def up() -> bool:
            assert self.process.poll() is None, self.said
            return "Ctrl-C stops everything" in self.said

        until(up, "up")
        return dict(re.findall(r"(\w+_svc)\W+(127\.0\.0\.1:\d+)", self.said))

    def family(self) -> list[psutil.Process]:
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def ended(self) -> int:
        """Wait, bounded, and return the exit code."""
        return self.process.wait(STOPPED_WITHIN)


@contextmanager
def up(folder: Path, *options: str) -> Iterator[Up]:
    started = Up(folder, *options)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()


def alive(family: list[psutil.Process]) -> list[str]:
    return [process.name() for process in psutil.wait_procs(family, timeout=5)[1]]


def serving(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def test_it_serves_stops_keeps_and_tells_what_died(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with up(folder, "--free-ports") as early:
        until(lambda: (folder / "postgres" / "PG_VERSION").exists(), "a begun start")
        family = early.family()
        early.process.terminate()
        assert early.ended() == 0, early.said
        assert "stopped before it was up" in early.said
        assert alive(family) == []

    with up(folder, "--free-ports") as first:  # what was begun is completed
        addresses = first.addresses()
        assert set(addresses) == SERVICES
        assert all(serving(address) for address in addresses.values())
        with grpc.insecure_channel(addresses["feedback_svc"]) as channel:
            request = catalog_pb.UpsertEntitiesRequest(entities=[Entity(key=KEPT)])
            assert CatalogServiceStub(channel).UpsertEntities(request, timeout=5).created == 1
        family = first.family()
        assert len(family) >= 5  # services, PostgreSQL, its watchdog
        os.killpg(first.process.pid, signal.SIGINT)  # as a terminal does
        assert first.ended() == 0, first.said
        assert first.said.rstrip().endswith("stopped")
        assert alive(family) == []

    with up(folder, "--free-ports") as second:
        addresses = second.addresses()
        with grpc.insecure_channel(addresses["feedback_svc"]) as channel:
            found = CatalogServiceStub(channel).GetEntity(catalog_pb.GetEntityRequest(key=KEPT), timeout=5)
            assert found.entity.key == KEPT
        with up(folder, "--free-ports") as third:
            assert third.ended() == 2
            (line,) = third.said.strip().splitlines()
            assert "in use by another process" in line
        family = second.family()
        (store,) = [child for child in family if "feedback_svc" in child.cmdline()]
        store.kill()
        assert second.ended() == 1
        assert "feedback_svc ended by itself" in second.said
        assert alive(family) == []


def test_ports_in_use_are_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 7301))
            taken.listen()
        except OSError:
            pass  # somebody else's: as good
        with up(tmp_path / "data") as refused:
            assert refused.ended() == 2
        (line,) = refused.said.strip().splitlines()
        assert "ports in use already: " in line
        assert "7301" in line
        assert not (tmp_path / "data").exists()
