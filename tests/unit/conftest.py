"""What every unit test may rely on."""

from __future__ import annotations

import pytest

from training_jobs.commands.console import console


@pytest.fixture(autouse=True)
def _wide_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command prints is cut nowhere, however wide the terminal of the tests is."""
    monkeypatch.setattr(console, "_width", 200)
