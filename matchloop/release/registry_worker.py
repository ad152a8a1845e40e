"""``python -m matchloop.release.registry_worker FD``: asks a registry for the process that started it.

See `matchloop.release.registry_process`, which starts it and is all that talks to it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from threading import Lock
from typing import TYPE_CHECKING, Any

from matchloop.errors import MatchloopError, Reason, Unavailable
from matchloop.release.gentle import give_way
from matchloop.release.mlflow_registry import MlflowRegistry

if TYPE_CHECKING:
    from matchloop.release.registry import RegistryReader

CALLS_AT_ONCE = 8
"""A release that takes minutes to fetch must not keep the others waiting."""

NICENESS = 10
"""Requests go first: where cores are short, a release comes a little later."""


def serve(connection: Connection[Any, Any], registry: RegistryReader) -> None:
    """Answer (number, method, arguments) with (number, whether it went well, result or error).

    Answers come as they are ready, in any order. Returns when the other end is closed.
    """
    sending = Lock()

    def answer(number: int, method: str, arguments: tuple[Any, ...]) -> None:
        told = (number, *_outcome(registry, method, arguments))
        with sending, contextlib.suppress(BrokenPipeError):
            connection.send(told)

    calls = ThreadPoolExecutor(CALLS_AT_ONCE, "registry")
    with contextlib.suppress(EOFError):
        while True:
            calls.submit(answer, *connection.recv())


def _outcome(registry: RegistryReader, method: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, getattr(registry, method)(*arguments)
    except (MatchloopError, OSError) as error:
        return False, error
    except Exception:  # noqa: BLE001 - a bug in a registry's client is told to who can log it
        return False, Unavailable(traceback.format_exc(), reason=Reason.REGISTRY_UNAVAILABLE)


def main() -> None:
    """Serve the registry whose URI comes first, and end at once when nobody is there to ask any more."""
    give_way(NICENESS)
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    serve(connection, MlflowRegistry(connection.recv()))
    os._exit(0)  # calls that wait for a registry that hangs are nobody's any more


if __name__ == "__main__":
    main()
