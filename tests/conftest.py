"""What every test may rely on."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog


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
