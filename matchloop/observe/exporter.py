"""The HTTP endpoint that Prometheus scrapes, and that asks after health where gRPC's own cannot be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import start_http_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from matchloop.observe.metrics import Metrics


class Exporter:
    """Serves ``/metrics``, ``/livez`` and ``/readyz`` from construction until `stop`.

    Kubernetes' gRPC probes speak no TLS: where connections are secured, it asks here. ``/livez`` answers 200,
    ``/readyz`` 200 or 503.

    Parameters
    ----------
    metrics
        What is shown.
    host, port
        Where to listen; port 0 takes a free one, `port` then says which.
    ready
        Whether the process serves.

    Raises
    ------
    OSError
        If the port is taken.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._server, self._thread = start_http_server(port, addr=host, registry=metrics.registry)
        scraped = self._server.get_app()
        assert scraped is not None

        def app(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
            path = environ["PATH_INFO"]
            if path not in {"/livez", "/readyz"}:
                return scraped(environ, start)
            well = path == "/livez" or ready()
            start("200 OK" if well else "503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"ok\n" if well else b"not ready\n"]

        self._server.set_app(app)
        self.host = host
        self.port = int(self._server.server_port)

    def stop(self) -> None:
        """Stop listening; a second call does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
