"""The commands: what they print, and how they end."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.training_worlds import INVESTORS, ranked_world
from training_jobs.__main__ import _exported, app


@pytest.mark.parametrize("command", ["datasets", "train", "evaluate", "register", "promote", "retrain"])
def test_every_step_has_a_command_with_help(command: str) -> None:
    found = CliRunner().invoke(app, [command, "--help"])

    assert found.exit_code == 0
    assert "--snapshot" in found.output


def test_datasets_prints_what_is_in_them(tmp_path: Path) -> None:
    world = ranked_world(tmp_path / "world", lists=10).folder
    options = ["--snapshot", str(world), "--work", str(tmp_path / "work"), "--config", "fast"]
    options += ["--registry", f"sqlite:///{tmp_path}/mlflow.db"]
    found = CliRunner().invoke(app, ["datasets", INVESTORS.id, *options])

    assert found.exit_code == 0
    assert "ranker" in found.output
    (manifest,) = (tmp_path / "work").rglob("ranker.json")
    assert json.loads(manifest.read_text())["labels"]["1"] == 10


def test_an_export_is_run_with_the_folder_at_its_end(tmp_path: Path) -> None:
    program = "import pathlib, sys; pathlib.Path(sys.argv[1]).mkdir()"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}"

    assert _exported(command, tmp_path / "snapshot").is_dir()
