"""Two processes of each service, calls going round: the same lists, every session in the one record."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from matchloop.feedback.v1.feedback_service_pb2 import GetSessionRequest
from matchloop.feedback.v1.session_pb2 import Session
from matchloop.ranking.v1.ranking_service_pb2 import RecommendResponse
from playground.clients import Addresses, Clients
from playground.market import Market
from playground.processes import ServiceProcess, free_port
from playground.stack import Stack
from tests.e2e.conftest import USE_CASE
from tests.e2e.waiting import recommend, until, until_recommended

pytestmark = pytest.mark.processes

LISTS = 8
"""Of each subject: enough for every one of eight paths."""


@dataclass(frozen=True)
class Doubled:
    """Clients that go round two processes of each service, and where the second ones tell their metrics."""

    clients: Clients
    metrics: dict[str, int]

    def calls(self, service: str, method: str) -> float:
        """Return how many calls of a method the second process has answered."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics[service]}/metrics", timeout=5) as reply:
            told = reply.read().decode()
        found = re.search(rf'^matchloop_grpc_requests_total{{[^}}]*"{method}"[^}}]*}} (\S+)', told, re.M)
        return float(found[1]) if found else 0.0


@pytest.fixture
def doubled(stack: Stack, market: Market, tmp_path: Path) -> Iterator[Doubled]:
    with ExitStack() as ending:
        second: list[ServiceProcess] = []
        metrics: dict[str, int] = {}

        def start(name: str, **settings: str) -> str:
            port, metrics[name] = free_port(), free_port()
            prefix = name.removesuffix("_svc").upper()
            whole = {**settings, "PORT": str(port), "METRICS_PORT": str(metrics[name])}
            own = {f"{prefix}_{key}": value for key, value in whole.items()}
            service = ServiceProcess(name, port, own, tmp_path / f"{name}.log")
            service.start()
            ending.callback(service.stop)
            second.append(service)
            return f"ipv4:127.0.0.1:{stack.port_of(name)},{service.address}"

        feedback = start("feedback_svc", DATABASE_URL=stack.database_url)
        candidate = start(
            "candidate_svc",
            FEEDBACK_ADDRESS=feedback,
            REGISTRY_URI=stack.registry_uri,
            CACHE_FOLDER=str(tmp_path / "candidate"),
        )
        ranking = start(
            "ranking_svc",
            FEEDBACK_ADDRESS=feedback,
            CANDIDATE_ADDRESS=candidate,
            REGISTRY_URI=stack.registry_uri,
            STATE_FOLDER=str(tmp_path / "ranking"),
        )
        for service in second:
            service.wait_serving()
        clients = ending.enter_context(Clients(Addresses(feedback, candidate, ranking)))
        until_recommended(clients, USE_CASE, market.direction(USE_CASE).subject_ids[0])
        yield Doubled(clients, metrics)


CALLS = (
    ("ranking_svc", "Recommend"),
    ("candidate_svc", "GetCandidates"),
    ("feedback_svc", "LookupSubjectState"),
    ("feedback_svc", "RecordSessions"),
)


def test_lists_are_the_same_whichever_process_answers(doubled: Doubled, market: Market) -> None:
    before = [doubled.calls(*each) for each in CALLS]
    asked = 0
    for subject in market.direction(USE_CASE).subject_ids[:3]:

        def agreed(subject: str = subject) -> list[RecommendResponse]:
            """Return lists if all are alike: one may have the release of other tests yet to read."""
            nonlocal asked
            asked += LISTS
            lists = [recommend(doubled.clients, USE_CASE, subject) for _ in range(LISTS)]
            alike = all(items_of(each) == items_of(lists[0]) for each in lists)
            return lists if alike else []

        lists = until(agreed, "the same lists")
        for each in lists:
            assert not each.degraded
            assert scores_of(each) == pytest.approx(scores_of(lists[0]), abs=1e-4)  # their ages differ
            stored = GetSessionRequest(session_id=each.session_id)
            assert items_of(doubled.clients.feedback.GetSession(stored, timeout=5).session) == items_of(each)
    answered = [doubled.calls(*each) - earlier for each, earlier in zip(CALLS, before, strict=True)]
    assert all(0 < number < asked for number in answered), answered


def items_of(shown: RecommendResponse | Session) -> list[str]:
    return [item.item_id for item in shown.items]


def scores_of(shown: RecommendResponse) -> list[float]:
    return [item.score for item in shown.items]
