"""The HTTP endpoint that Prometheus scrapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import start_http_server

if TYPE_CHECKING:
    from matchloop.observe.metrics import Metrics


class Exporter:
    """Serves ``/metrics`` from construction until `stop`.

    Parameters
    ----------
    metrics
        What is shown.
    host, port
        Where to listen; port 0 takes a free one, `port` then says which.

    Raises
    ------
    OSError
        If the port is taken.
    """

    def __init__(self, metrics: Metrics, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server, self._thread = start_http_server(port, addr=host, registry=metrics.registry)
        self.host = host
        self.port = int(self._server.server_port)

    def stop(self) -> None:
        """Stop listening; a second call does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
