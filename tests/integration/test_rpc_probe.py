"""What containers are probed with: the command, and the health that outlasts readiness."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from matchloop.rpc.probe import main, probe
from matchloop.rpc.server import ALIVE, Server
from matchloop.rpc.settings import ServerSettings
from tests.integration.echo_server import NAME, make_echo, service


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server(ServerSettings(linger_seconds=0.0), [service(make_echo())]).start()
    yield running
    running.stop()


def test_a_server_that_is_not_ready_is_alive(server: Server) -> None:
    assert (probe(server.address), probe(server.address, ALIVE)) == ("SERVING", "SERVING")
    server.set_serving(NAME, False)
    assert (probe(server.address), probe(server.address, ALIVE)) == ("NOT_SERVING", "SERVING")


def test_the_exit_code_tells(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([server.address]) == 0
    server.set_serving(NAME, False)
    assert main([server.address]) == 1
    assert main([server.address, ALIVE]) == 0
    assert main([server.address, "nobody"]) == 1
    assert main(["127.0.0.1:1"]) == 1
    assert main([]) == 2
    assert capsys.readouterr().out.split() == [
        "SERVING",
        "NOT_SERVING",
        "SERVING",
        "NOT_FOUND",
        "UNAVAILABLE",
    ]


def test_it_is_a_command(server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "matchloop.rpc.probe", server.address], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"SERVING\n")
