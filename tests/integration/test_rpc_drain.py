"""SIGTERM under load, on real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from matchloop.catalog.v1 import catalog_service_pb2_grpc as pb_grpc
from matchloop.rpc.channel import open_channel
from tests.integration.echo_server import NAME
from tests.integration.test_rpc_server import poll, request

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.processes


class Process:
    """The echo server as a process."""

    def __init__(self, **settings: str) -> None:
        environment = {**os.environ, **{f"ECHO_{name.upper()}": value for name, value in settings.items()}}
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.echo_server"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.popen.stdout is not None
        self.ready = json.loads(self.popen.stdout.readline())
        self.address = str(self.ready["address"])

    def terminate(self, number: int = signal.SIGTERM) -> None:
        self.popen.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        out, err = self.popen.communicate(timeout=30)
        return self.popen.returncode, out, err

    def kill(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for each in started:
        each.kill()


def start(processes: list[Process], **settings: str) -> Process:
    process = Process(**settings)
    processes.append(process)
    return process


class Load:
    """Clients that call without pause until stopped; every failure is kept."""

    def __init__(self, stub: Any, clients: int) -> None:
        self.done = 0
        self.failures: list[str] = []
        self._halt = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._running = [self._pool.submit(self._run, stub) for _ in range(clients)]

    def _run(self, stub: Any) -> None:
        while not self._halt.is_set():
            try:
                stub.GetEntity(request("work", "0.01"), timeout=10)
                self.done += 1
            except grpc.RpcError as error:
                failed: Any = error
                self.failures.append(f"{failed.code()}: {failed.details()}")

    def stop(self) -> None:
        self._halt.set()
        for each in self._running:
            each.result(timeout=20)
        self._pool.shutdown()


@pytest.mark.parametrize(
    ("linger", "options"),
    [
        pytest.param("0.25", {"watch_health": True}, id="health-is-watched"),
        pytest.param("0", {"idempotent": [f"{NAME}/GetEntity"]}, id="calls-are-retried"),
    ],
)
def test_one_of_two_leaves_under_load_without_a_failed_call(
    processes: list[Process], linger: str, options: dict[str, Any]
) -> None:
    leaving, staying = start(processes, linger_seconds=linger), start(processes)
    target = f"ipv4:{leaving.address},{staying.address}"
    with open_channel(target, **options) as channel:
        load = Load(pb_grpc.CatalogServiceStub(channel), clients=8)
        poll(lambda: load.done > 100)
        leaving.terminate()
        code, out, err = leaving.end()
        before = load.done
        poll(lambda: load.done > before + 100)
        load.stop()
    assert load.failures == []
    assert (code, out) == (0, "flushed\n")
    stopped = json.loads(err.splitlines()[-1])
    assert (stopped["event"], stopped["unfinished"]) == ("stopped", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_calls_in_flight_are_finished_and_a_second_signal_changes_nothing(
    processes: list[Process], number: int
) -> None:
    process = start(processes, threads="8", metrics_port="0")
    assert process.ready["metrics_port"] > 0
    with open_channel(process.address) as channel:
        stub = pb_grpc.CatalogServiceStub(channel)
        calls = [stub.GetEntity.future(request("work", "0.6"), timeout=10) for _ in range(16)]
        stub.GetEntity(request("echo"), timeout=10)
        process.terminate(number)
        process.terminate(number)
        assert [each.result(timeout=10).entity.key.kind for each in calls] == ["work"] * 16
        code, out, _ = process.end()
        assert (code, out) == (0, "flushed\n")
        with pytest.raises(grpc.RpcError):
            stub.GetEntity(request("echo"), timeout=5)


def test_a_handler_that_outlives_the_grace_is_abandoned(processes: list[Process]) -> None:
    process = start(processes, grace_seconds="0.2")
    with open_channel(process.address) as channel:
        stub = pb_grpc.CatalogServiceStub(channel)
        stuck = stub.GetEntity.future(request("work", "25"), timeout=20)
        stub.GetEntity(request("echo"), timeout=10)
        begun = time.monotonic()
        process.terminate()
        code, out, err = process.end()
        assert time.monotonic() - begun < 5
        assert stuck.exception() is not None
    assert (code, out) == (1, "flushed\n")
    assert "handlers_abandoned" in err


def test_bad_settings_end_the_process_with_all_problems() -> None:
    environment = {**os.environ, "ECHO_PORT": "x", "ECHO_THREADS": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "tests.integration.echo_server"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert "ECHO_PORT" in ended.stderr
    assert "ECHO_THREADS" in ended.stderr
