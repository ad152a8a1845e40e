"""A registry asked by a process of its own: its client's work never takes the interpreter from requests.

MLflow's client is a thousand modules of Python: a look at the registry takes milliseconds of the interpreter,
fetching a release some dozens, and the modules more memory than a small catalogue. All that stays out of the
process that serves.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from concurrent.futures import Future
from itertools import count
from typing import TYPE_CHECKING, Any

from matchloop.errors import Reason, Unavailable
from matchloop.release.mlflow_registry import MlflowRegistry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matchloop.release.manifest import Manifest
    from matchloop.release.registry import RegisteredRelease

WORKER = "matchloop.release.registry_worker"


class RegistryProcess:
    """`RegistryReader` on MLflow, in a process that is started by the first call and ends with this one.

    Should it die, the calls it was busy with raise `Unavailable`, and the next one starts it anew. As long as
    there is no database to read there is no process either.

    Parameters
    ----------
    uri
        As for `MlflowRegistry`.
    """

    def __init__(self, uri: str) -> None:
        self._registry = MlflowRegistry(uri)
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the worker; None while there is none."""
        worker = self._worker
        return None if worker is None or worker.ended else worker.pid

    def resolve(self, use_case: str, alias: str) -> RegisteredRelease | None:
        """See `RegistryReader`."""
        return None if self._registry.unmade() else self._ask("resolve", use_case, alias)

    def aliases(self) -> Mapping[str, Mapping[str, str]]:
        """See `RegistryReader`."""
        return {} if self._registry.unmade() else self._ask("aliases")

    def fetch(self, registered: RegisteredRelease, destination: Path) -> Path:
        """See `RegistryReader`."""
        folder: Path = self._ask("fetch", registered, destination)
        return folder

    def manifest(self, registered: RegisteredRelease) -> Manifest:
        """See `RegistryReader`."""
        manifest: Manifest = self._ask("manifest", registered)
        return manifest

    def list(self, use_case: str) -> tuple[RegisteredRelease, ...]:
        """See `RegistryReader`."""
        return () if self._registry.unmade() else self._ask("list", use_case)

    def use_cases(self) -> tuple[str, ...]:
        """See `RegistryReader`."""
        return () if self._registry.unmade() else self._ask("use_cases")

    def close(self) -> None:
        """End the process; calls that wait for it, and those to come, raise `Unavailable`."""
        with self._lock:
            self._closed = True
            if self._worker is not None:
                self._worker.end()

    def _ask(self, method: str, *arguments: Any) -> Any:
        with self._lock:
            if self._closed:
                raise _gone("it was closed")
            if self._worker is None or self._worker.ended:
                self._worker = _Worker(self._registry.uri)
            worker = self._worker
        return worker.ask(method, arguments)


class _Worker:
    """One process, and who waits for its answers."""

    def __init__(self, uri: str) -> None:
        from multiprocessing import Pipe  # takes its time, and many a service never asks

        self._connection, theirs = Pipe()
        with theirs:
            end = theirs.fileno()
            # A session of its own: Ctrl-C reaches the service alone, which then stops in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", WORKER, str(end)],
                pass_fds=(end,),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.ended = False
        self._lock = threading.Lock()
        self._numbers = count()
        self._waiting: dict[int, Future[Any]] = {}
        with contextlib.suppress(BrokenPipeError):  # then the thread that reads is about to tell
            self._connection.send(uri)  # not an argument: it may hold a password, and arguments can be seen
        threading.Thread(target=self._read, name="registry-answers", daemon=True).start()

    def ask(self, method: str, arguments: tuple[Any, ...]) -> Any:
        answer: Future[Any] = Future()
        with self._lock:
            if self.ended:
                raise _gone("its process ended")
            number = next(self._numbers)
            self._waiting[number] = answer
            with contextlib.suppress(BrokenPipeError):
                self._connection.send((number, method, arguments))
        return answer.result()

    def end(self) -> None:
        self._process.terminate()

    def _read(self) -> None:
        try:
            while True:
                number, went_well, told = self._connection.recv()
                with self._lock:
                    answer = self._waiting.pop(number)
                if went_well:
                    answer.set_result(told)
                else:
                    answer.set_exception(told)
        except (EOFError, OSError):
            pass
        finally:
            self._tell_the_end()

    def _tell_the_end(self) -> None:
        with self._lock:
            self.ended = True
            left, self._waiting = list(self._waiting.values()), {}
            self._connection.close()
        self.end()
        code = self._process.wait()
        for answer in left:
            answer.set_exception(_gone(f"its process ended with code {code}"))


def _gone(why: str) -> Unavailable:
    return Unavailable(f"registry: {why}", reason=Reason.REGISTRY_UNAVAILABLE)
