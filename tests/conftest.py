"""What every test may rely on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

TURNS = ("arch", "unit", "property", "contract", "long", "integration", "e2e")
"""Quick ones first; then files that ask for more time than usual, before the stacks that others share idle
beside them; a file that is still running when all others are done would keep one processor waiting."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files into the order of `TURNS`."""
    items.sort(key=lambda item: TURNS.index(_turn(item)))


def _turn(item: pytest.Item) -> str:
    if item.get_closest_marker("timeout") is not None:
        return "long"
    return item.path.relative_to(Path(__file__).parent).parts[0]


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
