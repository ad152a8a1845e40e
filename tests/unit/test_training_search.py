"""Searches: bounded, pruned, the same however often they are stopped; a training takes what they found."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from typer.testing import CliRunner

from matchloop.errors import InvalidInput, TooFewExamples
from matchloop.testing.registries import FolderRegistry
from tests.unit.training_worlds import INVESTORS, named, ranked_world, snapshot_of
from training_jobs.__main__ import app
from training_jobs.config import AlsTrial, TrainingConfig, load_config
from training_jobs.datasets import DatasetManifest
from training_jobs.retrain import Retraining
from training_jobs.search import Found, search
from training_jobs.search_job import Search
from training_jobs.search_report import write_config
from training_jobs.search_spaces import Choice, Report, Searched

STEPS = 4


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Parabola:
    """Best at x = 0.7; each of a trial's steps takes a second of a clock that only it moves."""

    def __init__(self, die_at: int | None = None) -> None:
        self.now = 0.0
        self.die_at = die_at
        self.asked: list[float] = []
        self.steps = 0

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        return {"x": FloatDistribution(0.0, 1.0)}

    def starts(self) -> Sequence[Choice]:
        return [{"x": 0.5}]

    def config_of(self, choice: Choice) -> TrainingConfig:
        return TrainingConfig()

    @property
    def manifest(self) -> DatasetManifest:
        raise NotImplementedError

    def clock(self) -> float:
        return self.now

    def quality_of(self, choice: Choice, report: Report) -> float:
        self.asked.append(choice["x"])
        if len(self.asked) == self.die_at:
            raise Killed
        quality = 1.0 - (float(choice["x"]) - 0.7) ** 2
        for step in range(1, STEPS + 1):
            self.now += 1.0
            self.steps += 1
            if step < STEPS:
                report(step, quality * step / STEPS)
        return quality


def run(world: Parabola, folder: Path, seconds: float, seed: int = 3) -> Found:
    return search(world, folder / "study.db", seconds=seconds, seed=seed, clock=world.clock)


def test_it_finds_the_best_prunes_and_begins_with_what_is_configured(tmp_path: Path) -> None:
    world = Parabola()
    found = run(world, tmp_path, 120.0)

    assert world.asked[0] == 0.5
    assert found.best.quality == pytest.approx(1.0, abs=1e-3)
    assert found.best.choice["x"] == pytest.approx(0.7, abs=0.03)
    pruned = [trial for trial in found.trials if trial.state == "pruned"]
    assert pruned
    assert all(len(trial.steps) < STEPS for trial in pruned)
    assert world.steps < STEPS * len(found.trials)


@pytest.mark.parametrize("seconds", [1.0, 41.0, 43.5])
def test_the_time_bound_holds_within_a_trial(tmp_path: Path, seconds: float) -> None:
    world = Parabola()
    found = run(world, tmp_path, seconds)

    assert found.seconds == world.now
    assert world.now < seconds + STEPS
    assert found.best.quality is not None
    if seconds > STEPS:  # later trials end at the report after time is up
        assert world.now <= seconds + 1.0


def test_a_stopped_and_a_killed_search_go_on_as_one_that_never_was(tmp_path: Path) -> None:
    whole = Parabola()
    run(whole, tmp_path / "whole", 60.0)

    stopped = Parabola()
    first = run(stopped, tmp_path / "stopped", 16.0)
    assert len(first.trials) == len(stopped.asked) == 4
    run(stopped, tmp_path / "stopped", 60.0 - stopped.now)
    assert stopped.asked == whole.asked

    killed = Parabola(die_at=4)
    with pytest.raises(Killed):
        run(killed, tmp_path / "killed", 60.0)
    assert killed.asked == whole.asked[:4]
    after = Parabola()
    found = run(after, tmp_path / "killed", 16.0)
    assert after.asked[0] == killed.asked[3]
    assert [trial.state for trial in found.trials][:4] == ["complete"] * 3 + ["fail"]


