"""A program that a test needs is found, or the test is skipped with what to install."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tools


def test_a_fetched_program_is_found_though_it_is_not_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "FOLDER", tmp_path)
    monkeypatch.setenv("PATH", "")
    fetched = tmp_path / "usr" / "bin" / "promtool"
    fetched.parent.mkdir(parents=True)
    fetched.touch(mode=0o755)
    assert tools.program("promtool") == fetched


def test_a_missing_program_skips_the_test_and_names_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "FOLDER", tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.skip.Exception, match="no `promtool`: install Debian's package `prometheus`"):
        tools.program("promtool")
