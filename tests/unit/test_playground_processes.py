"""Service processes: what is told when one does not come up, and that a stop always ends."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from matchloop.errors import Conflict, Unavailable
from playground.processes import ServiceProcess, free_port, port_in_use
from playground.stack import Ports, Stack

SLEEPER = "import sys, time\nprint('awake', flush=True)\ntime.sleep(60)\n"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPER
BROKEN = "import sys\nprint('the database is gone', flush=True)\nsys.exit(7)\n"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[dict[str, ServiceProcess]]:
    made = {}
    for name, program in {"sleeper": SLEEPER, "stubborn": STUBBORN, "broken": BROKEN}.items():
        (tmp_path / f"{name}.py").write_text(program)
        log = tmp_path / "logs" / f"{name}.log"
        made[name] = ServiceProcess(name, free_port(), {"PYTHONPATH": str(tmp_path)}, log)
    yield made
    for process in made.values():
        process.kill()


def awake(process: ServiceProcess) -> bool:
    return "awake" in process.log.read_text()


def test_a_port_is_in_use_while_somebody_listens() -> None:
    port = free_port()
    assert not port_in_use(port)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        assert port_in_use(port)
    assert len(set(Ports.free().all())) == 3


def test_what_ends_before_it_serves_is_told_with_its_last_words(
    processes: dict[str, ServiceProcess],
) -> None:
    broken = processes["broken"]
    broken.start()
    with pytest.raises(Unavailable) as error:
        broken.wait_serving(timeout=20)
    assert "broken ended with code 7" in error.value.message
    assert "the database is gone" in error.value.message
    assert not broken.running


def test_a_wait_ends_in_time_or_when_it_is_given_up(processes: dict[str, ServiceProcess]) -> None:
    sleeper = processes["sleeper"]
    sleeper.start()
    assert not sleeper.wait_serving(timeout=20, give_up=lambda: awake(sleeper))
    with pytest.raises(Unavailable, match="sleeper does not serve yet"):
        sleeper.wait_serving(timeout=0.1)
    assert sleeper.running
    assert sleeper.stop() == -signal.SIGTERM


def test_what_does_not_listen_to_sigterm_is_killed_after_its_grace(
    processes: dict[str, ServiceProcess],
) -> None:
    stubborn = processes["stubborn"]
    assert stubborn.stop() == 0  # was never started
    stubborn.start()
    assert not stubborn.wait_serving(timeout=20, give_up=lambda: awake(stubborn))
    assert stubborn.stop(grace=0.1) == -signal.SIGKILL
    assert not stubborn.running


def test_every_port_in_use_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    with socket.socket() as one, socket.socket() as two:
        for listener in (one, two):
            listener.bind(("127.0.0.1", 0))
            listener.listen()
        taken = [one.getsockname()[1], two.getsockname()[1]]
        stack = Stack(tmp_path / "data", ports=Ports(taken[0], free_port(), taken[1]))
        with pytest.raises(Conflict) as error:
            stack.start()
    assert error.value.message.startswith(f"ports in use already: {taken[0]}, {taken[1]};")
    assert not (tmp_path / "data").exists()
