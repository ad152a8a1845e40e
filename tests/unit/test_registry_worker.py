"""What the registry's process does with calls: over a real pipe, with a registry made up for it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from typing import Any

from matchloop.errors import Reason, Unavailable
from matchloop.release.registry_process import WORKER
from matchloop.release.registry_worker import serve


class Slow:
    """Answers `list` once `aliases` was asked, and has a bug in `use_cases`."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def aliases(self) -> dict[str, dict[str, str]]:
        self.asked.set()
        return {}

    def list(self, use_case: str) -> tuple[str, ...]:
        return (use_case,) if self.asked.wait(10.0) else ()

    def use_cases(self) -> tuple[str, ...]:
        raise KeyError("a bug")


@contextmanager
def served() -> Iterator[Any]:
    ours, theirs = Pipe()
    thread = threading.Thread(target=serve, args=(theirs, Slow()))
    thread.start()
    with theirs, ours:
        yield ours
        ours.close()
        thread.join(10.0)
        assert not thread.is_alive()


def test_a_slow_call_keeps_no_other_waiting() -> None:
    with served() as connection:
        connection.send((0, "list", ("movies",)))
        connection.send((1, "aliases", ()))
        assert connection.recv() == (1, True, {})
        assert connection.recv() == (0, True, ("movies",))


def test_a_bug_is_told_with_its_traceback_to_who_can_log_it() -> None:
    with served() as connection:
        connection.send((7, "use_cases", ()))
        number, went_well, error = connection.recv()
    assert (number, went_well) == (7, False)
    assert isinstance(error, Unavailable)
    assert error.reason is Reason.REGISTRY_UNAVAILABLE
    assert "KeyError: 'a bug'" in error.message


def test_the_process_ends_when_nobody_is_there_to_ask() -> None:
    ours, theirs = Pipe()
    end = theirs.fileno()
    with subprocess.Popen([sys.executable, "-m", WORKER, str(end)], pass_fds=(end,)) as process:
        theirs.close()
        ours.send("sqlite:///nowhere/mlflow.db")
        ours.close()
        assert process.wait(30.0) == 0
