"""The scaffold over real gRPC, in one process."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from matchloop.catalog.v1 import catalog_service_pb2 as pb
from matchloop.catalog.v1 import catalog_service_pb2_grpc as pb_grpc
from matchloop.errors import (
    DeadlinePassed,
    InvalidInput,
    MatchloopError,
    NotImplementedYet,
    Overloaded,
    Reason,
    Unavailable,
)
from matchloop.observe import logs
from matchloop.rpc import deadline
from matchloop.rpc.channel import call, open_channel
from matchloop.rpc.server import Server
from matchloop.rpc.settings import ServerSettings
from matchloop.rpc.status import from_rpc_error
from tests.integration.echo_server import NAME, make_echo, service

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Rig:
    """A server, its servicer and a client."""

    def __init__(self, **settings: Any) -> None:
        self.echo = make_echo()
        settings = {"linger_seconds": 0.0, **settings}
        self.server = Server(ServerSettings(**settings), [service(self.echo)]).start()
        self.channel = open_channel(self.server.address)
        self.stub = pb_grpc.CatalogServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def get(self, kind: str, id_: str = "1", **options: Any) -> pb.GetEntityResponse:
        return call(self.stub.GetEntity, request(kind, id_), upstream="echo", **options)

    def status(self, name: str = "") -> int:
        return int(self.health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status)

    def counted(self, code: str, method: str = "GetEntity") -> float:
        return self.server.metrics.value(
            "matchloop_grpc_requests_total", service=NAME, method=method, code=code
        )

    def close(self) -> None:
        self.echo.gate.set()
        self.channel.close()
        self.server.stop()


def request(kind: str, id_: str = "1") -> pb.GetEntityRequest:
    built = pb.GetEntityRequest()
    built.key.kind, built.key.id = kind, id_
    return built


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig(threads=2, max_concurrent=4, grace_seconds=5.0)
    yield made
    made.close()


def test_every_violation_arrives(rig: Rig) -> None:
    with pytest.raises(InvalidInput) as raised:
        rig.get("invalid")
    assert [v.field for v in raised.value.violations] == [f"interactions[{i}].item_id" for i in range(30)]
    assert rig.counted("INVALID_ARGUMENT") == 1.0


def test_a_bug_tells_the_client_nothing(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        rig.stub.GetEntity(request("bug", "SECRET"), timeout=5, metadata=(("x-request-id", "r-7"),))
    failed: Any = raised.value
    assert failed.code() is grpc.StatusCode.INTERNAL
    assert failed.details() == "internal error, request r-7"
    sent = failed.details().encode() + b"".join(
        value if isinstance(value, bytes) else value.encode() for _, value in failed.trailing_metadata()
    )
    assert b"SECRET" not in sent
    assert b"ValueError" not in sent
    out, err = capfd.readouterr()
    assert "ValueError" in out + err
    unexpected = rig.server.metrics.value(
        "matchloop_unexpected_errors_total", service=NAME, method="GetEntity"
    )
    assert (unexpected, rig.counted("INTERNAL")) == (1.0, 1.0)


def test_bytes_that_are_no_message_are_the_clients_fault(rig: Rig) -> None:
    get: Any = rig.channel.unary_unary(f"/{NAME}/GetEntity")
    with pytest.raises(grpc.RpcError) as raised:
        get(b"\xff\xff\xff", timeout=5)
    told = from_rpc_error(raised.value, upstream="echo")
    assert (told.reason, told.violations) == (Reason.INVALID_INPUT, ())
    assert rig.counted("INVALID_ARGUMENT") == 1.0


def test_what_is_not_written_yet_is_unimplemented(rig: Rig) -> None:
    with pytest.raises(NotImplementedYet):
        call(rig.stub.EraseEntity, pb.EraseEntityRequest(), upstream="echo")


def test_a_servicers_own_abort_goes_through(rig: Rig) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        rig.stub.GetEntity(request("abort"), timeout=5)
    failed: Any = raised.value
    assert (failed.code(), failed.details()) == (grpc.StatusCode.DATA_LOSS, "by hand")
    assert rig.counted("DATA_LOSS") == 1.0


def test_over_the_limit_is_refused_at_once_and_health_still_answers(rig: Rig) -> None:
    with ThreadPoolExecutor(4) as clients:
        waiting = [clients.submit(rig.get, "wait") for _ in range(4)]
        for _ in range(2):
            assert rig.echo.entered.acquire(timeout=10)
        poll(lambda: rig.server.in_flight == 4)
        begun = time.monotonic()
        with pytest.raises(Overloaded) as raised:
            rig.get("echo")
        assert time.monotonic() - begun < 0.5
        assert raised.value.reason is Reason.OVERLOADED
        assert rig.status() == SERVING
        assert rig.server.metrics.value("matchloop_grpc_in_flight") == 4.0
        rig.echo.gate.set()
        assert all(one.result(timeout=10).entity.key.kind == "wait" for one in waiting)
    assert rig.counted("RESOURCE_EXHAUSTED") == 1.0
    assert rig.get("echo").entity.key.kind == "echo"


def test_far_over_the_limit_grpc_itself_refuses() -> None:
    """Even if nothing could be answered aside, the number of accepted calls is bounded."""
    rig = Rig(threads=1, max_concurrent=1)
    try:
        with ThreadPoolExecutor(1) as client:
            first = client.submit(rig.get, "wait")
            assert rig.echo.entered.acquire(timeout=10)
            futures = [rig.stub.GetEntity.future(request("echo"), timeout=10) for _ in range(300)]
            failures: list[Any] = [each.exception() for each in futures]
            codes = {each.code() for each in failures}
            assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            rig.echo.gate.set()
            first.result(timeout=10)
        poll(lambda: rig.server.in_flight == 0)
        assert rig.get("echo").entity.key.id == "1"
    finally:
        rig.close()


def test_the_request_id_travels_and_comes_back(rig: Rig) -> None:
    _, sent = rig.stub.GetEntity.with_call(
        request("echo"), timeout=5, metadata=(("x-request-id", "from-client"),)
    )
    assert dict(sent.trailing_metadata())["x-request-id"] == "from-client"
    assert rig.echo.seen["request_id"] == "from-client"
    _, fresh = rig.stub.GetEntity.with_call(request("echo"), timeout=5, metadata=(("x-request-id", "a b"),))
    assert dict(fresh.trailing_metadata())["x-request-id"] == rig.echo.seen["request_id"] != "a b"
    token = logs.request_id.set("outer")
    try:
        rig.get("echo")
    finally:
        logs.request_id.reset(token)
    assert rig.echo.seen["request_id"] == "outer"


def test_the_callers_time_is_the_servers_budget(rig: Rig) -> None:
    with deadline.budget(2.0):
        rig.get("echo", reserve=0.5)
    assert 1.0 < rig.echo.seen["left"] <= 1.6  # gRPC rounds timeouts up on the wire
    rig.stub.GetEntity(request("echo"))
    assert 9.0 < rig.echo.seen["left"] <= 10.0
    with pytest.raises(DeadlinePassed):
        rig.get("wait", most=0.05)


def test_latency_counts_the_wait_for_a_thread() -> None:
    rig = Rig(threads=1)
    try:
        with ThreadPoolExecutor(2) as clients:
            both = [clients.submit(rig.get, "work", "0.05") for _ in range(2)]
            for one in both:
                one.result(timeout=10)
        total = rig.server.metrics.value(
            "matchloop_grpc_request_seconds_sum", service=NAME, method="GetEntity"
        )
        assert total > 0.14
    finally:
        rig.close()


def test_health_is_per_service_and_whole(rig: Rig) -> None:
    assert (rig.status(), rig.status(NAME)) == (SERVING, SERVING)
    rig.server.set_serving(NAME, False)
    assert (rig.status(), rig.status(NAME)) == (NOT_SERVING, NOT_SERVING)
    rig.server.set_serving(NAME, True)
    assert rig.status() == SERVING
    with pytest.raises(KeyError):
        rig.server.set_serving("other", True)


def test_health_can_be_asked_over_http_too() -> None:
    rig = Rig(metrics_port=0, linger_seconds=0.5)

    def asked(path: str) -> int:
        url = f"http://127.0.0.1:{rig.server.metrics_port}/{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert (asked("livez"), asked("readyz"), asked("metrics")) == (200, 200, 200)
    rig.server.set_serving(NAME, False)
    assert (asked("livez"), asked("readyz")) == (200, 503)
    rig.server.set_serving(NAME, True)
    assert asked("readyz") == 200
    with ThreadPoolExecutor(1) as stopper:
        stopped = stopper.submit(rig.close)
        poll(lambda: asked("readyz") == 503)  # it lingers: clients are to notice
        assert asked("livez") == 200
        stopped.result(timeout=20)


def test_reflection_lists_the_services(rig: Rig) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(rig.channel)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    (reply,) = stub.ServerReflectionInfo(iter([ask]), timeout=5)
    names = {each.name for each in reply.list_services_response.service}
    assert {NAME, "grpc.health.v1.Health"} <= names


def test_a_taken_port_is_an_error(rig: Rig) -> None:
    other = Server(ServerSettings(port=rig.server.port), [service(make_echo())])
    with pytest.raises(OSError, match=str(rig.server.port)):
        other.start()
    other.stop()


def test_too_large_a_message_is_refused() -> None:
    rig = Rig(max_message_bytes=2048)
    try:
        with pytest.raises(Overloaded):
            rig.get("echo", "x" * 4096)
    finally:
        rig.close()


def test_stop_drains_flushes_in_order_and_tells_of_failures() -> None:
    rig = Rig(grace_seconds=10.0, metrics_port=0)
    steps: list[str] = []

    def broken() -> None:
        raise OSError("disk")

    rig.server.on_flush("spool", lambda: steps.append("spool"))
    rig.server.on_flush("broken", broken)
    rig.server.on_flush("store", lambda: steps.append("store"))
    with ThreadPoolExecutor(1) as client:
        running = client.submit(rig.get, "wait")
        assert rig.echo.entered.acquire(timeout=10)
        stopper = threading.Thread(target=rig.server.stop)
        stopper.start()
        assert not steps
        rig.echo.gate.set()
        assert running.result(timeout=10).entity.key.kind == "wait"
        stopper.join(10)
    assert steps == ["spool", "store"]
    assert rig.server.stop() == 1
    assert rig.server.metrics.value("matchloop_flush_failures_total", step="broken") == 1.0
    with pytest.raises(Unavailable):
        rig.get("echo")
    rig.close()


def test_idle_streams_neither_take_threads_nor_hold_up_the_end() -> None:
    # Room beside the one thread: a stream counts as a call for the moment in which it sends.
    rig = Rig(threads=1, max_concurrent=3, grace_seconds=60.0)
    ended = threading.Event()

    def ask() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        ended.wait(30)

    try:
        stream = reflection_pb2_grpc.ServerReflectionStub(rig.channel).ServerReflectionInfo(ask())
        assert next(stream).list_services_response.service
        watch = rig.health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        assert rig.get("echo").entity.key.id == "1"
        begun = time.monotonic()
        assert rig.server.stop() == 0
        assert time.monotonic() - begun < 5
        assert next(watch).status == NOT_SERVING
    finally:
        ended.set()
        rig.close()


def test_an_unreachable_service_is_unavailable_and_counted() -> None:
    server = Server(ServerSettings(), [service(make_echo())]).start()
    address = server.address
    server.stop()
    with open_channel(address) as channel:
        stub = pb_grpc.CatalogServiceStub(channel)
        with pytest.raises(Unavailable) as raised:
            call(stub.GetEntity, request("echo"), upstream="catalog", metrics=server.metrics)
    assert address not in str(raised.value)
    labels = {"upstream": "catalog", "reason": "UPSTREAM_UNAVAILABLE"}
    assert server.metrics.value("matchloop_upstream_failures_total", **labels) == 1.0


def test_an_error_is_a_matchloop_error(rig: Rig) -> None:
    with pytest.raises(MatchloopError) as raised:
        rig.get("full")
    assert raised.value.message == "too much"


def poll(condition: Any, seconds: float = 10.0) -> None:
    """Wait until `condition()` holds, at most `seconds`."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        threading.Event().wait(0.005)
