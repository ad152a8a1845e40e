"""Traces over gRPC: a span for every call served and every call made, and how they find each other.

Set by ``MATCHLOOP_TRACING_*``, the same for every process; off unless an endpoint is named.
"""

from __future__ import annotations

import time
from collections import namedtuple
from typing import TYPE_CHECKING, Any

import grpc
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from matchloop.errors import InvalidInput, Violation
from matchloop.observe import logs, tracing
from matchloop.rpc.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    Behaviour = Callable[[Any, Any], Any]

HEADERS = frozenset({"traceparent", "tracestate"})
NANOSECONDS = 1_000_000_000


class TracingSettings(BaseSettings):
    """``MATCHLOOP_TRACING_*``."""

    model_config = SettingsConfigDict(env_prefix="MATCHLOOP_TRACING_", env_ignore_empty=True, frozen=True)

    endpoint: str | None = Field(
        None, pattern=r"^https?://", description="Of a collector that takes OTLP over gRPC; None: no traces."
    )
    share: float = Field(1.0, ge=0.0, le=1.0, description="Of the traces that begin here, how many are kept.")


def begin(service: str) -> None:
    """Trace this process if its environment says so; before channels are opened and servers built.

    Raises
    ------
    InvalidInput
        For faulty settings, and where there is no OpenTelemetry to trace with.
    """
    settings = read_settings(TracingSettings)
    try:
        tracing.begin(service, endpoint=settings.endpoint, share=settings.share)
    except ImportError as error:
        fault = "is set, but OpenTelemetry is not installed: pip install 'matchloop[tracing]'"
        raise InvalidInput.of([Violation("MATCHLOOP_TRACING_ENDPOINT", fault)]) from error


def served(method: str, behaviour: Behaviour, arrived: Callable[[], float]) -> Behaviour:
    """Wrap what answers a method in a span: from arrival to answer, under the caller's if it traces.

    Parameters
    ----------
    method
        ``/package.Service/Method``.
    arrived
        When the call under way arrived, as `time.perf_counter` told.
    """
    service, _, name = method.lstrip("/").partition("/")
    title = f"{service}/{name}"

    def called(request: Any, context: Any) -> Any:
        headers = {key: value for key, value in context.invocation_metadata() or () if key in HEADERS}
        began = time.time_ns() - int((time.perf_counter() - arrived()) * NANOSECONDS)
        with tracing.span(title, kind=tracing.Kind.SERVER, headers=headers, began=began) as span:
            _describe(span, service, name)
            try:
                return behaviour(request, context)
            finally:
                span.set("rpc.response.status_code", (context.code() or grpc.StatusCode.OK).name)
                span.set("matchloop.request_id", logs.request_id.get() or "")

    return called


def traced(channel: grpc.Channel) -> grpc.Channel:
    """Return a channel whose calls are spans and carry their trace on; itself where nothing is traced."""
    return grpc.intercept_channel(channel, _CallSpans()) if tracing.is_on() else channel


class _Details(
    namedtuple("_Details", ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression")),
    grpc.ClientCallDetails,
):
    """A call's details with other metadata: gRPC's own cannot be changed."""


class _CallSpans(grpc.UnaryUnaryClientInterceptor):
    """A span for each call that is made, however often the channel tries it."""

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """See grpc."""
        details = client_call_details
        service, _, name = details.method.lstrip("/").partition("/")
        span = tracing.start(f"{service}/{name}", kind=tracing.Kind.CLIENT)
        _describe(span, service, name)
        call = continuation(
            _Details(
                details.method,
                details.timeout,
                (*(details.metadata or ()), *span.headers().items()),
                details.credentials,
                details.wait_for_ready,
                details.compression,
            ),
            request,
        )
        call.add_done_callback(lambda done: _end(span, done.code()))
        return call


def _describe(span: tracing.Span, service: str, name: str) -> None:
    span.set("rpc.system.name", "grpc")
    span.set("rpc.service", service)
    span.set("rpc.method", name)


def _end(span: tracing.Span, code: grpc.StatusCode) -> None:
    span.set("rpc.response.status_code", code.name)
    if code is not grpc.StatusCode.OK:
        span.fail()
    span.end()
