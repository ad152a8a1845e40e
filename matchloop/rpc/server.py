"""The server that every service starts: one composition of pool, limits, health, reflection, drain."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from matchloop import heap
from matchloop.observe import logs
from matchloop.observe.exporter import Exporter
from matchloop.observe.metrics import Metrics
from matchloop.rpc.interceptors import CallInterceptor, CountingPool
from matchloop.rpc.security import build_guard, watch_tls
from matchloop.rpc.tls import server_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from matchloop.rpc.settings import ServerSettings

REFUSALS_AT_A_TIME = 64
"""Calls over the limit that are answered with details; over these, gRPC itself refuses without."""

CONNECTION_GRACE_SECONDS = 60
"""Time for the calls of a connection that is as old as it may get."""

ALIVE = "alive"
"""The health service that is SERVING as long as the server answers, ready or not: for liveness probes."""

DRAIN_POLL_SECONDS = 0.02
LAST_BYTES_SECONDS = 0.25
"""Time for the last replies to leave before what is still open is cut."""

_log = logs.get_logger()


@dataclass(frozen=True, slots=True)
class Service:
    """A gRPC service to be served.

    Parameters
    ----------
    name
        Full name, e.g. ``matchloop.feedback.v1.FeedbackService``.
    add
        The generated ``add_FeedbackServiceServicer_to_server``.
    servicer
        What answers.
    """

    name: str
    add: Callable[[Any, Any], None]
    servicer: object


class Server:
    """A gRPC server with everything a deployable owes its operators.

    Over `settings.max_concurrent` calls at a time it answers RESOURCE_EXHAUSTED at once; health checks are
    answered even then. `stop` (which `run` does on SIGTERM and SIGINT): health to NOT_SERVING, a wait of
    `settings.linger_seconds`, no new calls, up to `settings.grace_seconds` for those in flight, the flush
    steps in the order they were registered, the exporter down.

    Parameters
    ----------
    settings
        Where to listen and how much to accept.
    services
        What to serve; health and reflection are added.
    metrics
        A new `Metrics` when None.
    serving
        Whether health says SERVING from the start; else `set_serving` says when.

    Raises
    ------
    InvalidInput
        If a certificate, a key or the tokens cannot be used.
    """

    def __init__(
        self,
        settings: ServerSettings,
        services: Sequence[Service],
        *,
        metrics: Metrics | None = None,
        serving: bool = True,
    ) -> None:
        self.settings = settings
        self.metrics = metrics if metrics is not None else Metrics()
        self._names = tuple(service.name for service in services)
        self._tls = watch_tls(settings, self.metrics)
        self._guard = build_guard(settings, self._names, self.metrics)
        self._ready = dict.fromkeys(self._names, serving)
        self._flushes: list[tuple[str, Callable[[], None]]] = []
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._stop_writer.setblocking(False)  # noqa: FBT003
        self._stop_lock = threading.Lock()
        self._exit_code: int | None = None
        self._stopping = False
        self._exporter: Exporter | None = None
        self._port: int | None = None
        self._pool = CountingPool(settings.threads, "rpc")
        self._aside = ThreadPoolExecutor(2, thread_name_prefix="rpc-aside")
        self._streams = ThreadPoolExecutor(4, thread_name_prefix="rpc-streams")
        self.metrics.grpc_in_flight.set_function(lambda: self._pool.load)
        self._health = health.HealthServicer()
        self._health_lock = threading.Lock()
        self._grpc = self._build(services)

    def _build(self, services: Sequence[Service]) -> grpc.Server:
        settings = self.settings
        interceptor = CallInterceptor(
            self.metrics,
            pool=self._pool,
            most=settings.max_concurrent,
            aside=self._aside,
            streams=self._streams,
            default_deadline=settings.default_deadline_seconds,
            guard=self._guard,
        )
        server = grpc.server(
            self._pool,
            interceptors=[interceptor],
            maximum_concurrent_rpcs=settings.max_concurrent + REFUSALS_AT_A_TIME,
            options=(
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.max_send_message_length", settings.max_message_bytes),
                ("grpc.so_reuseport", int(settings.reuse_port)),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
                ("grpc.max_connection_age_ms", int(settings.max_connection_seconds * 1000)),
                ("grpc.max_connection_age_grace_ms", CONNECTION_GRACE_SECONDS * 1000),
            ),
        )
        for service in services:
            service.add(service.servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(
            (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
        self._show_health()
        return server

    @property
    def port(self) -> int:
        """The port listened on; known after `start`."""
        assert self._port is not None, "start() comes first"
        return self._port

    @property
    def address(self) -> str:
        """``host:port`` that a client on this machine can use; known after `start`."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.settings.host, self.settings.host)  # noqa: S104
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def metrics_port(self) -> int | None:
        """The exporter's port; None without one."""
        return None if self._exporter is None else self._exporter.port

    @property
    def in_flight(self) -> int:
        """Calls accepted and not finished."""
        return self._pool.load

    def on_flush(self, step: str, flush: Callable[[], None]) -> None:
        """Register a shutdown step, run after the last call; it must bound its own time."""
        self._flushes.append((step, flush))

    def set_serving(self, service: str, serving: bool) -> None:  # noqa: FBT001
        """Tell whether `service` is ready; the server as a whole ("") is when all its services are."""
        if service not in self._ready:
            raise KeyError(f"{service} is not served here, only {', '.join(self._names)}")
        with self._health_lock:
            self._ready[service] = serving
            self._show_health()

    def _is_ready(self) -> bool:
        return all(self._ready.values()) and not self._stopping

    def _show_health(self) -> None:
        status = health_pb2.HealthCheckResponse
        for name, ready in {**self._ready, "": all(self._ready.values())}.items():
            self._health.set(name, status.SERVING if ready else status.NOT_SERVING)
        self._health.set(ALIVE, status.SERVING)

    def start(self) -> Self:
        """Listen.

        Raises
        ------
        OSError
            If the address or the metrics port cannot be had.
        """
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        try:
            self._port = self._listen(f"{host}:{self.settings.port}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {host}:{self.settings.port}") from error
        if self.settings.metrics_port is not None:
            self._exporter = Exporter(
                self.metrics, host=self.settings.host, port=self.settings.metrics_port, ready=self._is_ready
            )
        self._grpc.start()
        return self

    def _listen(self, address: str) -> int:
        if self._tls is None:
            return self._grpc.add_insecure_port(address)
        return self._grpc.add_secure_port(address, server_credentials(self._tls))

    def stop(self) -> int:
        """Drain, flush, stop; idempotent. Returns the exit code: 0, or 1 if a flush step failed."""
        with self._stop_lock:
            if self._exit_code is None:
                self._exit_code = self._stop()
        return self._exit_code

    def _stop(self) -> int:
        self._stopping = True
        self._health.enter_graceful_shutdown()
        if self._port is not None and self.settings.linger_seconds:
            threading.Event().wait(self.settings.linger_seconds)
        self._drain()
        failed = sum(not self._flush(step, flush) for step, flush in self._flushes)
        for pool in (self._pool, self._aside, self._streams):
            pool.shutdown(wait=False)
        if self._exporter is not None:
            self._exporter.stop()
        self._stop_reader.close()
        self._stop_writer.close()
        _log.info("stopped", address=self.settings.host, unfinished=self.in_flight, failed_steps=failed)
        return int(failed > 0)

    def _drain(self) -> None:
        """Refuse new calls, wait for those in flight; streams that idle do not hold up the end."""
        stopped = self._grpc.stop(self.settings.grace_seconds)
        while self._pool.load and not stopped.wait(DRAIN_POLL_SECONDS):
            pass
        if not stopped.wait(LAST_BYTES_SECONDS):
            self._grpc.stop(None)

    def _flush(self, step: str, flush: Callable[[], None]) -> bool:
        try:
            flush()
        except Exception:  # noqa: BLE001 - a step that fails must not keep the others from running
            self.metrics.flush_failures.labels(step).inc()
            _log.error("flush_failed", step=step, exc_info=True)
            return False
        return True

    def request_stop(self) -> None:
        """Make `run` stop; safe from any thread, before `run` too."""
        with contextlib.suppress(OSError):  # full: asked often enough; closed: stopped already
            self._stop_writer.send(b"x")

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT, from the main thread; returns the exit code.

        Writes one JSON line to stdout when it answers: ``event`` ("ready"), ``address``, ``metrics_port``,
        ``services``, ``pid``. More signals during the drain change nothing. A handler that outlives the grace
        is abandoned: the process then ends at once with code 1, for no thread can be killed.
        """
        if not structlog.is_configured():
            logs.configure_logging(self.settings.log_level)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        # The C-level handler writes here whatever Python waits for: no signal falls between two instructions.
        signal.set_wakeup_fd(self._stop_writer.fileno(), warn_on_full_buffer=False)
        self.start()
        if self._is_ready():  # a service that still loads settles when it has
            heap.settle()
        ready = {
            "event": "ready",
            "address": self.address,
            "metrics_port": self.metrics_port,
            "services": self._names,
            "pid": os.getpid(),
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        _log.info("ready", address=self.address, metrics_port=self.metrics_port)
        self._stop_reader.recv(1)
        signal.set_wakeup_fd(-1)
        code = self.stop()
        if self.in_flight:
            _log.error("handlers_abandoned", count=self.in_flight)
            sys.stderr.flush()
            os._exit(1)
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
