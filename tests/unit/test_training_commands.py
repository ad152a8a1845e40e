"""The commands: what they print, and how they end."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.unit.training_worlds import INVESTORS, interaction, named, ranked_world, snapshot_of
from training_jobs.__main__ import app, main
from training_jobs.commands.steps import exported


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
    for said in (
        "ranker",
        "recommendation",
        "random",
        "hard",
        "2026-01-01",
        "too few examples: ranker: 10 strong",
    ):
        assert said in " ".join(found.output.split())
    files = {path.name for path in (tmp_path / "work").rglob("*.parquet")}
    assert files == {"als.parquet", "two_tower.parquet", "ranker.parquet"}
    (pairs,) = (tmp_path / "work").rglob("two_tower.parquet")
    written = pq.read_table(pairs)
    told = json.loads(pairs.with_suffix(".json").read_text())
    assert written.num_rows == told["rows"]
    assert written["subject_tags"][0].as_py() in (["red"], ["blue"])
    assert {"rank", "score", "rank_weight", "label", "item_tags"} <= set(written.column_names)
    (manifest,) = (tmp_path / "work").rglob("ranker.json")
    assert json.loads(manifest.read_text())["labels"]["1"] == 10


def test_an_export_is_run_with_the_folder_at_its_end(tmp_path: Path) -> None:
    program = "import pathlib, sys; pathlib.Path(sys.argv[1]).mkdir()"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}"

    assert exported(command, tmp_path / "snapshot").is_dir()


PEOPLE = [*named("investor", ["a", "b"]), *named("startup", ["s0", "s1"])]
WORLDS = {
    "empty": ([], [], "two_tower: 0 positives and 0 negatives of 0 subjects and 0 items"),
    "no events": (PEOPLE, [], "two_tower: 0 positives and 0 negatives of 2 subjects and 2 items"),
    "one class": (
        PEOPLE,
        [interaction(1, "a", "s0", "dislike"), interaction(2, "b", "s1", "dislike")],
        "two_tower: 0 positives and 2 negatives of 2 subjects and 2 items",
    ),
}


@pytest.mark.parametrize("command", ["datasets", "train"])
@pytest.mark.parametrize("world", WORLDS)
def test_data_to_learn_nothing_from_is_a_named_error_with_the_numbers(
    tmp_path: Path,
    command: str,
    world: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people, events, two_tower = WORLDS[world]
    folder = snapshot_of(tmp_path / "world", people, events).folder
    options = ["--snapshot", str(folder), "--work", str(tmp_path / "work"), "--config", "fast"]
    options += ["--registry", f"sqlite:///{tmp_path}/mlflow.db"]
    monkeypatch.setattr(sys, "argv", ["training_jobs", command, INVESTORS.id, *options])
    with pytest.raises(SystemExit) as ended:
        main()

    said = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2
    assert said.startswith("TOO_FEW_EXAMPLES: als: 0 subjects, 0 items and 0 pairs of positive weight")
    assert two_tower in said
    assert "ranker: 0 strong positives and 0 negatives in 0 lists; 100 positives and some" in said


def test_a_tiny_world_is_released_with_what_it_is_enough_for(tmp_path: Path) -> None:
    folder = snapshot_of(tmp_path / "world", PEOPLE, [interaction(1, "a", "s0", "like")]).folder
    options = ["--snapshot", str(folder), "--work", str(tmp_path / "work"), "--config", "fast"]
    options += ["--registry", f"sqlite:///{tmp_path}/mlflow.db"]
    found = CliRunner().invoke(app, ["train", INVESTORS.id, *options])

    said = " ".join(found.output.split())
    assert found.exit_code == 0, found.output
    for part in ("als: 1 subjects, 1 items and 1 pairs", "two_tower: 1 positives", "ranker: 0 strong"):
        assert f"released without {part.split(':')[0]}: {part}" in said


def test_estimated_weights_without_exploration_are_a_named_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = ranked_world(tmp_path / "world", lists=10).folder
    settings = tmp_path / "own.toml"
    settings.write_text('[dataset]\nranker_weighting = "estimated"\n')
    options = ["--snapshot", str(world), "--work", str(tmp_path / "work"), "--config", str(settings)]
    options += ["--registry", f"sqlite:///{tmp_path}/mlflow.db"]
    monkeypatch.setattr(sys, "argv", ["training_jobs", "datasets", INVESTORS.id, *options])
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert "of 9 lists 0 log propensities" in " ".join(capsys.readouterr().err.split())