def test_seeds_differ_and_no_time_is_refused(tmp_path: Path) -> None:
    one, other = Parabola(), Parabola()
    run(one, tmp_path / "one", 20.0, seed=1)
    run(other, tmp_path / "other", 20.0, seed=2)

    assert one.asked[1:] != other.asked[1:]
    with pytest.raises(InvalidInput, match="no time"):
        run(one, tmp_path, 0.0)


def small() -> TrainingConfig:
    config = load_config("fast")
    als = config.als.model_copy(update={"factors": 8, "iterations": 4, "trials": config.als.trials[:1]})
    tower = config.two_tower.model_copy(update={"hidden": (8,), "width": 8, "epochs": 2, "batch": 128})
    ranker = config.ranker.model_copy(update={"epochs": 3, "least_positives": 20})
    return config.model_copy(update={"als": als, "two_tower": tower, "ranker": ranker})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ranked_world(tmp_path_factory.mktemp("world"), lists=60).folder


class Told:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.name = ""
        self.files: set[str] = set()
        self.parameters: Mapping[str, Any] = {}
        self.metrics: Mapping[str, float] = {}
        self.curves: Mapping[str, Sequence[float]] = {}

    def log(
        self,
        use_case: str,
        name: str,
        *,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        curves: Mapping[str, Sequence[float]],
        artifacts: Path,
    ) -> str | None:
        self.name, self.parameters, self.metrics, self.curves = name, parameters, metrics, curves
        self.files = {path.name for path in artifacts.iterdir()}
        return "run"


@pytest.mark.parametrize("part", list(Searched))
def test_a_search_of_a_small_world(tmp_path: Path, world: Path, part: Searched) -> None:
    told = Told()
    steps = Retraining(
        INVESTORS, world, FolderRegistry(tmp_path / "registry"), small(), work=tmp_path, tracker=told
    )
    done = Search(steps, part).run(0.03)

    best = done.found.best
    assert done.run == "run"
    assert told.files == {"best.toml", "trials.csv", "history.png", f"{part}.json"}
    assert told.metrics["search_best"] == best.quality
    assert told.curves["search_best"][-1] == best.quality
    assert told.parameters["best"] == best.choice
    with (done.config.parent / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == [trial.number for trial in done.found.trials]
    assert json.loads(rows[0]["steps"])

    config = load_config(done.config)
    changed = small().model_copy(update={"name": "best", str(part): getattr(config, str(part))})
    assert config == changed
    if part is Searched.ALS:
        settings = {key: value for key, value in best.choice.items() if key != "factors"}
        assert config.als.trials == (AlsTrial(**settings),)
    else:
        assert getattr(config, str(part)).learning_rate == best.choice["learning_rate"]


def test_a_configuration_is_read_as_it_was_written(tmp_path: Path) -> None:
    for preset in ("default", "fast", "deep"):
        config = load_config(preset)
        write_config(config, tmp_path / f"{preset}.toml", "two lines\nabout it")
        assert load_config(tmp_path / f"{preset}.toml") == config


def test_a_search_needs_something_to_choose_by(tmp_path: Path) -> None:
    people = [*named("investor", ["a"]), *named("startup", ["s"])]
    folder = snapshot_of(tmp_path / "nothing", people).folder
    steps = Retraining(INVESTORS, folder, FolderRegistry(tmp_path / "r"), small(), work=tmp_path)
    for part in Searched:
        with pytest.raises(TooFewExamples, match=r"0 interactions|0 strong positives"):
            Search(steps, part).run(0.01)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's, of SQLAlchemy
def test_the_command_writes_settings_that_a_training_takes(tmp_path: Path, world: Path) -> None:
    write_config(small(), tmp_path / "small.toml", "for a test")
    options = ["--snapshot", str(world), "--work", str(tmp_path / "work"), "--part", "als"]
    options += ["--config", str(tmp_path / "small.toml"), "--minutes", "0.02"]
    options += ["--registry", f"sqlite:///{tmp_path}/mlflow.db", "--out", str(tmp_path / "found.toml")]
    found = CliRunner().invoke(app, ["search", INVESTORS.id, *options])

    assert found.exit_code == 0, found.output
    assert "best" in found.output
    assert load_config(tmp_path / "found.toml").als.factors in (8, 32, 64, 128, 256)
