"""A stack whose champion was trained on its own record, as small as is still a release."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rich.console import Console

from matchloop.candidate.v1 import candidate_service_pb2 as candidate_pb
from matchloop.release import CHAMPION, MlflowRegistry
from matchloop.usecase import load_use_cases
from playground.clients import Clients
from playground.load import load_market
from playground.market import Market
from playground.market.generated import Sizes
from playground.stack import Ports, Stack
from tests.e2e.waiting import until

USE_CASE = "developer_startup"
REVERSE = "startup_developer"
CONFIG = """
[als]
factors = 32
iterations = 5
trials = [{ regularization = 10.0, alpha = 10.0 }]

[two_tower]
hidden = [64]
width = 32
dropout = [0.1]
loss = "sampled_softmax"
learning_rate = 0.003
epochs = 4
examples_per_epoch = 8000
threads = 1

[gates]
tolerance = 1.0
"""
"""Undemanding: tests on it are about serving, not about how good the release is."""

SMALL = {"COLUMNS": "200", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Environment of a job: wide tables, and no more threads than so little data needs."""


@dataclass(frozen=True)
class Trained:
    """A running stack, its market, and the release that it serves for `USE_CASE`."""

    stack: Stack
    market: Market
    clients: Clients
    release: str

    def candidates(self, subject_id: str, **more: object) -> candidate_pb.GetCandidatesResponse:
        """Ask candidate_svc."""
        request = candidate_pb.GetCandidatesRequest(use_case=USE_CASE, subject_id=subject_id, **more)  # type: ignore[arg-type]
        return self.clients.candidate.GetCandidates(request, timeout=10.0)


def retrained(stack: Stack, config: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the command an operator runs, from a fresh export to the promotion."""
    output = retraining(stack, config, *more)
    out, err = output.communicate(timeout=300)
    return subprocess.CompletedProcess(output.args, output.returncode, out, err)


def retraining(stack: Stack, config: str, *more: str) -> subprocess.Popen[str]:
    """Start it."""
    return _jobs(stack, config, "retrain", *more)


def drifted(stack: Stack, config: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Ask how far what is served has left what was trained on."""
    process = _jobs(stack, config, "drift", *more)
    out, err = process.communicate(timeout=150)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _jobs(stack: Stack, config: str, command: str, *more: str) -> subprocess.Popen[str]:
    file = stack.folder / "small.toml"
    file.write_text(config, encoding="utf-8")
    told = (command, USE_CASE, "--config", str(file), "--work", str(stack.folder / "training"))
    where = ("--registry", stack.registry_uri, "--feedback", stack.addresses.feedback)
    return subprocess.Popen(
        [sys.executable, "-m", "training_jobs", *told, *where, *more],
        env={**os.environ, **SMALL, "FEEDBACK_DATABASE_URL": stack.database_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def trained_stack(folder: Path, new_registry: Callable[[Path], str]) -> Iterator[Trained]:
    """Start everything, load a market, train, promote, and wait until the release is served."""
    sizes = Sizes(developers=200, investors=2, startups=150, events=8.0)
    market = Market.generated(load_use_cases(), seed=7, now=datetime.now(UTC), sizes=sizes)
    market = market.only((USE_CASE, REVERSE))
    with Stack(folder, ports=Ports.free(), poll_seconds=0.5) as stack, stack.clients() as clients:
        load_market(clients, market, np.random.default_rng(7), Console(quiet=True))
        new_registry(folder / "mlflow")
        done = retrained(stack, CONFIG)
        assert done.returncode == 0, done.stdout + done.stderr
        champion = MlflowRegistry(stack.registry_uri).resolve(USE_CASE, CHAMPION)
        assert champion is not None, done.stdout
        made = Trained(stack, market, clients, champion.release)
        until(lambda: made.candidates("nobody", count=1).release == champion.release, "the release served")
        yield made
