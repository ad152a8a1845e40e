"""A bad release, trained with labels inverted: refused, tried on a share, forced through, taken back.

A market whose hidden preferences decide what its subjects click, like and reject; services, jobs, registry
and PostgreSQL as they are.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from matchloop.acts import Act, ActKind
from matchloop.experiments.arms import CHALLENGER_ARM, CHAMPION_ARM
from matchloop.experiments.experiment import Experiment
from matchloop.ranking.v1 import ranking_service_pb2 as ranking_pb
from matchloop.release import CHALLENGER, CHAMPION, MlflowRegistry
from matchloop.usecase import load_use_cases
from playground.clients import Clients
from playground.demo.rounds import Contestant, ask, react
from playground.demo.scoreboard import Policy
from playground.load import load_market
from playground.market import Market
from playground.market.generated import Sizes
from playground.processes import free_port
from playground.stack import Ports, Stack
from ranking_svc.experiments import arm_in
from tests.e2e.trained import SMALL, retrained
from tests.e2e.waiting import recommend, until, until_recommended
from tests.feedback_worlds import open_folder
from training_jobs.operations import Operations

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]

USE_CASE = "developer_startup"
DEVELOPERS = 300
ROUNDS = 3
SECONDS = 5.0
"""Monitoring interval."""
PATIENCE = 120.0
"""A job's imports alone take long on a busy machine."""
CONFIG = """
seed = {seed}

[dataset]
attribution_minutes = 0.0
validation_share = 0.3

[als]
factors = 16
iterations = 3
trials = [{{ regularization = 10.0, alpha = 10.0 }}]

[two_tower]
hidden = [16]
width = 16
dropout = [0.0]
epochs = 1
examples_per_epoch = 2000
threads = 1

[ranker]
least_positives = 50
epochs = 40
teacher_seen = {teacher_seen}
learning_rate = 0.02

[gates]
tolerance = 1.0

[guards]
confidence = 0.8
least_items = 300
dislike_margin = 0.0
strong_positive_margin = 0.0
settle_minutes = 0.0
"""
"""Small; ranking is judged as strictly as ever, and guards are sure after thousands of items already."""
GOOD, BAD = 1, 2
"""Seeds of the two trainings."""


def settings(seed: int) -> str:
    """Return the settings of a training; the bad one sees its teacher, to turn its order round."""
    return CONFIG.format(seed=seed, teacher_seen=str(seed == BAD).lower())


