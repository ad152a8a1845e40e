"""A collector that takes OTLP over gRPC, as a real one does, and keeps the spans for a test to look at.

``python -m tests.integration.span_collector FILE`` runs it as a process: for tests that start others, which a
process with a running gRPC server should not fork.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc


@dataclass(frozen=True, slots=True)
class CollectedSpan:
    """A span as it arrived; ids are hexadecimal, `parent` is empty for a root."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    failed: bool
    seconds: float
    attributes: dict[str, Any]


class Collected:
    """What came, from the process's file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def raw(self) -> list[bytes]:
        """Every request so far, as it was sent."""
        return [base64.b64decode(line) for line in self._file.read_text().splitlines(keepends=False)]

    @property
    def spans(self) -> list[CollectedSpan]:
        """Every span so far, in the order they arrived."""
        return [
            _collected(span, _attributes(resource.resource.attributes)["service.name"])
            for sent in self.raw
            for resource in pb.ExportTraceServiceRequest.FromString(sent).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def of(self, trace: str) -> list[CollectedSpan]:
        """Return a trace's spans so far, in the order they arrived."""
        return [span for span in self.spans if span.trace == trace]


class Collector(Collected, pb_grpc.TraceServiceServicer):
    """Listens on a free loopback port while the block lasts; a line of its file is a request."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        file.touch()
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(2))
        add: Any = pb_grpc.add_TraceServiceServicer_to_server
        add(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock, self._file.open("ab") as file:
            file.write(base64.b64encode(request.SerializeToString()) + b"\n")
        return pb.ExportTraceServiceResponse()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0.5).wait()


class CollectorProcess(Collected):
    """The same as a process of its own, while the block lasts."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.integration.span_collector", str(self._file)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.endpoint = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)


def _collected(span: Any, service: str) -> CollectedSpan:
    return CollectedSpan(
        service=service,
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        failed=span.status.code == 2,
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        attributes=_attributes(span.attributes),
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


if __name__ == "__main__":
    with Collector(Path(sys.argv[1])) as running:
        sys.stdout.write(running.endpoint + "\n")
        sys.stdout.flush()
        sys.stdin.read()  # until whoever started it is done, or gone
