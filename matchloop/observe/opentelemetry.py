"""`matchloop.observe.tracing` on OpenTelemetry; imported where tracing is on, and nowhere else."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from matchloop.observe.tracing import ATTRIBUTES, Kind, Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.sdk.trace.export import SpanExporter

EXPORT_SECONDS = 2
"""Longest wait for the collector; what it does not take is dropped."""
CLOSE_SECONDS = 2.0
DELAY_MILLIS = 1000
QUEUE = 4096
"""Spans that wait to be sent; more are dropped, never waited for."""

_KINDS = {
    Kind.INSIDE: trace.SpanKind.INTERNAL,
    Kind.SERVER: trace.SpanKind.SERVER,
    Kind.CLIENT: trace.SpanKind.CLIENT,
}
_FAILED = trace.Status(trace.StatusCode.ERROR)
_W3C = TraceContextTextMapPropagator()


class OpenTelemetryTracer:
    """A tracer of its own, not the process's global one: libraries that trace themselves stay apart.

    Parameters
    ----------
    exporter
        Takes the spans, in batches, from a thread of its own; closed with the tracer.
    service
        ``service.name`` of every span.
    share
        Of the traces that begin here, how many are kept.
    """

    def __init__(self, exporter: SpanExporter, *, service: str, share: float = 1.0) -> None:
        self._exporter = exporter
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)),
            resource=Resource.create({"service.name": service}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=QUEUE, schedule_delay_millis=DELAY_MILLIS)
        )
        self._tracer = self._provider.get_tracer("matchloop")

    @classmethod
    def to(cls, endpoint: str, *, service: str, share: float) -> Self:
        """Return a tracer that sends OTLP over gRPC; ``OTEL_EXPORTER_OTLP_*`` add certificate and headers."""
        return cls(OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS), service=service, share=share)

    @contextmanager
    def span(
        self, name: str, kind: Kind, headers: Mapping[str, str] | None, began: int | None
    ) -> Iterator[Span]:
        """See `Tracer`."""
        parent = _W3C.extract(headers) if headers else None
        started = self._tracer.start_span(name, parent, _KINDS[kind], start_time=began)
        own = _Span(started)
        # Neither records what is raised: its message may say what an entity is made of.
        with trace.use_span(started, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield own
            except Exception:
                own.fail()
                raise

    def start(self, name: str, kind: Kind) -> Span:
        """See `Tracer`."""
        return _Span(self._tracer.start_span(name, kind=_KINDS[kind]))

    def trace_id(self) -> str | None:
        """See `Tracer`."""
        current = trace.get_current_span().get_span_context()
        return trace.format_trace_id(current.trace_id) if current.trace_flags.sampled else None

    def close(self) -> None:
        """See `Tracer`; what a collector that is away has not taken after `CLOSE_SECONDS` is lost."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces-closing", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
        if closing.is_alive():
            self._exporter.shutdown()


class _Span:
    """`Span` over OpenTelemetry's."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, name: str, value: str | int) -> None:
        if name not in ATTRIBUTES:
            raise KeyError(f"{name} is no attribute of a span")
        self._span.set_attribute(name, value)

    def fail(self) -> None:
        self._span.set_status(_FAILED)

    def end(self) -> None:
        self._span.end()

    def headers(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(self._span))
        return carrier
