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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matchloop.candidate.v1 import candidate_pb2
from matchloop.catalog.v1 import entity_pb2
from matchloop.errors import (
    DeadlinePassed,
    InvalidInput,
    MatchloopError,
    NotFound,
    NotImplementedYet,
    Overloaded,
    Reason,
    Unavailable,
)
from matchloop.feedback.v1 import session_pb2
from matchloop.ranking.v1 import ranking_service_pb2 as pb
from matchloop.ranking.v1 import ranking_service_pb2_grpc
from matchloop.release.registry import CHAMPION
from matchloop.rerank.features import FeatureColumns
from matchloop.rpc.channel import call, open_channel
from matchloop.testing.registries import FolderRegistry
from matchloop.testing.releases import build_release
from ranking_svc.__main__ import build
from ranking_svc.settings import RankingSettings
from tests.integration.ranking_neighbours import (
    make_candidates,
    make_feedback,
    serve_candidates,
    serve_feedback,
)
from tests.ranking_world import MOVIE
from tests.unit.test_ranking_session_log import until

LONG = "x" * 129


class Rig:
    """The service, its neighbours and a client."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.candidates, self.feedback = make_candidates(), make_feedback()
        self.neighbours = [serve_candidates(self.candidates), serve_feedback(self.feedback)]
        self.popular = folder / "cache" / "popular" / f"{MOVIE.id}.json"
        self.registry = FolderRegistry(folder / "registry")
        options = {
            "candidate_address": self.neighbours[0].address,
            "feedback_address": self.neighbours[1].address,
            "cache": folder / "cache",
            "spool": folder / "spool",
            "candidate_timeout_seconds": 1.0,
            "session_timeout_seconds": 0.3,
            "poll_seconds": 0.02,
            "popular_refresh_seconds": 0.05,
            "grace_seconds": 0.0,
            **changes,
        }
        self.server = build(RankingSettings(**options), self.registry).start()
        self.channel = open_channel(self.server.address)
        self.stub = ranking_service_pb2_grpc.RankingServiceStub(self.channel)

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self.candidates.gate.set()
        self.feedback.gate.set()
        self.channel.close()
        self.server.stop()
        for neighbour in self.neighbours:
            neighbour.stop()

    def recommend(self, most: float = 5.0, **fields: Any) -> pb.RecommendResponse:
        request = pb.RecommendRequest(**{"use_case": MOVIE.id, "subject_id": "u1", **fields})
        return call(self.stub.Recommend, request, upstream="ranking_svc", most=most)

    def rank(self, *items: str, **fields: Any) -> pb.RankResponse:
        request = pb.RankRequest(use_case=MOVIE.id, subject_id="u1", **fields)
        request.items.extend(pb.RankItem(item_id=item) for item in items)
        return call(self.stub.Rank, request, upstream="ranking_svc")

    def value(self, name: str, **labels: str) -> float:
        return self.server.metrics.value(f"matchloop_{name}", **labels)


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


def test_experiments_are_not_there_yet(shared: Rig) -> None:
    request = pb.GetExperimentResultsRequest(use_case=MOVIE.id)
    with pytest.raises(NotImplementedYet):
        call(shared.stub.GetExperimentResults, request, upstream="ranking_svc")


# --- bad input


def filter_of(feature: str = "genres", **test: Any) -> candidate_pb2.FeatureFilter:
    return candidate_pb2.FeatureFilter(feature=feature, **test)


def one_of(*values: str) -> candidate_pb2.FeatureFilter:
    message = candidate_pb2.FeatureFilter(feature="genres")
    getattr(message, "in").values.extend(values)
    getattr(message, "in").SetInParent()
    return message


BAD_RECOMMENDS: list[tuple[dict[str, Any], list[str]]] = [
    ({"use_case": ""}, ["use_case"]),
    ({"use_case": "Not a name"}, ["use_case"]),
    ({"subject_id": ""}, ["subject_id"]),
    ({"subject_id": LONG}, ["subject_id"]),
    ({"subject_id": "a\nb"}, ["subject_id"]),
    ({"count": -1}, ["count"]),
    ({"count": 201}, ["count"]),
    ({"exclude_item_ids": ["", "m1", LONG]}, ["exclude_item_ids[0]", "exclude_item_ids[2]"]),
    ({"exclude_item_ids": [f"m{i}" for i in range(1001)]}, ["exclude_item_ids"]),
    ({"filters": [filter_of(equals="x")] * 17}, ["filters"]),
    ({"filters": [filter_of(equals="x"), filter_of()]}, ["filters[1].test"]),
    ({"filters": [filter_of("nothing", equals="x")]}, ["filters[0].feature"]),
    ({"filters": [filter_of("", equals="x")]}, ["filters[0].feature"]),
    ({"filters": [filter_of("release_year", equals="x")]}, ["filters[0].equals"]),
    ({"filters": [filter_of(equals="")]}, ["filters[0].equals"]),
    ({"filters": [one_of()]}, ["filters[0].in.values"]),
    (
        {"filters": [one_of("a", "")]},
        ["filters[0].in.values[1]"],
    ),
    ({"filters": [filter_of(range=candidate_pb2.Range(min=1.0))]}, ["filters[0].range"]),
    ({"filters": [filter_of("release_year", range=candidate_pb2.Range())]}, ["filters[0].range"]),
    (
        {"filters": [filter_of("release_year", range=candidate_pb2.Range(min=math.nan, max=math.inf))]},
        ["filters[0].range.min", "filters[0].range.max"],
    ),
    (
        {"filters": [filter_of("release_year", range=candidate_pb2.Range(min=2.0, max=1.0))]},
        ["filters[0].range"],
    ),
    (
        {"subject_features": {"age": entity_pb2.FeatureValue(numeric=math.nan)}},
        ['subject_features["age"]'],
    ),
    ({"subject_features": {"nothing": entity_pb2.FeatureValue(numeric=1)}}, ['subject_features["nothing"]']),
    ({"subject_features": {"age": entity_pb2.FeatureValue(text="x")}}, ['subject_features["age"]']),
    ({"methods": [0]}, ["methods[0]"]),
    ({"methods": [99]}, ["methods[0]"]),
    ({"methods": [1, 2, 1]}, ["methods[2]"]),
    ({"methods": [1, 2, 3, 4, 5, 1]}, ["methods"]),
    (
        {"subject_id": "", "count": -3, "methods": [0], "use_case": ""},
        ["use_case", "subject_id", "count", "methods[0]"],
    ),
]


@pytest.mark.parametrize(("fields", "expected"), BAD_RECOMMENDS)
def test_every_violated_field_of_a_recommend_is_named(
    shared: Rig, fields: dict[str, Any], expected: list[str]
) -> None:
    before = len(shared.feedback.sessions)
    with pytest.raises(InvalidInput) as caught:
        shared.recommend(**fields)
    assert caught.value.reason is Reason.INVALID_INPUT
    assert [violation.field for violation in caught.value.violations] == expected
    assert len(shared.feedback.sessions) == before


BAD_RANKS: list[tuple[list[pb.RankItem], list[str]]] = [
    ([], ["items"]),
    ([pb.RankItem(item_id=f"m{i}") for i in range(201)], ["items"]),
    ([pb.RankItem(item_id="m1"), pb.RankItem()], ["items[1].item_id"]),
    ([pb.RankItem(item_id="m1"), pb.RankItem(item_id=LONG)], ["items[1].item_id"]),
    ([pb.RankItem(item_id="m1"), pb.RankItem(item_id="m1")], ["items[1].item_id"]),
    ([pb.RankItem(item_id="m1", score=math.nan)], ["items[0].score"]),
    ([pb.RankItem(item_id="m1", score=-math.inf)], ["items[0].score"]),
    ([pb.RankItem(item_id="m1", score=1.0), pb.RankItem(item_id="m2")], ["items[1].score"]),
]


@pytest.mark.parametrize(("items", "expected"), BAD_RANKS)
def test_every_violated_field_of_a_rank_is_named(
    shared: Rig, items: list[pb.RankItem], expected: list[str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        shared.rank(items=items)
    assert [violation.field for violation in caught.value.violations] == expected


@pytest.mark.parametrize("method", ["Recommend", "Rank", "GetExperimentResults"])
def test_an_unknown_use_case_is_not_found(shared: Rig, method: str) -> None:
    requests = {
        "Recommend": pb.RecommendRequest(use_case="unknown", subject_id="u1"),
        "Rank": pb.RankRequest(use_case="unknown", subject_id="u1", items=[pb.RankItem(item_id="m1")]),
        "GetExperimentResults": pb.GetExperimentResultsRequest(use_case="unknown"),
    }
    with pytest.raises(NotFound) as caught:
        call(getattr(shared.stub, method), requests[method], upstream="ranking_svc")
    assert caught.value.reason is Reason.USE_CASE_NOT_FOUND


def test_an_empty_session_id_cannot_be_traced(shared: Rig) -> None:
    with pytest.raises(InvalidInput):
        call(shared.stub.Trace, pb.TraceRequest(), upstream="ranking_svc")


SOME_TEXT = st.one_of(st.sampled_from(["", "m1", "genres", MOVIE.id, LONG]), st.text(max_size=8))
ODD_FLOATS = st.floats(allow_nan=True, allow_infinity=True)
FILTERS = st.builds(
    candidate_pb2.FeatureFilter, feature=st.sampled_from(["genres", "release_year", "title", ""])
) | st.builds(
    lambda low, high: filter_of("release_year", range=candidate_pb2.Range(min=low, max=high)),
    ODD_FLOATS,
    ODD_FLOATS,
)
RECOMMENDS = st.builds(
    pb.RecommendRequest,
    use_case=st.sampled_from([MOVIE.id, "developer_startup", "", "nothing"]),
    subject_id=SOME_TEXT,
    count=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 200),
    exclude_item_ids=st.lists(SOME_TEXT, max_size=4),
    filters=st.lists(FILTERS, max_size=2),
    methods=st.lists(st.integers(-1, 7), max_size=6),
    explain=st.booleans(),
    preview=st.booleans(),
)
RANKS = st.builds(
    pb.RankRequest,
    use_case=st.sampled_from([MOVIE.id, "", "nothing"]),
    subject_id=SOME_TEXT,
    items=st.lists(
        st.builds(pb.RankItem, item_id=SOME_TEXT, score=st.none() | ODD_FLOATS | st.floats(0, 1)), max_size=6
    ),
    explain=st.booleans(),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=st.one_of(RECOMMENDS, RANKS))
def test_any_request_is_answered_or_told_what_is_wrong(shared: Rig, request: Any) -> None:
    method: Any = shared.stub.Recommend if isinstance(request, pb.RecommendRequest) else shared.stub.Rank
    try:
        reply: Any = call(method, request, upstream="ranking_svc")
    except (InvalidInput, NotFound):
        return
    assert [item.rank for item in reply.items] == list(range(1, len(reply.items) + 1))
    assert len({item.item_id for item in reply.items}) == len(reply.items)
    assert all(math.isfinite(item.score) for item in reply.items)


# --- neighbours that fail


def spoil_twice(reply: Any) -> None:
    reply.candidates.append(reply.candidates[0])


def spoil_number(reply: Any) -> None:
    reply.candidates[0].score = math.nan


def spoil_huge(reply: Any) -> None:
    reply.candidates[0].score = 1e300


def spoil_features(reply: Any) -> None:
    del reply.candidates[0].features[:]


def spoil_method(reply: Any) -> None:
    reply.candidates[0].method = 77


@pytest.mark.parametrize("spoil", [spoil_twice, spoil_number, spoil_huge, spoil_features, spoil_method])
def test_a_reply_that_breaks_its_contract_is_not_used(rig: Rig, spoil: Callable[[Any], None]) -> None:
    until(rig.popular.exists)
    assert list(rig.recommend().degraded) == []
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
    assert list(rig.recommend().degraded) == []


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
    assert rig.value("release_info", use_case=MOVIE.id, release="r2") == 1
    assert rig.value("release_age_seconds", use_case=MOVIE.id) > 0
    trace = call(rig.stub.Trace, pb.TraceRequest(session_id=reply.session_id), upstream="ranking_svc")
    assert trace.data_manifest_sha256 == "0" * 64
    rig.registry.available = False
    until(lambda: rig.value("release_poll_failures_total", use_case=MOVIE.id) > 0)
    assert rig.recommend().release == "r2"
