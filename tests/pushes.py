"""A Pushgateway as small as tests need one: it keeps what was pushed last, by group."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client.parser import text_string_to_metric_families


class Pushes:
    """What was pushed: by path of the group, every sample by name and labels."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.groups: dict[str, dict[tuple[str, tuple[str, ...]], float]] = {}

    def take(self, path: str, text: str) -> None:
        """Keep a push; names that it does not bring stay as they were, as the real one does for a POST."""
        new = {
            (
                sample.name,
                tuple(f"{name}={value}" for name, value in sorted(sample.labels.items())),
            ): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        names = {name for name, _ in new}
        before = self.groups.get(path, {})
        self.groups[path] = {key: value for key, value in before.items() if key[0] not in names} | new

    def of(self, job: str, use_case: str = "") -> dict[tuple[str, tuple[str, ...]], float]:
        """Return what a job told."""
        return self.groups[f"/metrics/job/{job}" + (f"/use_case/{use_case}" if use_case else "")]


@contextmanager
def pushes() -> Iterator[Pushes]:
    """Receive pushes on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.take(self.path, self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept = Pushes(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield kept
        server.shutdown()
        thread.join()
