"""Service processes on this machine: start, wait until they serve, stop in order."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from matchloop.errors import Unavailable
from matchloop.rpc.channel import open_channel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from matchloop.rpc.credentials import ClientCredentials


def free_port() -> int:
    """Return a loopback port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_in_use(port: int) -> bool:
    """Say whether something accepts connections on this loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(slots=True)
class ServiceProcess:
    """One service as a child process with its own log file.

    Parameters
    ----------
    name
        The package to run with ``python -m``.
    port
        Loopback port it serves gRPC on.
    environment
        Its settings, added to this process's environment.
    log
        File that takes its output.
    credentials
        As for `open_channel`, to ask for its health.
    """

    name: str
    port: int
    environment: Mapping[str, str]
    log: Path
    credentials: ClientCredentials | None = None
    _child: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it serves, ``host:port``."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the running child."""
        assert self._child is not None, f"{self.name} was not started"
        return self._child.pid

    def start(self) -> None:
        """Start it; returns at once, before it serves."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the parent alone, which then stops in order.
            self._child = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "playground.tethered", str(os.getpid()), self.name],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_serving(self, timeout: float = 60.0, *, give_up: Callable[[], bool] = lambda: False) -> bool:
        """Wait until health says SERVING.

        Parameters
        ----------
        timeout
            Seconds.
        give_up
            Asked about every 50 ms; true ends the wait.

        Returns
        -------
        bool
            False when `give_up` ended the wait.

        Raises
        ------
        Unavailable
            When the process ended, or `timeout` seconds passed; with the end of its log.
        """
        give_up_at = time.monotonic() + timeout
        while time.monotonic() < give_up_at and self.running:
            if give_up():
                return False
            if self._serves():
                return True
            time.sleep(0.05)
        code = None if self._child is None else self._child.poll()
        why = "does not serve yet" if self.running else f"ended with code {code}"
        raise Unavailable(f"{self.name} {why}; the end of {self.log}:\n{self._log_tail()}")

    def _serves(self) -> bool:
        if not port_in_use(self.port):  # a channel that was refused backs off; a socket does not
            return False
        with (
            open_channel(self.address, credentials=self.credentials) as channel,
            contextlib.suppress(grpc.RpcError),
        ):
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1.0)
            return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
        return False

    @property
    def running(self) -> bool:
        """True while the child lives."""
        return self._child is not None and self._child.poll() is None

    def kill(self) -> None:
        """End it as a crash would (SIGKILL) and wait until it is gone."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def stop(self, grace: float = 15.0) -> int:
        """Ask it to drain and exit (SIGTERM); kill it after `grace` seconds. Return its exit code."""
        if self._child is None:
            return 0
        if self.running:
            self._child.terminate()
        try:
            return self._child.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._child.returncode

    def _log_tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