@dataclass
class Guarded:
    """A stack with a champion `good` and a refused release `bad`."""

    stack: Stack
    market: Market
    clients: Clients
    metrics_url: str
    good: str = ""
    bad: str = ""
    refusal: str = ""
    rounds: int = 0
    where: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.where = ("--registry", self.stack.registry_uri, "--feedback", self.stack.addresses.feedback)

    @property
    def subjects(self) -> tuple[str, ...]:
        return tuple(self.market.direction(USE_CASE).subject_ids)

    def champion(self) -> str:
        found = MlflowRegistry(self.stack.registry_uri).resolve(USE_CASE, CHAMPION)
        return found.release if found else ""

    def config(self, seed: int) -> str:
        path = self.stack.folder / f"small{seed}.toml"
        path.write_text(settings(seed), encoding="utf-8")
        return str(path)

    def traffic(self) -> None:
        """Every subject is shown a list and does with it what it does."""
        self.rounds += 1
        shown = Contestant(Policy.LOOP, self.clients, preview=False)
        with Progress(disable=True) as progress:
            answers = ask(shown, USE_CASE, self.subjects, progress)
        react(self.market, USE_CASE, answers, self.rounds, self.clients)

    def job(self, *command: str, expected: int = 0) -> str:
        """Run a command of the jobs to its end; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env={**os.environ, **SMALL, "FEEDBACK_DATABASE_URL": self.stack.database_url},
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout

    def promote(self, *options: str, expected: int) -> str:
        """Run `promote` of the bad release."""
        given = ("--snapshot", str(self.stack.folder / "later"), "--config", self.config(BAD))
        rest = ("--work", str(self.stack.folder / "training"), *self.where[:2], *options)
        return self.job("training_jobs", "promote", USE_CASE, *given, *rest, expected=expected)

    def acts(self) -> tuple[Act, ...]:
        with Operations(self.stack.addresses.feedback) as operations:
            return operations.acts(USE_CASE)


def plant(made: Guarded) -> None:
    """Train the champion on lists in the rule's order, then the bad release on the champion's lists."""
    for _ in range(ROUNDS):
        made.traffic()
    done = retrained(made.stack, settings(GOOD))
    assert done.returncode == 0, done.stdout + done.stderr
    made.good = made.champion()
    until(lambda: recommend(made.clients, USE_CASE, "nobody", preview=True).release == made.good, "served")
    for _ in range(ROUNDS):
        made.traffic()
    snapshot, work = str(made.stack.folder / "later"), str(made.stack.folder / "training")
    made.job("feedback_svc.export", "--out", snapshot)
    where = (USE_CASE, snapshot, made.stack.registry_uri, made.config(BAD), work)
    made.bad = made.job("tests.e2e.inverted", *where).strip().splitlines()[-1]
    made.refusal = made.promote(expected=3)


@pytest.fixture(scope="module")
def guarded(new_registry: Callable[[Path], str]) -> Iterator[Guarded]:
    sizes = Sizes(developers=DEVELOPERS, investors=2, startups=150, events=8.0)
    market = Market.generated(load_use_cases(), seed=11, now=datetime.now(UTC), sizes=sizes).only((USE_CASE,))
    port = free_port()
    with pytest.MonkeyPatch.context() as patch, open_folder() as folder:
        patch.setenv("RANKING_METRICS_PORT", str(port))
        patch.setenv("RANKING_EXPERIMENT_POLL_SECONDS", "0.2")
        with Stack(folder, ports=Ports.free(), poll_seconds=0.5) as stack, stack.clients() as clients:
            load_market(clients, market, np.random.default_rng(11), Console(quiet=True))
            until_recommended(clients, USE_CASE, market.direction(USE_CASE).subject_ids[0])
            made = Guarded(stack, market, clients, f"http://127.0.0.1:{port}/metrics")
            new_registry(folder / "mlflow")
            plant(made)
            yield made


# --- an experiment


def answers_of(made: Guarded) -> dict[str, tuple[str, str]]:
    """Ask for every subject without showing it; returns arm and release by subject."""
    replies = {each: recommend(made.clients, USE_CASE, each, preview=True) for each in made.subjects}
    return {subject: (reply.arm, reply.release) for subject, reply in replies.items()}


def reached(made: Guarded) -> bool:
    """Whether ranking_svc answers over a connection that saw it go and waits before it tries again."""
    with suppress(grpc.RpcError):
        return bool(recommend(made.clients, USE_CASE, "nobody", preview=True).items)
    return False


def test_an_experiment_gives_its_share_the_challenger_and_tells_what_came_of_it(guarded: Guarded) -> None:
    made = guarded
    assert {arm for arm, _ in answers_of(made).values()} == {""}
    begun = made.job(
        *("training_jobs", "experiment", "start", USE_CASE, "--share", "0.3", "--release", made.bad),
        *made.where,
    )
    assert made.bad in begun
    with Operations(made.stack.addresses.feedback) as operations:
        experiment = operations.running_experiment(USE_CASE)
    assert experiment is not None
    expected = {
        subject: ("challenger", made.bad)
        if arm_in(experiment, subject) == CHALLENGER_ARM
        else ("champion", made.good)
        for subject in made.subjects
    }
    until(lambda: answers_of(made) == expected, "every arm with its release")
    share = sum(arm == CHALLENGER_ARM for arm, _ in expected.values()) / len(expected)
    assert 0.19 < share < 0.41  # 4 standard errors

    # Another process deals alike, even while the store cannot tell it of the experiment.
    assert made.stack.ranking is not None
    made.stack.ranking.kill()
    made.stack.ranking.start()
    made.stack.ranking.wait_serving()
    until(lambda: reached(made), "our own connection")
    until(lambda: answers_of(made) == expected, "the same arms after a restart")

    made.traffic()
    check_results(made, experiment)
    stopped = made.job(
        *("training_jobs", "experiment", "stop", USE_CASE, "--reason", "seen enough"), *made.where
    )
    assert "seen enough" in stopped
    assert MlflowRegistry(made.stack.registry_uri).resolve(USE_CASE, CHALLENGER) is None
    alone = dict.fromkeys(made.subjects, ("", made.good))
    until(lambda: answers_of(made) == alone, "the champion for everybody")
    told = made.clients.ranking.GetExperimentResults(
        ranking_pb.GetExperimentResultsRequest(use_case=USE_CASE), timeout=20
    )
    assert (told.stopped, told.stop_reason) == (True, "seen enough")
    kinds = [act.kind for act in made.acts()]
    assert kinds[:2] == [ActKind.EXPERIMENT_STOPPED, ActKind.EXPERIMENT_STARTED]


def check_results(made: Guarded, experiment: Experiment) -> None:
    """Results by arm by RPC are those of the lists of one round."""
    told = made.clients.ranking.GetExperimentResults(
        ranking_pb.GetExperimentResultsRequest(use_case=USE_CASE), timeout=20
    )
    champion, challenger = told.arms
    assert (champion.arm, champion.release) == (CHAMPION_ARM, made.good)
    assert (challenger.arm, challenger.release) == (CHALLENGER_ARM, made.bad)
    assert champion.subjects + challenger.subjects == len(made.subjects)
    assert challenger.subjects == sum(arm_in(experiment, each) == CHALLENGER_ARM for each in made.subjects)
    assert (champion.shown, challenger.shown) == (10 * champion.sessions, 10 * challenger.sessions)
    assert challenger.expected_share == pytest.approx(0.3)
    assert told.sample_ratio_p_value > 0.05
    assert not told.stopped
    for arm in told.arms:
        for rate in (arm.click_rate, arm.strong_positive_rate, arm.dislike_rate):
            assert 0.0 <= rate.low <= rate.rate <= rate.high <= 1.0
    assert champion.click_rate.rate > challenger.click_rate.rate
    ahead = told.difference.click_rate
    assert ahead.low < ahead.rate < ahead.high
    assert ahead.rate == pytest.approx(challenger.click_rate.rate - champion.click_rate.rate)
    printed = made.job("training_jobs", "experiment", "results", USE_CASE, *made.where[2:])
    assert f"{challenger.click_rate.rate:.4f}" in printed


# --- the guard


@dataclass(frozen=True)
class Monitor:
    """The monitor as a process of its own, and what it logs."""

    process: subprocess.Popen[bytes]
    log: Path

    def logged(self, event: str) -> list[dict[str, object]]:
        lines = [line for line in self.log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
        return [found for line in lines if (found := json.loads(line))["event"] == event]

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """Keep it from looking at lists whose reactions are still to come."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def monitoring(made: Guarded) -> Iterator[Monitor]:
    """Run the monitor beside the services."""
    log = made.stack.folder / "monitor.log"
    command = ("monitor", USE_CASE, "--every", str(SECONDS), "--metrics", made.metrics_url)
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "training_jobs", *command, "--config", made.config(BAD), *made.where],
            stdout=subprocess.DEVNULL,
            stderr=out,
        )
    try:
        yield Monitor(child, log)
    finally:
        child.terminate()
        child.wait(20)


