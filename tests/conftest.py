"""What every test may rely on."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from matchloop.release import MlflowRegistry

TURNS = ("arch", "unit", "property", "contract", "long", "integration", "e2e", "shared")
"""Quick ones first; then files that ask for more time than usual: one that is still running when all others
are done would keep a processor waiting. Who shares a stack comes last: it must not idle beside others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files into the order of `TURNS`."""
    items.sort(key=lambda item: TURNS.index(_turn(item)))


def _turn(item: pytest.Item) -> str:
    if "shared_folder" in getattr(item, "fixturenames", ()):
        return "shared"
    if item.get_closest_marker("timeout") is not None:
        return "long"
    return item.path.relative_to(Path(__file__).parent).parts[0]


@pytest.fixture(scope="session")
def new_registry(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Return what puts the database of an empty registry into a folder, made if missing, and gives its URI.

    MLflow takes seconds to make its tables: they are made once for all the processes of a test run.
    """
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "empty-registry"
    folder.mkdir(exist_ok=True)
    database = folder / "mlflow.db"
    with (folder / "made.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not database.exists():
            unfinished = folder / "unfinished.db"
            MlflowRegistry(f"sqlite:///{unfinished}").experiment_id("unrelated")
            unfinished.rename(database)

    def place(where: Path) -> str:
        where.mkdir(parents=True, exist_ok=True)
        unfinished = where / "mlflow.db.tmp"
        unfinished.write_bytes(database.read_bytes())
        unfinished.rename(where / "mlflow.db")  # services may look for it already
        return f"sqlite:///{where / 'mlflow.db'}"

    return place


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Undo what a command run within a test did to the process's logs: its stream is closed with the test."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level, configured = root.handlers[:], root.level, structlog.is_configured()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    if configured:
        structlog.configure(**before)
    else:
        structlog.reset_defaults()
