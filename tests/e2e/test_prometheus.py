"""A real Prometheus scrapes the running services and what jobs push: every panel and every alert has data."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from matchloop.candidate.v1 import candidate_service_pb2 as candidate_pb
from matchloop.catalog.v1 import catalog_service_pb2 as catalog_pb
from matchloop.catalog.v1.entity_pb2 import EntityKey
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from matchloop.feedback.v1.dislike_pb2 import Dislike
from matchloop.feedback.v1.interaction_pb2 import Interaction
from matchloop.feedback.v1.session_pb2 import METHOD_ALS
from matchloop.observe.job_metrics import ADDRESS, told_job
from matchloop.release import CHAMPION, MlflowRegistry
from matchloop.testing.releases import build_release
from matchloop.usecase import load_use_cases
from playground.clients import Clients
from playground.load import load_entities
from playground.market import Market
from playground.market.generated import Sizes
from playground.processes import free_port
from playground.stack import Ports, Stack
from tests.e2e.waiting import recommend, until, until_recommended
from tests.e2e.watching import Prometheus, prometheus, pushgateway
from tests.feedback_worlds import open_folder
from tests.promql import panels, rules
from tests.tools import program
from training_jobs.commands.drift import tell_drift
from training_jobs.commands.retrain import tell_retrained
from training_jobs.drift.verdict import Drift, FeatureDrift
from training_jobs.experiments import start_experiment
from training_jobs.gates import Gate, Verdict
from training_jobs.operations import Operations
from training_jobs.retrain import Retrained

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

USE_CASE = "developer_startup"
VARIABLES = {"$__rate_interval": "1m", "$use_case": ".+"}
SETTINGS = {
    "FEEDBACK_REACTION_GAUGE_SECONDS": "1",
    "RANKING_EXPERIMENT_POLL_SECONDS": "0.5",
    "RANKING_EXPERIMENT_GAUGE_SECONDS": "1",
    "RANKING_EXPLORATION_SHARES": f"{USE_CASE}=0.5",
}


@dataclass(frozen=True, slots=True)
class Watched:
    """A stack whose loop was gone through once, and the Prometheus that looks at it."""

    prometheus: Prometheus
    stack: Stack
    metrics_ports: dict[str, int]
    gateway: str


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    for name in ("prometheus", "prometheus-pushgateway"):
        program(name)
    ports = {name: free_port() for name in ("ranking", "feedback", "candidate")}
    settings = SETTINGS | {f"{name.upper()}_METRICS_PORT": str(port) for name, port in ports.items()}
    with open_folder() as folder, pushgateway(folder) as gateway, pytest.MonkeyPatch.context() as environment:
        for name, value in {**settings, ADDRESS: gateway}.items():
            environment.setenv(name, value)
        targets = {f"matchloop-{name}": port for name, port in ports.items()}
        targets["matchloop-pushgateway"] = int(gateway.rpartition(":")[2])
        stack = Stack(folder / "stack", ports=Ports.free(), poll_seconds=0.5)
        with stack, prometheus(folder, targets) as running:
            go_round(stack, folder)
            yield Watched(running, stack, ports, gateway)
            for service in (stack.ranking, stack.candidate, stack.feedback):
                assert service is not None
                service.kill()  # how they drain is another test's; it takes seconds


def go_round(stack: Stack, folder: Path) -> None:
    """Load a market, run the jobs, serve lists of two releases and react to them."""
    sizes = Sizes(developers=40, investors=2, startups=60)
    market = Market.generated(load_use_cases(), seed=3, now=datetime.now(UTC), sizes=sizes)
    subjects = market.direction(USE_CASE).subject_ids
    with stack.clients() as clients:
        for entities in market.only((USE_CASE,)).entities.values():
            load_entities(clients, entities)
        until_recommended(clients, USE_CASE, subjects[0])
        with jobs(stack, folder):
            begin_experiment(stack, folder)
            until(lambda: served(clients, subjects[:12]) == {"r1", "r2"}, "both releases", seconds=90.0)
        als = candidate_pb.GetCandidatesRequest(
            use_case=USE_CASE, subject_id=subjects[0], methods=[METHOD_ALS]
        )
        clients.candidate.GetCandidates(als, timeout=10)  # which neither has
        for subject in subjects:
            react(clients, subject)
        gone = EntityKey(kind=load_use_cases()[USE_CASE].subject, id=subjects[-1])
        clients.catalog.EraseEntity(catalog_pb.EraseEntityRequest(key=gone), timeout=10)
    tell_training()


def served(clients: Clients, subjects: Sequence[str]) -> set[str]:
    """Return the releases that make their lists."""
    return {recommend(clients, USE_CASE, subject, preview=True).release for subject in subjects}


def begin_experiment(stack: Stack, folder: Path) -> None:
    registry = MlflowRegistry(stack.registry_uri)
    for seed, release in enumerate(("r1", "r2")):
        built = build_release(folder / release, load_use_cases()[USE_CASE], release=release, seed=seed)
        registered = registry.register(built, USE_CASE, run_id=None, metrics={})
        if release == "r1":
            registry.set_alias(USE_CASE, CHAMPION, registered.version)
    with Operations(stack.addresses.feedback) as operations:
        start_experiment(
            registry, operations, USE_CASE, share=0.5, challenger="r2", clock=lambda: datetime.now(UTC)
        )


def react(clients: Clients, subject: str) -> None:
    """Ask for a list, click its first item, like its second, reject its last."""
    shown = recommend(clients, USE_CASE, subject)
    events = [
        Interaction(
            interaction_id=str(uuid.uuid4()),
            use_case=USE_CASE,
            subject_id=subject,
            item_id=item.item_id,
            event_type=event,
            session_id=shown.session_id,
        )
        for item, event in zip(shown.items, ("click", "like"), strict=False)
    ]
    clients.feedback.RecordInteractions(
        feedback_pb.RecordInteractionsRequest(interactions=events), timeout=10
    )
    dislike = Dislike(
        dislike_id=str(uuid.uuid4()),
        use_case=USE_CASE,
        subject_id=subject,
        item_id=shown.items[-1].item_id,
        reason="wrong_category",
        session_id=shown.session_id,
    )
    clients.feedback.RecordDislike(feedback_pb.RecordDislikeRequest(dislike=dislike), timeout=10)


@contextmanager
def jobs(stack: Stack, folder: Path) -> Iterator[None]:
    """Run those of feedback_svc meanwhile."""
    environment = {
        **os.environ,
        "FEEDBACK_DATABASE_URL": stack.database_url,
        "FEEDBACK_RETAIN_VIEWS_DAYS": "30",
    }
    commands = ["export", "--out", str(folder / "snapshot")], ["retention"]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", f"feedback_svc.{name}", *told],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name, *told in commands
    ]
    try:
        yield
    finally:
        codes = [job.wait(120) for job in started]
    assert codes == [0, 0]


def tell_training() -> None:
    """Tell what training jobs would, the way they do; what they came to is made up: a real one takes long."""
    with told_job("monitor", USE_CASE):
        pass
    with told_job("retrain", USE_CASE) as metrics:
        gates = [
            Gate("size_mb", 3.0, 500.0, Verdict.PASSED),
            Gate("ranker_ndcg@10", 0.2, 0.3, Verdict.REFUSED),
        ]
        done = Retrained(USE_CASE, "r3", promoted=False, gates=gates, metrics={}, seconds={"train": 9.0})
        tell_retrained(metrics, done)
    with told_job("drift", USE_CASE) as metrics:
        recency = FeatureDrift(
            "recency", 0.4, 0.02, 0.27, 0.0, drifted=True, before=(0.5, 0.5), now=(0.1, 0.9)
        )
        tell_drift(metrics, USE_CASE, Drift("r1", (recency,)))


def test_all_are_scraped(watched: Watched) -> None:
    def all_up() -> bool:
        return [each["value"][1] for each in watched.prometheus.ask("up")] == ["1"] * 4

    until(all_up, "four targets that answer")


def test_every_panel_has_data(watched: Watched) -> None:
    asked = {
        f"{panel.title}: {each}": with_variables(each) for panel in panels() for each in panel.expressions
    }

    def unanswered() -> list[str]:
        for number in range(8):  # lists between two scrapes: a quantile of a rate of nothing is no number
            recommend(clients, USE_CASE, f"anybody-{number}")
        return [where for where, each in asked.items() if not numbers(watched.prometheus.ask(each))]

    with watched.stack.clients() as clients:
        with contextlib.suppress(AssertionError):  # what is still missing then is told below
            until(lambda: not unanswered(), "numbers in every panel")
        assert unanswered() == []


def numbers(found: list[dict[str, Any]]) -> list[float]:
    """Return the values that are numbers: a share of nothing is none."""
    return [value for each in found if math.isfinite(value := float(each["value"][1]))]


def with_variables(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def test_every_alert_compares_something_and_says_it_in_words(watched: Watched) -> None:
    def silent() -> set[str]:
        return {rule.name for rule in rules("alerts.yaml")} - set(watched.prometheus.alerts())

    with contextlib.suppress(AssertionError):
        until(lambda: not silent(), "every alert")
    assert silent() == set()
    for name, fired in watched.prometheus.alerts().items():
        for alert in fired:
            said = " ".join(alert["annotations"].values())
            assert "error expanding" not in said, (name, said)
            assert "<no value>" not in said, (name, said)
            summary = alert["annotations"]["summary"]
            assert "  " not in f"{summary} ".replace("matchloop-export  ", "").replace("  failed", ""), (
                summary
            )


def test_rules_are_healthy(watched: Watched) -> None:
    groups = watched.prometheus.get("rules")["groups"]
    told = {rule["name"]: rule.get("lastError", "") for group in groups for rule in group["rules"]}
    assert len(told) == len(rules("alerts.yaml")) + len(rules("rules.yaml"))
    assert not any(told.values()), told


@pytest.mark.parametrize("name", ["ranking", "feedback", "candidate"])
def test_what_a_service_shows_is_as_prometheus_wants_it(watched: Watched, name: str) -> None:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{watched.metrics_ports[name]}/metrics", timeout=5
    ) as reply:
        shown = reply.read()
    command = [str(program("promtool")), "check", "metrics"]
    done = subprocess.run(command, input=shown, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
