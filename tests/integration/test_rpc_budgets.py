"""What is down is not asked many times over, and asked again when it is back; what is slow is waited for."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from matchloop.catalog.v1 import catalog_service_pb2_grpc as pb_grpc
from matchloop.rpc.channel import open_channel
from matchloop.rpc.server import Server
from matchloop.rpc.settings import ServerSettings
from tests.integration.echo_server import NAME, Echo, make_echo, service
from tests.integration.test_rpc_server import request

CALLS = 100
FREE = 10
"""Failures that may be repeated: half of the 20 tokens there are."""
TO_EARN_THEM_BACK = 130
"""Good answers after which two failures may be repeated: ten earn one token."""
SLOW_SECONDS = 0.5


@pytest.fixture
def echo() -> Iterator[tuple[Echo, pb_grpc.CatalogServiceStub]]:
    servicer = make_echo()
    with (
        Server(ServerSettings(linger_seconds=0.0), [service(servicer)]) as server,
        open_channel(server.address, idempotent=[f"{NAME}/GetEntity"]) as channel,
    ):
        yield servicer, pb_grpc.CatalogServiceStub(channel)


def failures(stub: pb_grpc.CatalogServiceStub, calls: int) -> int:
    failed = 0
    for _ in range(calls):
        try:
            stub.GetEntity(request("away"), timeout=5)
        except grpc.RpcError:
            failed += 1
    return failed


def test_a_server_that_is_down_gets_few_calls_more_than_there_are(
    echo: tuple[Echo, pb_grpc.CatalogServiceStub],
) -> None:
    servicer, stub = echo
    servicer.away = 1_000_000
    assert failures(stub, CALLS) == CALLS
    assert CALLS < servicer.calls <= CALLS + FREE


def test_single_failures_are_retried_and_the_budget_comes_back(
    echo: tuple[Echo, pb_grpc.CatalogServiceStub],
) -> None:
    servicer, stub = echo
    servicer.away = 2
    assert failures(stub, 1) == 0
    assert servicer.calls == 3
    servicer.away = 1_000_000
    failures(stub, CALLS)
    servicer.away = 1
    assert failures(stub, 1) == 1  # spent
    assert failures(stub, TO_EARN_THEM_BACK) == 0
    servicer.away = 2
    assert failures(stub, 1) == 0


def test_a_server_that_is_slow_to_shake_hands_is_waited_for() -> None:
    with (
        Server(ServerSettings(linger_seconds=0.0), [service(make_echo())]) as server,
        socket.create_server(("127.0.0.1", 0)) as door,
        ThreadPoolExecutor(2) as pool,
        open_channel(f"127.0.0.1:{door.getsockname()[1]}") as channel,
    ):
        let_in = pool.submit(forward, door, server.port)
        answer = pb_grpc.CatalogServiceStub(channel).GetEntity(request("echo"), timeout=10)
        assert answer.entity.key.kind == "echo"
        channel.close()
        let_in.result(10)


def forward(door: socket.socket, port: int) -> None:
    """Let one connection in, a while after it came, and pass on what both sides say."""
    client, _ = door.accept()
    threading.Event().wait(SLOW_SECONDS)
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        while True:
            for ready in select.select([client, server], [], [], 10)[0]:
                sent = ready.recv(65_536)
                if not sent:
                    return
                (server if ready is client else client).sendall(sent)
