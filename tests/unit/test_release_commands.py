"""What the commands about releases print, on a registry with a history."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from typer.testing import CliRunner

from matchloop.acts import ActKind
from matchloop.errors import BackupRefused, NotFound
from matchloop.release import CHAMPION, Manifest, MlflowRegistry
from matchloop.testing.releases import build_release
from matchloop.usecase import load_use_cases
from training_jobs.__main__ import app
from training_jobs.commands import releases as commands
from training_jobs.config import load_config
from training_jobs.datasets import DatasetManifest
from training_jobs.gates import Gate, Verdict
from training_jobs.promotion import find_release, note_gates, promote_version
from training_jobs.provenance import provenance_of, write_provenance
from training_jobs.release_diff import Described, difference

USE_CASE = load_use_cases()["user_movie"]
REFUSED = Gate("size_mb", 9.0, 1.0, Verdict.REFUSED, "at most")
PASSED = Gate("size_mb", 0.5, 1.0, Verdict.PASSED, "at most")


def built(folder: Path, name: str, *, seed: int, preset: str = "fast") -> Path:
    """Build a release that tells where it comes from."""
    release = build_release(folder / name, USE_CASE, release=name, seed=seed)
    data = DatasetManifest(
        name="ranker",
        use_case=USE_CASE.id,
        snapshot="x",
        rows=100 + seed,
        labels={"0": 60, "1": 40},
        sources={"positive": 40},
        first_time=None,
        last_time=None,
        sha256="0" * 64,
    )
    write_provenance(release, provenance_of(load_config(preset), [data]))
    old = Manifest.read(release)
    Manifest.write(
        release,
        release=name,
        use_case=USE_CASE,
        created=old.created,
        snapshot=old.snapshot,
        parts=old.parts,
        metrics={"ndcg_at_10": 0.5 + seed / 10},
    )
    return release


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> MlflowRegistry:
    """Return a registry: r1 was champion, r2 is, r3 was refused."""
    folder = tmp_path_factory.mktemp("registry")
    found = MlflowRegistry(new_registry(folder))
    for number in (1, 2, 3):
        release = built(
            folder / "built", f"r{number}", seed=number, preset="default" if number > 1 else "fast"
        )
        known = found.register(release, USE_CASE.id, run_id=None, metrics={})
        when = datetime(2026, 1, number, tzinfo=UTC)
        note_gates(found, known, [REFUSED if number == 3 else PASSED], "")
        if number < 3:
            promote_version(found, known, clock=lambda when=when: when)  # type: ignore[misc]
    return found


def run(registry: MlflowRegistry, folder: Path, *command: str) -> str:
    options = ["--registry", registry.uri]
    if command[:2] in (("releases", "show"), ("releases", "diff")):
        options += ["--work", str(folder)]
    found = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*command, *options])
    assert found.exit_code == 0, found.output
    return found.output


def test_list_tells_what_became_of_each(registry: MlflowRegistry, tmp_path: Path) -> None:
    told = json.loads(run(registry, tmp_path, "releases", "list", USE_CASE.id, "--json"))

    assert [(each["release"], each["state"]) for each in told] == [
        ("r3", "refused"),
        ("r2", "champion"),
        ("r1", "was champion"),
    ]
    assert told[0]["gates"] == [REFUSED.to_json()]
    assert told[1]["promoted"] == "2026-01-02T00:00:00+00:00"
    table = run(registry, tmp_path, "releases", "list", USE_CASE.id)
    assert "size_mb 9 (bound 1)" in table


def test_show_tells_parts_data_and_gates(registry: MlflowRegistry, tmp_path: Path) -> None:
    told = json.loads(run(registry, tmp_path, "releases", "show", USE_CASE.id, "3", "--json"))

    assert (told["release"], told["state"], told["parts"]) == ("r3", "refused", ["ranker"])
    assert told["data"]["ranker"]["rows"] == 103
    assert told["settings"]["name"] == "default"
    assert told["bytes"]["ranker"] > 0
    table = run(registry, tmp_path, "releases", "show", USE_CASE.id)
    for said in ("r2", "champion", "102", "size_mb", "passed", "0.7000"):
        assert said in table


def test_diff_tells_what_is_not_alike(registry: MlflowRegistry, tmp_path: Path) -> None:
    told = json.loads(run(registry, tmp_path, "releases", "diff", USE_CASE.id, "r3", "r1", "--json"))

    assert told["facts"]["release"] == ["r1", "r3"]
    assert told["metrics"] == {"ndcg_at_10": [0.6, 0.8]}
    assert told["data"] == {"ranker.rows": [101, 103]}
    assert told["settings"]["als.factors"] == [64, 128]
    assert "seed" not in told["settings"]
    assert told["parts"] == {"ranker": [True, True]}
    assert told["golden"]["ranker.score"]["largest"] > 0.001
    table = run(registry, tmp_path, "releases", "diff", USE_CASE.id, "r3", "r1")
    for said in ("+0.2000", "als.factors", "ranker.score"):
        assert said in table


def test_a_release_differs_from_itself_in_nothing(registry: MlflowRegistry, tmp_path: Path) -> None:
    found = registry.fetch(find_release(registry, USE_CASE.id, "r1"), tmp_path)
    same = difference(Described.of(found), Described.of(found), USE_CASE)

    assert (same.settings, same.data) == ({}, {})
    assert same.golden["ranker.score"]["largest"] < 1e-6


def test_another_shape_of_golden_answers_is_said(registry: MlflowRegistry, tmp_path: Path) -> None:
    """Of a release whose ranker cannot be asked what the other one was."""
    one = registry.fetch(find_release(registry, USE_CASE.id, "r1"), tmp_path)
    other = build_release(tmp_path / "other", load_use_cases()["investor_startup"], release="x")
    found = difference(Described.of(one), Described.of(other), USE_CASE)

    assert "fault" in found.golden["release"]
    assert found.facts["schema"][0] != found.facts["schema"][1]
    assert np.isfinite(found.bytes["ranker"][1])


class Recorded:
    """Stands in for feedback_svc: keeps what it is told."""

    acts: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, address: str) -> None:
        self.address = address

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def record_act(self, use_case: str, kind: str, **told: Any) -> None:
        self.acts.append((self.address, use_case, kind, told))


def test_rollback_makes_the_one_before_champion(
    registry: MlflowRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "Operations", Recorded)
    reason = ("--reason", "fewer clicks", "--feedback", "here:1")
    said = run(registry, tmp_path, "rollback", USE_CASE.id, *reason)

    told = {"automatic": False, "release": "r2", "reason": "fewer clicks"}
    assert Recorded.acts == [("here:1", USE_CASE.id, ActKind.ROLLED_BACK, told)]
    assert "r1 (version 1) is champion" in said
    champion = registry.resolve(USE_CASE.id, CHAMPION)
    assert champion is not None
    assert champion.release == "r1"
    assert champion.promoted is not None
    assert datetime.now(UTC) - champion.promoted < timedelta(minutes=5)
    assert "fewer clicks" in run(registry, tmp_path, "releases", "list", USE_CASE.id)


def test_a_name_that_is_none_is_not_found(registry: MlflowRegistry) -> None:
    with pytest.raises(NotFound, match="r9"):
        find_release(registry, USE_CASE.id, "r9")


def test_a_backup_is_made_and_looked_through(registry: MlflowRegistry, tmp_path: Path) -> None:
    made = run(registry, tmp_path, "releases", "backup", "--into", str(tmp_path / "kept"))
    (index,) = (tmp_path / "kept").glob("*.json")
    champion = find_release(registry, USE_CASE.id, CHAMPION).release
    told = f"{index}: releases: 3; {champion} is champion of {USE_CASE.id}"
    assert made == f"{told}\n"
    checked = run(registry, tmp_path, "releases", "restore", str(index), "--check")
    assert checked == f"{told}, whole\n"
    refused = CliRunner().invoke(app, ["releases", "restore", str(index), "--registry", registry.uri])
    assert isinstance(refused.exception, BackupRefused)
