"""Every command of the manifests runs as they say: the services, and every job on what they recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest
from rich.console import Console

from matchloop.release import CHAMPION, MlflowRegistry
from matchloop.usecase import load_use_cases
from playground.clients import Addresses, Clients
from playground.load import load_market
from playground.market import Market
from playground.market.generated import Sizes
from playground.postgres import EmbeddedPostgres
from tests.deployed import JOB_SECONDS, Deployed, Secrets
from tests.e2e.waiting import recommend, until
from tests.feedback_worlds import open_folder, postgres
from tests.manifests import Manifests, built

__all__ = ["postgres"]

CONFIG = """
[als]
factors = 16
iterations = 2
trials = [{ regularization = 10.0, alpha = 10.0 }]

[two_tower]
hidden = [16]
width = 16
dropout = [0.1]
loss = "sampled_softmax"
learning_rate = 0.003
epochs = 1
examples_per_epoch = 1000
threads = 1

[evaluate]
subjects = 50
bootstrap = 20

[gates]
tolerance = 1.0
"""
"""In place of the preset: seconds, not minutes; what it makes need not be good."""
FORWARD, REVERSE = "investor_startup", "startup_investor"
SERVICES = ("matchloop-mlflow", "matchloop-feedback", "matchloop-candidate", "matchloop-ranking")


@dataclass
class Cluster:
    """What runs, its clients and its registry."""

    deployed: Deployed
    clients: Clients
    market: Market
    registry: MlflowRegistry


@pytest.fixture(scope="module")
def manifests() -> Manifests:
    return built("prod")


@pytest.fixture(scope="module")
def cluster(manifests: Manifests, postgres: EmbeddedPostgres) -> Iterator[Cluster]:
    """The production overlay, with a small market in its record."""
    market = Market.generated(
        load_use_cases(),
        seed=7,
        now=datetime.now(UTC),
        sizes=Sizes(developers=2, investors=100, startups=80, events=8.0),
    ).only((FORWARD,))
    with open_folder() as folder:
        preset = folder / "small.toml"
        preset.write_text(CONFIG)
        secrets = Secrets({"matchloop-database": {"url": postgres.create_database("deployed")}})
        deployed = Deployed(manifests, folder, secrets, {"--config=default": f"--config={preset}"})
        try:
            deployed.serve(*SERVICES)
            ports = {
                n: deployed.port(p) for n, p in (("ranking", 7300), ("feedback", 7301), ("candidate", 7302))
            }
            addresses = Addresses(**{name: f"127.0.0.1:{port}" for name, port in ports.items()})
            registry = MlflowRegistry(f"http://127.0.0.1:{deployed.port(5000)}")
            with Clients(addresses) as clients:
                load_market(clients, market, np.random.default_rng(7), Console(quiet=True))
                yield Cluster(deployed, clients, market, registry)
        finally:
            codes = deployed.stop()
    assert codes == dict.fromkeys(SERVICES, 0)


def test_services_start_and_hold_their_probes(cluster: Cluster) -> None:
    for name in SERVICES:
        (container,) = cluster.deployed.manifests.workload(name).pod["spec"]["containers"]
        for which in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert cluster.deployed.probed(container, which), f"{name}: {which}"


def test_every_job_runs_and_what_is_trained_is_served(cluster: Cluster) -> None:
    _run(cluster, "matchloop-retrain-forward", "matchloop-retention", "matchloop-export")
    champion = cluster.registry.resolve(FORWARD, CHAMPION)
    assert champion is not None
    subject = cluster.market.direction(FORWARD).subject_ids[0]
    until(lambda: _release(cluster, subject) == champion.release, "the release served")
    _run(cluster, "matchloop-monitor-forward", "matchloop-drift-forward")


def test_the_other_direction_is_the_same_but_for_its_use_case(manifests: Manifests) -> None:
    """So what runs for one runs for the other: the use case is a variable, and its claim its own."""
    ran = {"matchloop-retention", "matchloop-export"}
    for name in set(manifests.of_kind("CronJob")) - ran:
        told = {way: _told(manifests, name.rpartition("-")[0], way) for way in ("forward", "reverse")}
        assert told["forward"][0] == told["reverse"][0], name
        assert (told["forward"][1], told["reverse"][1]) == (FORWARD, REVERSE)


def _told(manifests: Manifests, job: str, way: str) -> tuple[str, str]:
    """Return a job's pod, without the way in its names, and its use case."""
    workload = manifests.workload(f"{job}-{way}")
    (container,) = workload.containers
    use_case = manifests.environment(container, Secrets({"matchloop-database": {"url": ""}}))["USE_CASE"]
    return re.sub(rf"-{way}(-[a-z0-9]{{10}})?", "", json.dumps(workload.pod, sort_keys=True)), use_case


def _run(cluster: Cluster, *jobs: str) -> None:
    """Run jobs side by side; each has to end well."""
    begun = {job: cluster.deployed.begin(job) for job in jobs}
    codes = {job: process.wait(JOB_SECONDS) for job, process in begun.items()}
    wrong = [job for job, code in codes.items() if code]
    assert not wrong, f"{codes}\n" + "\n".join(cluster.deployed.log(job.split("-")[1]) for job in wrong)


def _release(cluster: Cluster, subject: str) -> str:
    return recommend(cluster.clients, FORWARD, subject, preview=True).release
