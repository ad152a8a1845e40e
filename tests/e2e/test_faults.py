"""Releases come and go under load: no call fails, and a bad one changes nothing."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import grpc
import pytest

from matchloop.release import MlflowRegistry
from matchloop.testing.releases import build_release
from matchloop.usecase import load_use_cases
from playground.clients import Clients
from playground.market import Market
from playground.stack import Stack
from tests.e2e.conftest import USE_CASE
from tests.e2e.waiting import recommend, until

pytestmark = pytest.mark.processes


class Callers:
    """Four clients that ask for lists until they are told to stop."""

    def __init__(self, stack: Stack, subjects: list[str]) -> None:
        self._stack = stack
        self._subjects = subjects
        self._stopping = threading.Event()
        self.calls = 0
        self.failures: list[str] = []
        self.releases: set[str] = set()
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(4)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)

    def _call(self, n: int) -> None:
        with self._stack.clients() as clients:
            while not self._stopping.is_set():
                try:
                    reply = recommend(clients, USE_CASE, self._subjects[n])
                except grpc.RpcError as error:
                    self.failures.append(str(error))
                else:
                    self.calls += 1
                    self.releases.add(reply.release)


def promote(stack: Stack, folder: Path, release: str, *, seed: int) -> None:
    use_case = load_use_cases()[USE_CASE]
    registry = MlflowRegistry(stack.registry_uri)
    built = build_release(folder / release, use_case, release=release, seed=seed)
    registered = registry.register(built, USE_CASE, run_id=None, metrics={})
    registry.set_alias(USE_CASE, "champion", registered.version)


def test_a_promoted_release_is_picked_up_without_a_failed_call(
    stack: Stack, market: Market, tmp_path: Path
) -> None:
    subjects = market.direction(USE_CASE).subject_ids[10:14]
    with Callers(stack, list(subjects)) as callers:
        for seed, release in enumerate(("swap-1", "swap-2", "swap-3")):
            promote(stack, tmp_path, release, seed=seed)
            until(lambda wanted=release: wanted in callers.releases, f"release {release} in the replies")  # type: ignore[misc]
    assert callers.failures == []
    assert callers.calls > 20


def test_a_corrupt_release_changes_nothing(
    stack: Stack, clients: Clients, market: Market, tmp_path: Path
) -> None:
    subject = market.direction(USE_CASE).subject_ids[15]
    promote(stack, tmp_path, "sound", seed=5)
    until(lambda: recommend(clients, USE_CASE, subject).release == "sound", "the sound release")
    registry = MlflowRegistry(stack.registry_uri)
    broken = build_release(tmp_path / "broken", load_use_cases()[USE_CASE], release="broken", seed=6)
    registered = registry.register(broken, USE_CASE, run_id=None, metrics={})
    network = next(
        manifest.parent / "ranker" / "ranker.onnx"
        for manifest in (stack.folder / "mlflow").rglob("manifest.json")
        if '"broken"' in manifest.read_text()
    )
    network.write_bytes(network.read_bytes()[:-7] + b"corrupt")
    registry.set_alias(USE_CASE, "champion", registered.version)
    assert stack.ranking is not None
    until(lambda: "release broken: ranker/ranker.onnx" in stack.ranking.log.read_text(), "a refusal")  # type: ignore[union-attr]
    assert recommend(clients, USE_CASE, subject).release == "sound"
    promote(stack, tmp_path, "after", seed=7)
    until(lambda: recommend(clients, USE_CASE, subject).release == "after", "the next sound release")


def test_ids_are_unique_per_call(clients: Clients, market: Market) -> None:
    subject = market.direction(USE_CASE).subject_ids[22]
    sessions = {recommend(clients, USE_CASE, subject).session_id for _ in range(5)}
    assert len(sessions) == 5
    assert all(uuid.UUID(session) for session in sessions)
