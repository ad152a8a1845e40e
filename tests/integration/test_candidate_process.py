"""candidate_svc beside the real feedback_svc (its store in memory), and as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from candidate_svc.__main__ import build
from candidate_svc.settings import CandidateSettings
from feedback_svc.serving import build_server
from feedback_svc.store.memory import MemoryStore
from matchloop.candidate.v1 import candidate_service_pb2 as pb
from matchloop.candidate.v1.candidate_service_pb2_grpc import CandidateServiceStub
from matchloop.catalog.v1 import catalog_service_pb2, entity_pb2
from matchloop.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from matchloop.entities import Multi
from matchloop.errors import Unavailable
from matchloop.feedback.v1 import dislike_pb2, feedback_service_pb2, interaction_pb2, session_pb2
from matchloop.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from matchloop.rpc.channel import call, open_channel
from matchloop.rpc.convert import entity_to_proto
from matchloop.rpc.server import Server
from matchloop.rpc.settings import ServerSettings
from matchloop.testing.registries import FolderRegistry
from tests.candidate_release import write_release
from tests.candidate_world import USE_CASE, USE_CASES, FakeStore, developer, event, startups, state
from tests.fake_feedback import SERVING, fake_feedback, until

ROOT = Path(__file__).parents[2]


def real_feedback(port: int = 0) -> Server:
    server = build_server(ServerSettings(port=port), MemoryStore(), USE_CASES, lambda: datetime.now(UTC))
    return server.start()


@dataclass
class Pair:
    """Both services and clients of theirs."""

    feedback: Server
    candidates: Any
    catalog: Any
    record: Any

    def upsert(self, *entities: Any) -> None:
        request = catalog_service_pb2.UpsertEntitiesRequest(
            entities=[entity_to_proto(each) for each in entities]
        )
        call(self.catalog.UpsertEntities, request, upstream="feedback_svc")

    def get(self, count: int = 500) -> Any:
        request = pb.GetCandidatesRequest(use_case=USE_CASE, subject_id="d1", count=count)
        return call(self.candidates.GetCandidates, request, upstream="candidate_svc")

    def ids(self) -> list[str]:
        return [each.item_id for each in self.get().candidates]

    def react(self, name: str, item: str, event_type: str) -> None:
        interaction = interaction_pb2.Interaction(
            interaction_id=name, use_case=USE_CASE, subject_id="d1", item_id=item, event_type=event_type
        )
        request = feedback_service_pb2.RecordInteractionsRequest(interactions=[interaction])
        call(self.record.RecordInteractions, request, upstream="feedback_svc")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    feedback = real_feedback()
    application = build(
        CandidateSettings(feedback_address=feedback.address, poll_seconds=0.05, cache_folder=tmp_path)
    )
    application.start()
    application.server.start()
    channel, upstream = open_channel(application.server.address), open_channel(feedback.address)
    made = Pair(
        feedback, CandidateServiceStub(channel), CatalogServiceStub(upstream), FeedbackServiceStub(upstream)
    )
    assert application.mirror.wait_ready(10.0)
    yield made
    channel.close()
    upstream.close()
    assert application.server.stop() == 0
    made.feedback.stop()


def test_a_subject_reads_its_own_writes_and_items_come_and_go(pair: Pair) -> None:
    pair.upsert(*startups(30), developer("d1", categories=Multi(("games",))))
    assert until(lambda: len(pair.ids()) == 30)
    best = pair.get(1).candidates[0]
    assert best.method == session_pb2.METHOD_CONTENT
    pair.react("i1", best.item_id, "like")
    assert best.item_id not in pair.ids()
    dislike = dislike_pb2.Dislike(
        dislike_id="x1", use_case=USE_CASE, subject_id="d1", item_id="s6", reason="wrong_category"
    )
    request = feedback_service_pb2.RecordDislikeRequest(dislike=dislike)
    call(pair.record.RecordDislike, request, upstream="feedback_svc")
    assert "s6" not in pair.ids()
    for number in range(4):
        pair.react(f"v{number}", "s9", "view")
    assert pair.get().tier == session_pb2.TIER_WARM
    assert until(
        lambda: any(each.features[0] > 0.0 for each in pair.get().candidates if each.item_id == "s9")
    )
    key = entity_pb2.EntityKey(kind="startup", id="s11")
    call(
        pair.catalog.DeactivateEntities,
        catalog_service_pb2.DeactivateEntitiesRequest(keys=[key]),
        upstream="feedback_svc",
    )
    assert until(lambda: "s11" not in pair.ids())


def upserted(pair: Pair) -> bool:
    """Upsert; tells whether the service could be reached."""
    try:
        pair.upsert(*startups(5))
    except Unavailable:
        return False
    return True


def test_another_store_at_the_same_address_is_listed_anew(pair: Pair) -> None:
    pair.upsert(*startups(30))
    assert until(lambda: len(pair.ids()) == 30)
    port = pair.feedback.port
    pair.feedback.stop()
    assert until(lambda: list(pair.get().degraded) == ["feedback"])
    assert len(pair.ids()) == 30
    pair.feedback = real_feedback(port)
    upstream = open_channel(pair.feedback.address)
    pair.catalog = CatalogServiceStub(upstream)
    assert until(lambda: upserted(pair))
    assert until(lambda: len(pair.ids()) == 5)
    assert list(pair.get().degraded) == []
    upstream.close()


def test_a_promoted_release_is_taken_up_while_requests_run(tmp_path: Path) -> None:
    items = startups(40)
    store = FakeStore(page=50)
    store.upsert(*items)
    store.states["d1"] = state(None, [event("s2"), event("s6")], interaction_count=10)
    feedback, _ = fake_feedback(store)
    feedback.start()
    registry = FolderRegistry(tmp_path / "registry")
    settings = CandidateSettings(
        feedback_address=feedback.address,
        poll_seconds=0.05,
        release_poll_seconds=0.05,
        cache_folder=tmp_path / "cache",
    )
    application = build(settings, registry)
    application.start()
    application.server.start()
    channel = open_channel(application.server.address)
    stub = CandidateServiceStub(channel)
    assert application.mirror.wait_ready(10.0)

    def release() -> str:
        request = pb.GetCandidatesRequest(use_case=USE_CASE, subject_id="d1")
        reply = call(stub.GetCandidates, request, upstream="candidate_svc")
        assert len(reply.candidates) == 20
        expected = session_pb2.METHOD_TWO_TOWER if reply.release else session_pb2.METHOD_CONTENT
        assert reply.candidates[0].method == expected
        return str(reply.release)

    assert release() == ""
    for name in ("r1", "r2"):
        folder = write_release(tmp_path / name, items, release=name)
        registered = registry.register(folder, USE_CASE, run_id=None, metrics={})
        registry.set_alias(USE_CASE, "champion", registered.version)
        assert until(lambda name=name: release() == name)  # type: ignore[misc]
    channel.close()
    assert application.server.stop() == 0
    feedback.stop()


@pytest.mark.processes
def test_a_process_says_when_it_is_ready_serves_and_ends_on_sigterm(tmp_path: Path) -> None:
    store = FakeStore(page=50)
    store.upsert(*startups(20))
    feedback, _ = fake_feedback(store)
    feedback.start()
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "candidate_svc"],
        cwd=tmp_path,
        env=os.environ
        | {
            "CANDIDATE_FEEDBACK_ADDRESS": feedback.address,
            "CANDIDATE_CACHE_FOLDER": str(tmp_path),
            "CANDIDATE_LOG_LEVEL": "ERROR",
            "PYTHONPATH": str(ROOT),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = json.loads(process.stdout.readline())["address"]
    channel = open_channel(address)
    health = health_pb2_grpc.HealthStub(channel)
    assert until(lambda: health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == SERVING)
    request = pb.GetCandidatesRequest(use_case=USE_CASE, subject_id="d1", count=40)
    reply = call(CandidateServiceStub(channel).GetCandidates, request, upstream="candidate_svc")
    assert len(reply.candidates) == 20
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    with pytest.raises(Unavailable):
        call(CandidateServiceStub(channel).GetCandidates, request, upstream="candidate_svc")
    process.stdout.close()
    channel.close()
    feedback.stop()


@pytest.mark.processes
def test_faulty_settings_are_named_all_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "candidate_svc"],
        cwd=tmp_path,
        env={**os.environ, "CANDIDATE_POLL_SECONDS": "-1", "CANDIDATE_PORT": "x", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    for name in ("CANDIDATE_FEEDBACK_ADDRESS", "CANDIDATE_POLL_SECONDS", "CANDIDATE_PORT"):
        assert name in done.stderr
