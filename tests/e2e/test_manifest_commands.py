"""Every command of the manifests runs as they say: the services, and every job on what they recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr
from rich.console import Console

from matchloop.release import CHAMPION, MlflowRegistry
from matchloop.rpc.credentials import ClientCredentials, ClientSettings
from matchloop.rpc.tokens import Scope, entry, new_token
from matchloop.usecase import load_use_cases
from playground.certificates import Authority
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

pytestmark = [pytest.mark.processes, pytest.mark.timeout(500)]

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
HOLDERS = {
    "candidate": frozenset({Scope.READ}),
    "ranking": frozenset({Scope.READ, Scope.FEEDBACK}),
    "jobs": frozenset({Scope.READ, Scope.ADMIN}),
    "client": frozenset({Scope.READ, Scope.FEEDBACK, Scope.CATALOGUE}),
}
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
    return built("prod-secure")


@pytest.fixture(scope="module")
def cluster(manifests: Manifests, postgres: EmbeddedPostgres) -> Iterator[Cluster]:
    """The production overlay with certificates and tokens, and a small market in its record."""
    market = Market.generated(
        load_use_cases(),
        seed=7,
        now=datetime.now(UTC),
        sizes=Sizes(developers=2, investors=100, startups=80, events=8.0),
    ).only((FORWARD,))
    with open_folder() as folder:
        preset = folder / "small.toml"
        preset.write_text(CONFIG)
        secrets = _secrets(manifests, folder, postgres.create_database("deployed"))
        deployed = Deployed(manifests, folder, secrets, {"--config=default": f"--config={preset}"})
        try:
            deployed.serve(*SERVICES)
            ports = {
                n: deployed.port(p) for n, p in (("ranking", 7300), ("feedback", 7301), ("candidate", 7302))
            }
            addresses = Addresses(**{name: f"127.0.0.1:{port}" for name, port in ports.items()})
            registry = MlflowRegistry(f"http://127.0.0.1:{deployed.port(5000)}")
            with Clients(addresses, credentials=_credentials(folder, secrets)) as clients:
                load_market(clients, market, np.random.default_rng(7), Console(quiet=True))
                yield Cluster(deployed, clients, market, registry)
        finally:
            codes = deployed.stop()
    assert codes == dict.fromkeys(SERVICES, 0)


def _secrets(manifests: Manifests, folder: Path, database: str) -> Secrets:
    """Make what operators bring, and what cert-manager issues."""
    authority, found = Authority(folder / "authority"), Secrets({"matchloop-database": {"url": database}})
    for name, certificate in manifests.of_kind("Certificate").items():
        if not certificate["spec"].get("isCA"):
            issued = authority.issue(name, hosts=[*certificate["spec"]["dnsNames"], "127.0.0.1"])
            files = {"tls.crt": issued.certificate, "tls.key": issued.key, "ca.crt": authority.certificate}
            found[certificate["spec"]["secretName"]] = {n: file.read_text() for n, file in files.items()}
    tokens = {name: new_token() for name in HOLDERS}
    entries = [entry(name, tokens[name], scopes, None) for name, scopes in HOLDERS.items()]
    found["matchloop-tokens"] = {"tokens.toml": "\n".join(entries)}
    found["matchloop-client-tokens"] = tokens
    return found


def _credentials(folder: Path, secrets: Secrets) -> ClientCredentials:
    """Return what a client of another namespace shows: a certificate and a token of its own."""
    issued = folder / "authority" / "matchloop-jobs"
    return ClientCredentials(
        ClientSettings(
            ca_file=folder / "authority" / "ca.pem",
            cert_file=issued.with_suffix(".pem"),
            key_file=issued.with_suffix(".key"),
            token=SecretStr(secrets["matchloop-client-tokens"]["client"]),
        )
    )


def test_services_start_and_hold_their_probes(cluster: Cluster) -> None:
    """Those of readiness held already: `Deployed.serve` waits for them."""
    for name in SERVICES:
        (container,) = cluster.deployed.manifests.workload(name).pod["spec"]["containers"]
        asked = [
            {k: container[p].get(k) for k in ("exec", "grpc", "httpGet")}
            for p in ("startupProbe", "livenessProbe")
        ]
        assert asked[0] == asked[1]
        assert cluster.deployed.probed(name, "livenessProbe"), name


def test_every_job_runs_and_what_is_trained_is_served(cluster: Cluster) -> None:
    _run(cluster, "matchloop-retrain-forward", "matchloop-retention", "matchloop-export")
    champion = cluster.registry.resolve(FORWARD, CHAMPION)
    assert champion is not None
    subject = cluster.market.direction(FORWARD).subject_ids[0]
    until(lambda: _release(cluster, subject) == champion.release, "the release served", seconds=60.0)
    # The record before the registry, which is what a pod does with its containers.
    assert cluster.deployed.run("matchloop-backup", "record") == 0, cluster.deployed.log("record")
    _run(cluster, "matchloop-monitor-forward", "matchloop-drift-forward", "matchloop-backup")


def test_the_other_direction_is_the_same_but_for_its_use_case(manifests: Manifests) -> None:
    """So what runs for one runs for the other: the use case is a variable, and its claim its own."""
    ran = {"matchloop-retention", "matchloop-export", "matchloop-backup"}
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
