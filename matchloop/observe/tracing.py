"""Spans around what a call waits for; off, and then free, unless `begin` was called.

A trace follows one call through every service. Spans say where time went: they are named after methods,
stages and statements, and their attributes come from closed sets (codes, methods, counts). What people and
items are made of is never in one, nor is a message of an error: `Span.set` takes `ATTRIBUTES` alone.
"""

from __future__ import annotations

from contextlib import nullcontext
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

ATTRIBUTES = frozenset(
    {
        "db.system.name",
        "matchloop.hits",
        "matchloop.request_id",
        "matchloop.skipped",
        "rpc.method",
        "rpc.response.status_code",
        "rpc.service",
        "rpc.system.name",
    }
)
"""Every attribute a span can have."""


class Kind(Enum):
    """Which end of a call a span stands for."""

    INSIDE = auto()
    SERVER = auto()
    CLIENT = auto()


class Span(Protocol):
    """A stretch of time in a trace."""

    def set(self, name: str, value: str | int) -> None:
        """Note a value; raises KeyError for a name that is not in `ATTRIBUTES`."""

    def fail(self) -> None:
        """Mark the stretch as failed."""

    def end(self) -> None:
        """End it; for spans of `Tracer.start` alone."""

    def headers(self) -> Mapping[str, str]:
        """Return what makes the other side of a call part of this trace (W3C ``traceparent``)."""


class Tracer(Protocol):
    """What makes spans; `matchloop.observe.opentelemetry` has the real one."""

    def span(
        self, name: str, kind: Kind, headers: Mapping[str, str] | None, began: int | None
    ) -> AbstractContextManager[Span]:
        """Make a block a span, under the current one or under the caller's that `headers` name."""

    def start(self, name: str, kind: Kind) -> Span:
        """Start a span under the current one without making it the current one."""

    def trace_id(self) -> str | None:
        """Return the current trace's id, 32 hexadecimal digits."""

    def close(self) -> None:
        """Send what waits to be sent; bounded."""


class _Nothing:
    """The span of a process that is not traced."""

    def set(self, name: str, value: str | int) -> None:
        pass

    def fail(self) -> None:
        pass

    def end(self) -> None:
        pass

    def headers(self) -> Mapping[str, str]:
        return {}


_NOTHING: Span = _Nothing()
_NO_SPAN = nullcontext(_NOTHING)
_tracer: Tracer | None = None


def begin(service: str, *, endpoint: str | None, share: float = 1.0) -> None:
    """Trace this process; to be called before anything asks `is_on`, so first of all.

    Parameters
    ----------
    service
        Name of the process in its traces.
    endpoint
        Where an OpenTelemetry collector takes OTLP over gRPC, ``http://host:port`` or ``https://host:port``;
        None: nothing is traced, and OpenTelemetry is not imported.
    share
        Of the traces that begin here, how many are kept, 0 to 1. A call of a traced caller follows it.

    Raises
    ------
    ImportError
        If there is an endpoint, but no OpenTelemetry.
    """
    if endpoint is not None:
        from matchloop.observe.opentelemetry import OpenTelemetryTracer

        use(OpenTelemetryTracer.to(endpoint, service=service, share=share))


def use(tracer: Tracer | None) -> None:
    """Trace with `tracer`; None: no more."""
    global _tracer
    _tracer = tracer


def close() -> None:
    """Send what waits to be sent, and stop tracing; bounded, and nothing where nothing is traced."""
    if _tracer is not None:
        _tracer.close()
        use(None)


def is_on() -> bool:
    """Say whether this process is traced."""
    return _tracer is not None


def span(
    name: str,
    *,
    kind: Kind = Kind.INSIDE,
    headers: Mapping[str, str] | None = None,
    began: int | None = None,
) -> AbstractContextManager[Span]:
    """Make a block a span of the current trace, or of a new one.

    An exception that leaves the block marks the span as failed and is told nowhere in it.

    Parameters
    ----------
    name
        Of a closed set: the method, the stage, the statement's name.
    headers
        What came with a call (`Span.headers`): the span goes under the caller's.
    began
        Nanoseconds since 1970; None: now.
    """
    return _NO_SPAN if _tracer is None else _tracer.span(name, kind, headers, began)


def start(name: str, *, kind: Kind = Kind.INSIDE) -> Span:
    """Start a span that is ended by hand, under the current one; it does not become the current one."""
    return _NOTHING if _tracer is None else _tracer.start(name, kind)


def trace_id() -> str | None:
    """Return the current trace's id for a log line; None where there is none, or it is not kept."""
    return None if _tracer is None else _tracer.trace_id()
