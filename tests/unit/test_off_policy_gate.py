"""The off-policy gate and its command: what passes, what is refused, and what says it cannot tell."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from matchloop.errors import NotFound, TooFewExamples
from matchloop.position import Weighting
from matchloop.release import CHAMPION
from matchloop.testing.registries import FolderRegistry
from matchloop.testing.releases import build_release
from tests.unit.test_logged_lists import simulated
from tests.unit.training_worlds import INVESTORS, START, interaction, named, session, snapshot_of
from training_jobs.__main__ import app
from training_jobs.commands import off_policy
from training_jobs.config import TrainingConfig
from training_jobs.config.judging import GateConfig
from training_jobs.datasets import open_tables, ranker_dataset, ranker_examples
from training_jobs.evaluate.logged import ExploredLists
from training_jobs.gates import Gate, Verdict
from training_jobs.off_policy_gate import gate_on_lists, off_policy_gate


class ByWorth:
    """A ranker that orders by the first feature, or against it."""

    def __init__(self, sign: float) -> None:
        self.sign = sign

    def adjustment(self, features: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return 1000.0 * self.sign * features[:, 0]


GOOD: Any = ByWorth(1.0)
INVERTED: Any = ByWorth(-1.0)


def asked(lists: ExploredLists, ranker: Any, rival: Any, **config: float) -> Gate:
    return gate_on_lists(lists, ranker, rival, GateConfig(**config), np.random.default_rng(0))


@pytest.fixture(scope="module")
def lists() -> ExploredLists:
    return simulated(0, lists=4000, count=4, width=4, share=0.8)[0]


def test_an_inverted_order_is_refused_and_a_better_one_passes(lists: ExploredLists) -> None:
    bad, good = asked(lists, INVERTED, GOOD), asked(lists, GOOD, INVERTED)
    assert (bad.name, bad.verdict, good.verdict) == ("off_policy", Verdict.REFUSED, Verdict.PASSED)
    assert bad.value < bad.threshold == -0.05
    assert good.value > 0.0
    assert "60% lower bound" in good.note
    assert "champion's order, 4000 lists" in good.note
    assert "click +" in good.note
    assert "strong +" in good.note


def test_without_a_champion_it_is_compared_with_what_was_shown(lists: ExploredLists) -> None:
    bad, good = (asked(lists, ranker, None) for ranker in (INVERTED, GOOD))
    assert (bad.verdict, good.verdict) == (Verdict.REFUSED, Verdict.PASSED)
    assert "lists as shown" in good.note


def test_what_cannot_be_told_is_skipped_with_the_reason(lists: ExploredLists) -> None:
    few = simulated(0, lists=60, count=4, width=2, share=0.1)[0]
    some = simulated(0, lists=900, width=2)[0]
    for found, says in (
        (asked(few, INVERTED, GOOD), "100 are needed"),
        (asked(some, INVERTED, None, off_policy_tolerance=0.01), "standard error"),
        (asked(lists, GOOD, GOOD), "effective sample size 0"),
    ):
        assert found.verdict is Verdict.SKIPPED
        assert says in found.note


def stored(folder: Path, *, lists: int = 400, explored: bool = True) -> Path:
    """Write simulated lists of three, shuffled, as a snapshot; those after the first 300 come a day later."""
    found, *_ = simulated(0, lists=lists, count=3, width=3, share=0.5)
    names, rng = INVESTORS.ranking.features, np.random.default_rng(0)
    sessions: list[dict[str, Any]] = []
    reactions: list[dict[str, Any]] = []
    features = rng.random((lists, 3, len(names)))
    for number in range(lists):
        rows = np.flatnonzero(found.group == number)
        subject, items = f"a{number % 40}", [f"s{i}" for i in rng.choice(20, 3, replace=False)]
        serve = START + timedelta(minutes=number, days=int(number >= 300))
        more: dict[str, Any] = {"propensities": found.propensity[rows].tolist()} if explored else {}
        id_ = f"l{number:04}"
        sessions.append(
            session(id_, subject, items, [0.9, 0.8, 0.7], features[number], serve_time=serve, **more)
        )
        reactions += [
            interaction(len(reactions) + at, subject, item, "like", session_id=id_, rank=at + 1)
            for at, item in enumerate(items)
            if found.click[rows[at]]
        ]
    people = [
        *named("investor", (f"a{n}" for n in range(40))),
        *named("startup", (f"s{n}" for n in range(20))),
    ]
    return snapshot_of(folder, people, reactions, sessions).folder


def gate_of(folder: Path, champion: Path | None, ranker: Any = GOOD) -> Gate:
    from matchloop.snapshot import read_snapshot

    tables, config = open_tables(read_snapshot(folder)), TrainingConfig()
    examples = ranker_dataset(
        ranker_examples(tables, INVESTORS, config.dataset),
        use_case=INVESTORS,
        snapshot="x",
        weighting=Weighting.NONE,
    )
    return off_policy_gate(ranker, champion, tables, examples, INVESTORS, config, np.random.default_rng(0))


def test_only_lists_new_to_both_count(tmp_path: Path) -> None:
    folder = stored(tmp_path / "snapshot")
    latest = re.search(r"lists as shown, (\d+) lists", gate_of(folder, None).note)
    assert latest is not None
    assert 30 <= int(latest[1]) <= 50  # a tenth of those with examples, and all between them
    late = build_release(tmp_path / "late", INVESTORS, created=START + timedelta(days=1, minutes=379))
    assert "champion's order, 20 lists" in gate_of(folder, late).note
    later = build_release(tmp_path / "later", INVESTORS, created=START + timedelta(days=2))
    assert gate_of(folder, later).note.startswith("no list new to both")


def test_without_exploration_it_is_skipped(tmp_path: Path) -> None:
    found = gate_of(stored(tmp_path, lists=20, explored=False), None)
    assert (found.verdict, found.value) == (Verdict.SKIPPED, 0.0)
    assert "varied by chance" in found.note


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderRegistry:
    found = FolderRegistry(tmp_path / "registry")
    for name, seed in (("r1", 0), ("r2", 1)):
        folder = build_release(tmp_path / name, INVESTORS, release=name, seed=seed)
        version = found.register(folder, INVESTORS.id, run_id=None, metrics={}).version
        found.set_alias(INVESTORS.id, CHAMPION, version)
    monkeypatch.setattr(off_policy, "MlflowRegistry", lambda _: found)
    return found


def test_the_command_prints_every_estimate(tmp_path: Path, registry: FolderRegistry) -> None:
    options = ["--snapshot", str(stored(tmp_path / "snapshot")), "--work", str(tmp_path), "--over", "r1"]
    found = CliRunner().invoke(app, ["off-policy", INVESTORS.id, *options], env={"COLUMNS": "200"})
    said = " ".join(found.output.split())
    assert found.exit_code == 0, found.output
    assert f"{INVESTORS.id}: r2 over r1, 400 lists" in said
    for word in ("click", "strong", "IPS", "SNIPS", "DR", "of 1,200", "may have learned"):
        assert word in said


def test_the_command_says_what_it_lacks(tmp_path: Path, registry: FolderRegistry) -> None:
    plain = stored(tmp_path / "plain", lists=5, explored=False)
    whole = stored(tmp_path / "whole")
    for folder, more, error in (
        (plain, [], TooFewExamples),
        (whole, ["--since", "2027-01-01"], TooFewExamples),
        (whole, ["--release", "nowhere"], NotFound),
    ):
        options = ["--snapshot", str(folder), "--work", str(tmp_path), *more]
        found = CliRunner().invoke(app, ["off-policy", INVESTORS.id, *options])
        assert isinstance(found.exception, error)