def test_a_planted_release_is_refused_and_forced_through_it_is_rolled_back_by_the_guard(
    guarded: Guarded,
) -> None:
    made = guarded
    # Refused by the gate, and visible; nothing changed.
    refused = [line for line in made.refusal.splitlines() if "refused" in line]
    assert any("ranker_ndcg" in line for line in refused), made.refusal
    assert made.champion() == made.good
    assert made.bad in [each.release for each in MlflowRegistry(made.stack.registry_uri).list(USE_CASE)]

    with monitoring(made) as monitor:
        until(lambda: monitor.logged("nothing_to_guard"), "a first look", seconds=PATIENCE)
        with monitor.held_up():
            # Forced through.
            made.promote("--force", expected=0)
            assert made.champion() == made.bad
            until(
                lambda: recommend(made.clients, USE_CASE, "nobody", preview=True).release == made.bad,
                "served",
            )
            for _ in range(ROUNDS):
                made.traffic()
        # The next look sees what has happened, and acts.
        with suppress(AssertionError):
            until(lambda: monitor.logged("rolled_back"), "the rollback", seconds=PATIENCE)
        assert monitor.logged("rolled_back"), monitor.log.read_text(encoding="utf-8")
        until(
            lambda: recommend(made.clients, USE_CASE, "nobody", preview=True).release == made.good,
            "the release before",
        )
    held = [line for line in monitor.logged("guards_held") if line["release"] == made.bad]
    assert not [line for line in held if "strong_positive_rate 0.0000 of 0" not in str(line["guards"])]
    assert made.champion() == made.good

    # The log and the act say why, with the numbers.
    (line,) = monitor.logged("rolled_back")
    assert line["release"] == made.bad
    assert "rate" in str(line["reason"])
    act = made.acts()[0]
    assert (act.kind, act.automatic, act.release) == (ActKind.ROLLED_BACK, True, made.bad)
    assert act.reason == line["reason"]
    numbers = {number.name: number for number in act.numbers}
    strong = numbers["strong_positive_rate"]
    assert strong.threshold is not None
    worse = [strong.value < strong.threshold]
    disliked = numbers["dislike_rate"]
    assert disliked.threshold is not None
    worse.append(disliked.value > disliked.threshold)
    assert any(worse)
    known = MlflowRegistry(made.stack.registry_uri).list(USE_CASE)
    taken_back = next(each for each in known if each.release == made.bad)
    assert taken_back.rollback_reason == act.reason

    # Made again from the same data and settings, it is not promoted again.
    assert "rolled_back" in made.promote(expected=3)
