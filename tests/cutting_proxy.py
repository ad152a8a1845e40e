"""A TCP proxy before PostgreSQL that cuts connections at a chosen place in the conversation."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path
from typing import Self

CHUNK = 65_536
PATIENCE = 30.0


class CuttingProxy:
    """Forwards connections to a UNIX socket until one says what it waits for; then cuts that connection.

    Parameters
    ----------
    target
        PostgreSQL's socket.

    Notes
    -----
    `cut(word, before=True)` breaks a connection when its client sends `word`: the server never gets it, and
    sees the connection end. ``before=False``: the server gets it and answers; the answer gets to nobody.
    """

    def __init__(self, target: Path) -> None:
        self._target = str(target)
        self._lock = threading.Lock()
        self._word = b""
        self._before = True
        self._left = 0
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._closed = False

    def cut(self, word: bytes, *, before: bool, times: int) -> None:
        """Cut the next `times` connections on which a client sends `word`."""
        with self._lock:
            self._word, self._before, self._left, self.cuts = word, before, times, 0

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listener.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closed:
                client.close()
                return
            self._start(self._forward, client)

    def _forward(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        with client, server, contextlib.suppress(OSError):
            server.connect(self._target)
            self._exchange(client, server)

    def _exchange(self, client: socket.socket, server: socket.socket) -> None:
        while not self._closed:
            for ready in select.select([client, server], [], [], 0.2)[0]:
                sent = ready.recv(CHUNK)
                if not sent:
                    return
                if ready is server:
                    client.sendall(sent)
                elif self._is_cut(sent):
                    if not self._before:
                        server.sendall(sent)
                        server.recv(CHUNK)
                    return
                else:
                    server.sendall(sent)

    def _is_cut(self, sent: bytes) -> bool:
        with self._lock:
            found = self._left > 0 and self._word in sent
            self._left -= found
            self.cuts += found
            return found
