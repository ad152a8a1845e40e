"""Traces over real gRPC: one trace through a call, nothing of a request in it, no harm without collector."""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from matchloop.catalog.v1 import catalog_service_pb2 as pb
from matchloop.catalog.v1 import catalog_service_pb2_grpc as pb_grpc
from matchloop.errors import InvalidInput
from matchloop.observe import logs, tracing
from matchloop.observe.opentelemetry import CLOSE_SECONDS
from matchloop.rpc import spans
from matchloop.rpc.channel import open_channel
from matchloop.rpc.server import Server
from matchloop.rpc.settings import ServerSettings
from matchloop.rpc.tokens import Scope
from tests.integration.echo_server import make_echo, service
from tests.integration.span_collector import Collector
from tests.secured import Rig, Secrets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GET = "matchloop.catalog.v1.CatalogService/GetEntity"
PARENT = "00-" + "ab" * 16 + "-" + "cd" * 8
SERVER, CLIENT = 2, 3


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with Collector(tmp_path / "spans") as running:
        yield running
    tracing.close()


@pytest.fixture
def log() -> io.StringIO:
    stream = io.StringIO()
    logs.configure_logging(stream=stream)
    return stream


def ask(kind: str, *, headers: tuple[tuple[str, str], ...] = ()) -> str:
    """Ask an echo server on a channel of ours; return the code."""
    with Server(ServerSettings(linger_seconds=0.0), [service(make_echo())]) as server:
        channel = open_channel(server.address)
        request = pb.GetEntityRequest()
        request.key.kind, request.key.id = kind, "SECRET"
        try:
            pb_grpc.CatalogServiceStub(channel).GetEntity(request, timeout=5, metadata=headers)
        except grpc.RpcError as error:
            failed: Any = error
            return str(failed.code().name)
        finally:
            channel.close()
        return "OK"


def test_a_call_is_two_spans_under_what_it_was_made_for(collector: Collector) -> None:
    tracing.begin("echo", endpoint=collector.endpoint)
    with tracing.span("outer"):
        assert ask("plain") == "OK"
        trace = tracing.trace_id() or ""
    assert ask("bug") == "INTERNAL"
    tracing.close()
    outer, made, answered = sorted(collector.of(trace), key=lambda span: -span.seconds)
    assert (outer.name, outer.parent, made.parent, answered.parent) == ("outer", "", outer.id, made.id)
    assert {made.name, answered.name} == {GET}
    assert (made.kind, answered.kind, answered.service) == (CLIENT, SERVER, "echo")
    assert answered.attributes["rpc.response.status_code"] == "OK"
    assert answered.attributes["matchloop.request_id"]
    bugs = [span for span in collector.spans if span.trace != trace]
    assert [(span.failed, span.attributes["rpc.response.status_code"]) for span in bugs] == [
        (True, "INTERNAL")
    ] * 2
    assert {name for span in collector.spans for name in span.attributes} <= tracing.ATTRIBUTES
    assert not any(b"SECRET" in raw or b"ValueError" in raw for raw in collector.raw)


@pytest.mark.parametrize(("share", "flags", "kept"), [(0.0, "01", True), (1.0, "00", False)])
def test_a_call_follows_its_caller(collector: Collector, share: float, flags: str, kept: bool) -> None:
    tracing.begin("echo", endpoint=collector.endpoint, share=share)
    with tracing.span("caller", headers={"traceparent": f"{PARENT}-{flags}"}):
        assert ask("plain") == "OK"
        assert tracing.trace_id() == ("ab" * 16 if kept else None)
    assert ask("plain", headers=(("traceparent", "nonsense"),)) == "OK"  # a trace of its own, or none
    tracing.close()
    assert [span.name for span in collector.of("ab" * 16)] == ([GET, GET, "caller"] if kept else [])


def test_a_secured_call_is_traced_without_its_token(collector: Collector, tmp_path: Path) -> None:
    tracing.begin("echo", endpoint=collector.endpoint)
    secrets = Secrets(tmp_path)
    token = secrets.token("shop", Scope.READ)
    rig = Rig(secrets, tokens_file=secrets.tokens_file, **secrets.tls())
    request = pb.GetEntityRequest()
    request.key.kind, request.key.id = "plain", "SECRET"
    with tracing.span("outer"):
        trace = tracing.trace_id() or ""
        rig.stub(token).GetEntity(request, timeout=5)
    rig.close()
    tracing.close()
    assert [span.name for span in collector.of(trace)].count(GET) == 2
    assert not any(token.encode() in raw or b"shop" in raw for raw in collector.raw)


def test_a_collector_that_is_away_costs_no_call_and_no_shutdown() -> None:
    tracing.begin("echo", endpoint="http://127.0.0.1:1")
    assert all(ask("plain") == "OK" for _ in range(3))
    began = time.monotonic()
    tracing.close()
    assert time.monotonic() - began < CLOSE_SECONDS + 1.0
    assert not tracing.is_on()


def test_off_is_nothing_at_all() -> None:
    tracing.begin("echo", endpoint=None)
    channel = grpc.insecure_channel("127.0.0.1:1")
    assert spans.traced(channel) is channel
    with tracing.span("any") as first, tracing.span("other") as second:
        assert first is second
        assert first.headers() == {}
        assert tracing.trace_id() is None
    channel.close()


def test_an_attribute_that_is_not_in_the_table_is_refused(collector: Collector) -> None:
    tracing.begin("echo", endpoint=collector.endpoint)
    with pytest.raises(KeyError, match="subject_id"), tracing.span("any") as span:
        span.set("subject_id", "s1")


def test_faulty_settings_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATCHLOOP_TRACING_ENDPOINT", "collector:4317")
    monkeypatch.setenv("MATCHLOOP_TRACING_SHARE", "7")
    with pytest.raises(InvalidInput) as refused:
        spans.begin("echo")
    assert [fault.field for fault in refused.value.violations] == [
        "MATCHLOOP_TRACING_ENDPOINT",
        "MATCHLOOP_TRACING_SHARE",
    ]


def test_a_log_line_names_its_trace(collector: Collector, log: io.StringIO) -> None:
    tracing.begin("echo", endpoint=collector.endpoint)
    assert ask("bug", headers=(("x-request-id", "r-1"),)) == "INTERNAL"
    tracing.close()
    (line,) = [each for each in map(json.loads, log.getvalue().splitlines()) if "exception" in each]
    assert line["request_id"] == "r-1"
    assert {span.name for span in collector.of(line["trace_id"])} == {GET}
