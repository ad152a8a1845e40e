"""ranking_svc as it is wired, over real gRPC, between neighbours that can fail."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from matchloop.candidate.v1 import candidate_pb2
from matchloop.catalog.v1 import entity_pb2
from matchloop.errors import (
    DeadlinePassed,
    MatchloopError,
    NotFound,
    Overloaded,
    Reason,
    Unavailable,
)
from matchloop.feedback.v1 import session_pb2
from matchloop.ranking.v1 import ranking_service_pb2 as pb
from matchloop.release.registry import CHAMPION
from matchloop.rerank.features import FeatureColumns
from matchloop.rpc.channel import call
from matchloop.testing.releases import build_release
from tests.integration.ranking_rig import Rig, one_of
from tests.ranking_world import MOVIE, until


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """For tests that change nothing."""
    with Rig(tmp_path_factory.mktemp("shared")) as made:
        yield made


def test_a_recommendation_is_stored_before_the_reply(shared: Rig) -> None:
    reply = shared.recommend(count=7, explain=True)
    assert [item.rank for item in reply.items] == list(range(1, 8))
    assert (reply.tier, list(reply.degraded), reply.reranked) == (session_pb2.TIER_WARM, [], False)
    assert reply.skipped[0].reason == candidate_pb2.SKIP_REASON_MISSING
    session = shared.feedback.sessions[reply.session_id]
    assert [item.item_id for item in session.items] == [item.item_id for item in reply.items]
    assert tuple(session.feature_names) == FeatureColumns.of(MOVIE).names
    assert session.source == session_pb2.SESSION_SOURCE_RANKING
    shown = reply.items[0].explanation
    assert [feature.value for feature in shown.features] == list(session.items[0].features)
    assert shown.contributions[0].field == "embedding"
    assert 0.0 < shown.original_score < 1.0


def test_defaults_and_bounds_of_count(shared: Rig) -> None:
    assert len(shared.recommend().items) == 10
    assert len(shared.recommend(count=200).items) == 200
    assert len(shared.recommend(count=1, preview=True).items) == 1


def test_what_is_asked_reaches_candidate_svc(shared: Rig) -> None:
    filters = [
        candidate_pb2.FeatureFilter(feature="language", equals="en"),
        one_of("a", "b"),
        candidate_pb2.FeatureFilter(feature="release_year", range=candidate_pb2.Range(min=1990.0)),
    ]
    age = entity_pb2.FeatureValue(numeric=30.0)
    shared.recommend(
        exclude_item_ids=["m1", "m1"],
        filters=filters,
        subject_features={"age": age},
        methods=[session_pb2.METHOD_CONTENT],
    )
    asked = next(r for r in reversed(shared.candidates.requests) if hasattr(r, "only_item_ids"))
    assert list(asked.filters) == filters
    assert asked.subject_features["age"] == age
    assert (list(asked.exclude_item_ids), list(asked.methods)) == (["m1"], [session_pb2.METHOD_CONTENT])
    assert asked.count == 20


def test_a_clients_list_is_ranked(shared: Rig) -> None:
    reply = shared.rank("m5", "nobody", "m2")
    assert [item.item_id for item in reply.items] == ["m5", "m2"]
    assert list(reply.unknown_item_ids) == ["nobody"]
    assert reply.session_id in shared.feedback.sessions


def test_a_list_is_traced(shared: Rig) -> None:
    reply = shared.recommend(count=3)
    trace = call(shared.stub.Trace, pb.TraceRequest(session_id=reply.session_id), upstream="ranking_svc")
    assert trace.session == shared.feedback.sessions[reply.session_id]
    assert [item.score for item in trace.items] == [item.score for item in reply.items]
    with pytest.raises(NotFound) as caught:
        call(shared.stub.Trace, pb.TraceRequest(session_id="nothing"), upstream="ranking_svc")
    assert caught.value.reason is Reason.SESSION_NOT_FOUND


def test_a_use_case_that_never_had_an_experiment_has_no_results(shared: Rig) -> None:
    request = pb.GetExperimentResultsRequest(use_case=MOVIE.id)
    with pytest.raises(NotFound) as caught:
        call(shared.stub.GetExperimentResults, request, upstream="ranking_svc")
    assert caught.value.reason is Reason.EXPERIMENT_NOT_FOUND


# --- neighbours that fail


def spoil_twice(reply: Any) -> None:
    reply.candidates.append(reply.candidates[0])


def spoil_number(reply: Any) -> None:
    reply.candidates[0].score = math.nan


def spoil_huge(reply: Any) -> None:
    reply.candidates[0].score = 1e300


def spoil_features(reply: Any) -> None:
    del reply.candidates[0].features[:]


def spoil_time(reply: Any) -> None:
    reply.candidates[0].create_time.seconds = 2**62


def spoil_method(reply: Any) -> None:
    reply.candidates[0].method = 77


@pytest.mark.parametrize(
    "spoil", [spoil_twice, spoil_number, spoil_huge, spoil_features, spoil_time, spoil_method]
)
def test_a_reply_that_breaks_its_contract_is_not_used(rig: Rig, spoil: Callable[[Any], None]) -> None:
    until(rig.popular.exists)
    until(lambda: not rig.recommend().degraded)  # the first calls of a busy machine may be late
    rig.candidates.spoil = spoil
    assert list(rig.recommend().degraded) == ["candidates"]


@pytest.mark.parametrize(
    "fault",
    [Unavailable("away"), Overloaded("full"), MatchloopError("a bug")],
    ids=lambda fault: type(fault).__name__,
)
def test_without_candidate_svc_the_last_popular_list_is_shown(rig: Rig, fault: MatchloopError) -> None:
    until(rig.popular.exists)
    rig.candidates.fault = fault
    reply = rig.recommend(count=3)
    assert [item.item_id for item in reply.items] == ["m1", "m2", "m3"]  # m0 is hidden
    assert list(reply.degraded) == ["candidates"]
    assert reply.session_id in rig.feedback.sessions
    assert rig.value("degraded_total", use_case=MOVIE.id, part="candidates") == 1
    assert rig.rank("m9", "m8").items[0].item_id == "m9"


def test_without_anything_left_it_is_unavailable(rig: Rig) -> None:
    rig.candidates.fault = Unavailable("away")
    with pytest.raises(Unavailable):
        rig.recommend(use_case="developer_startup")
    assert (
        not rig.recommend(use_case="developer_startup", most=5.0).items
        if rig.candidates.fault is None
        else True
    )


def test_a_restart_without_candidate_svc_still_answers(tmp_path: Path) -> None:
    with Rig(tmp_path) as first:
        until(first.popular.exists)
        first.recommend()
    with Rig(tmp_path, candidate_address="127.0.0.1:9") as second:
        reply = second.recommend(count=3)
        assert [item.item_id for item in reply.items] == ["m1", "m2", "m3"]


def test_a_hanging_candidate_svc_leaves_time_to_answer(rig: Rig) -> None:
    until(rig.popular.exists)
    rig.candidates.gate.clear()
    began = time.monotonic()
    reply = rig.recommend(most=0.4, count=3)
    assert time.monotonic() - began < 0.4
    assert list(reply.degraded) == ["candidates"]
    assert reply.session_id in rig.feedback.sessions


def test_while_the_store_is_down_sessions_wait_and_arrive_later(rig: Rig) -> None:
    rig.feedback.fault = Unavailable("away")
    replies = [rig.recommend(count=2) for _ in range(20)]
    assert {tuple(reply.degraded) for reply in replies} == {("session_store",)}
    assert rig.value("spool_depth") == 20
    rig.feedback.fault = None
    until(lambda: len(rig.feedback.sessions) == 20, seconds=15)
    assert list(rig.feedback.sessions) == [reply.session_id for reply in replies]
    until(lambda: rig.value("spool_depth") == 0)
    until(lambda: not rig.recommend().degraded)  # the first calls of a busy machine may be late


def test_a_store_that_hangs_costs_one_request_its_time(rig: Rig) -> None:
    rig.feedback.gate.clear()
    assert list(rig.recommend(count=2).degraded) == ["session_store"]
    began = time.monotonic()
    for _ in range(10):
        assert list(rig.recommend(count=2).degraded) == ["session_store"]
    assert time.monotonic() - began < 2.0
    rig.feedback.gate.set()
    until(lambda: len(rig.feedback.sessions) == 11, seconds=15)


def test_a_deadline_that_has_passed_is_told(rig: Rig) -> None:
    rig.candidates.gate.clear()
    with pytest.raises(DeadlinePassed):
        rig.recommend(most=0.001)


# --- releases


def test_a_promoted_release_takes_over_without_a_failed_call(rig: Rig, tmp_path: Path) -> None:
    stop, seen, faults = threading.Event(), set(), []

    def ask() -> None:
        while not stop.is_set():
            try:
                seen.add(rig.recommend(count=5).release)
            except (MatchloopError, grpc.RpcError) as error:
                faults.append(error)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(ask)
        for name in ("r1", "r2"):
            folder = build_release(tmp_path / "built" / name, MOVIE, release=name)
            registered = rig.registry.register(folder, MOVIE.id, run_id=None, metrics={})
            rig.registry.set_alias(MOVIE.id, CHAMPION, registered.version)
            until(lambda name=name: name in seen, seconds=20)  # type: ignore[misc]
        stop.set()
    assert faults == []
    reply = rig.recommend()
    assert (reply.release, reply.reranked) == ("r2", True)
    assert rig.value("release_info", use_case=MOVIE.id, alias=CHAMPION, release="r2") == 1
    assert rig.value("release_age_seconds", use_case=MOVIE.id, alias=CHAMPION) > 0
    trace = call(rig.stub.Trace, pb.TraceRequest(session_id=reply.session_id), upstream="ranking_svc")
    assert trace.data_manifest_sha256 == "0" * 64
    rig.registry.available = False
    until(lambda: rig.value("release_poll_failures_total", use_case=MOVIE.id) > 0)
    assert rig.recommend().release == "r2"
