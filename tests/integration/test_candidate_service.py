"""candidate_svc over real gRPC, wired as in production, on a fake feedback service; in one process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candidate_svc.__main__ import Application, build
from candidate_svc.settings import CandidateSettings
from matchloop.candidate.v1 import candidate_pb2
from matchloop.candidate.v1 import candidate_service_pb2 as pb
from matchloop.candidate.v1.candidate_service_pb2_grpc import CandidateServiceStub
from matchloop.catalog.v1 import entity_pb2
from matchloop.entities import Categorical, Multi
from matchloop.errors import InvalidInput, MatchloopError, NotFound, Reason, Unavailable
from matchloop.feedback.v1 import session_pb2
from matchloop.rerank.features import FeatureColumns
from matchloop.rpc.channel import call, open_channel
from matchloop.rpc.server import Server
from matchloop.usecase import load_use_cases
from tests.candidate_world import USE_CASE, FakeStore, developer, event, startup, startups, state, stats
from tests.fake_feedback import SERVING, FakeFeedback, fake_feedback, until


@dataclass
class Rig:
    store: FakeStore
    feedback: FakeFeedback
    upstream: Server
    application: Application
    stub: Any
    channel: grpc.Channel

    def get(self, **request: Any) -> Any:
        message = pb.GetCandidatesRequest(**{"use_case": USE_CASE, "subject_id": "d1", **request})
        return call(self.stub.GetCandidates, message, upstream="candidate_svc")

    def health(self) -> int:
        stub = health_pb2_grpc.HealthStub(self.channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status)

    def value(self, name: str, **labels: str) -> float:
        return self.application.server.metrics.value(name, **labels)


def start(store: FakeStore, cache: Path, *, upstream_up: bool = True) -> Rig:
    upstream, feedback = fake_feedback(store)
    upstream.start()
    address = upstream.address
    if not upstream_up:
        upstream.stop()
    application = build(
        CandidateSettings(feedback_address=address, poll_seconds=0.05, cache_folder=cache, lookup_seconds=0.3)
    )
    application.start()
    application.server.start()
    channel = open_channel(application.server.address)
    return Rig(store, feedback, upstream, application, CandidateServiceStub(channel), channel)


def stop(rig: Rig) -> None:
    rig.channel.close()
    assert rig.application.server.stop() == 0
    rig.upstream.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A rig that tests only read."""
    store = FakeStore(page=50)
    store.upsert(*startups(120))
    store.count(stats("s1", views=3, weight=2.0), stats("s5", weight=9.0))
    store.states["d1"] = state(
        developer("d1", categories=Multi(("games",))), [event("s2"), event("s6", "dislike")]
    )
    rig = start(store, tmp_path_factory.mktemp("cache"))
    assert until(lambda: rig.health() == SERVING)
    yield rig
    stop(rig)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    store = FakeStore()
    store.upsert(*startups(20))
    made = start(store, tmp_path)
    assert until(lambda: made.health() == SERVING)
    yield made
    stop(made)


def text(value: str) -> entity_pb2.FeatureValue:
    return entity_pb2.FeatureValue(text=value)


def values(*given: str) -> entity_pb2.FeatureValue:
    return entity_pb2.FeatureValue(multi=entity_pb2.Values(values=given))


def filter_(feature: str, **test: Any) -> candidate_pb2.FeatureFilter:
    if "in_" in test:
        test = {"in": candidate_pb2.ValueSet(values=test["in_"])}
    return candidate_pb2.FeatureFilter(feature=feature, **test)


def range_(**sides: float) -> candidate_pb2.Range:
    return candidate_pb2.Range(**sides)


NAN, INFINITE = float("nan"), float("inf")
LONG = "x" * 129

BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({"use_case": ""}, ["use_case"]),
    ({"use_case": "Not A Name"}, ["use_case"]),
    ({"subject_id": ""}, ["subject_id"]),
    ({"subject_id": LONG}, ["subject_id"]),
    ({"subject_id": "a\x00b"}, ["subject_id"]),
    ({"count": -1}, ["count"]),
    ({"count": 501}, ["count"]),
    ({"exclude_item_ids": ["ok", "", LONG]}, ["exclude_item_ids[1]", "exclude_item_ids[2]"]),
    ({"exclude_item_ids": ["x"] * 1001}, ["exclude_item_ids"]),
    ({"only_item_ids": [""]}, ["only_item_ids[0]"]),
    ({"only_item_ids": ["x"] * 501}, ["only_item_ids"]),
    ({"methods": [0]}, ["methods[0]"]),
    ({"methods": [99]}, ["methods[0]"]),
    ({"methods": [1, 2, 1]}, ["methods[2]"]),
    ({"methods": [1, 2, 3, 4, 5, 1]}, ["methods"]),
    ({"filters": [filter_("category", equals="x")] * 17}, ["filters"]),
    ({"filters": [filter_("nothing", equals="x")]}, ["filters[0].feature"]),
    ({"filters": [filter_("", equals="x")]}, ["filters[0].feature"]),
    ({"filters": [filter_("category")]}, ["filters[0].test"]),
    ({"filters": [filter_("category", equals="")]}, ["filters[0].equals"]),
    ({"filters": [filter_("category", equals="x" * 257)]}, ["filters[0].equals"]),
    ({"filters": [filter_("founded_year", equals="2001")]}, ["filters[0].equals"]),
    ({"filters": [filter_("name", equals="x")]}, ["filters[0].equals"]),
    ({"filters": [filter_("embedding", in_=["x"])]}, ["filters[0].in"]),
    ({"filters": [filter_("tags", in_=[])]}, ["filters[0].in.values"]),
    ({"filters": [filter_("tags", in_=["x"] * 101)]}, ["filters[0].in.values"]),
    ({"filters": [filter_("tags", in_=["x", ""])]}, ["filters[0].in.values[1]"]),
    ({"filters": [filter_("category", range=range_(min=1.0))]}, ["filters[0].range"]),
    ({"filters": [filter_("founded_year", range=range_(min=NAN))]}, ["filters[0].range.min"]),
    ({"filters": [filter_("founded_year", range=range_(max=INFINITE))]}, ["filters[0].range.max"]),
    ({"filters": [filter_("founded_year", range=range_(min=3.0, max=2.0))]}, ["filters[0].range"]),
    ({"subject_features": {"nothing": values("x")}}, ['subject_features["nothing"]']),
    ({"subject_features": {"role": values("x")}}, ['subject_features["role"]']),
    ({"subject_features": {"role": entity_pb2.FeatureValue()}}, ['subject_features["role"]']),
    ({"subject_features": {"tags": values("x", "x")}}, ['subject_features["tags"][1]']),
    ({"subject_features": {"name": text("x" * 8193)}}, ['subject_features["name"]']),
    (
        {
            "subject_features": {
                "embedding": entity_pb2.FeatureValue(embedding=entity_pb2.Embedding(values=[1.0]))
            }
        },
        ['subject_features["embedding"]'],
    ),
    (
        {
            "subject_features": {
                "embedding": entity_pb2.FeatureValue(embedding=entity_pb2.Embedding(values=[NAN] * 384))
            }
        },
        ['subject_features["embedding"][0]'],
    ),
    ({"subject_features": {f"f{i}": values("x") for i in range(65)}}, ["subject_features"]),
    (
        {
            "subject_id": "",
            "count": -5,
            "methods": [99],
            "only_item_ids": [LONG],
            "filters": [filter_("role")],
        },
        ["subject_id", "count", "only_item_ids[0]", "filters[0].feature", "filters[0].test", "methods[0]"],
    ),
]


@pytest.mark.parametrize(("request_", "fields"), BAD, ids=[",".join(fields) for _, fields in BAD])
def test_bad_input_names_every_field(shared: Rig, request_: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        shared.get(**request_)
    assert caught.value.reason is Reason.INVALID_INPUT
    assert [violation.field for violation in caught.value.violations] == fields


def test_bad_input_of_the_other_calls(shared: Rig) -> None:
    def fields(method: Any, request: Any) -> list[str]:
        with pytest.raises(InvalidInput) as caught:
            call(method, request, upstream="candidate_svc")
        return [violation.field for violation in caught.value.violations]

    bad = [filter_("nothing", equals="x")]
    similar = pb.GetSimilarItemsRequest(use_case="", item_id=LONG, count=-1, filters=bad)
    assert fields(shared.stub.GetSimilarItems, similar) == ["use_case", "item_id", "count"]
    trending = pb.ListTrendingRequest(use_case=USE_CASE, page_size=-1, page_token="?", filters=bad)
    assert fields(shared.stub.ListTrending, trending) == ["filters[0].feature", "page_size", "page_token"]


def test_unknown_use_case_and_item(shared: Rig) -> None:
    with pytest.raises(NotFound) as caught:
        shared.get(use_case="no_such_case")
    assert caught.value.reason is Reason.USE_CASE_NOT_FOUND
    request = pb.GetSimilarItemsRequest(use_case=USE_CASE, item_id="nobody")
    with pytest.raises(NotFound) as caught:
        call(shared.stub.GetSimilarItems, request, upstream="candidate_svc")
    assert caught.value.reason is Reason.ENTITY_NOT_FOUND


def test_candidates_with_all_that_ranking_needs(shared: Rig) -> None:
    reply = shared.get(count=40, explain=True)
    assert reply.tier == session_pb2.TIER_COLD
    assert reply.candidates[0].method == session_pb2.METHOD_CONTENT
    assert reply.candidates[0].contributions[0].field == "categories~category"
    assert len(reply.candidates) == 40
    declared = FeatureColumns.of(load_use_cases()[USE_CASE]).item_names
    assert {"popularity", "subject_affinity"} <= set(reply.feature_names)
    assert set(reply.feature_names) == set(declared) - {"recency"}
    assert {len(each.features) for each in reply.candidates} == {len(reply.feature_names)}
    assert {len(each.diversity_values) for each in reply.candidates} == {3}
    assert all(each.HasField("create_time") for each in reply.candidates)
    assert list(reply.degraded) == []


def test_defaults_and_bounds(shared: Rig) -> None:
    assert len(shared.get().candidates) == 20
    assert len(shared.get(count=500).candidates) == 120
    assert len(shared.get(count=2, only_item_ids=["s1", "s9", "s9", "no"]).candidates) == 2


def test_trending_and_similar(shared: Rig) -> None:
    request = pb.ListTrendingRequest(use_case=USE_CASE, page_size=50)
    seen: list[str] = []
    while True:
        reply = call(shared.stub.ListTrending, request, upstream="candidate_svc")
        seen += [each.item_id for each in reply.candidates]
        request.page_token = reply.next_page_token
        if not request.page_token:
            break
    assert seen[:2] == ["s5", "s1"]
    assert len(seen) == len(set(seen)) == 120
    similar = pb.GetSimilarItemsRequest(use_case=USE_CASE, item_id="s0", count=3)
    reply = call(shared.stub.GetSimilarItems, similar, upstream="candidate_svc")
    assert all(int(each.item_id[1:]) % 12 == 0 for each in reply.candidates)


names = st.text(max_size=140) | st.sampled_from(["s1", "s2", "category", "tags", "founded_year", "d1"])
numbers = st.floats(allow_nan=True, allow_infinity=True)
feature_values = st.one_of(
    st.builds(entity_pb2.FeatureValue, categorical=names),
    st.builds(lambda given: values(*given), st.lists(names, max_size=3)),
    st.builds(entity_pb2.FeatureValue, numeric=numbers),
    st.just(entity_pb2.FeatureValue()),
    st.builds(
        lambda given: entity_pb2.FeatureValue(embedding=entity_pb2.Embedding(values=given)),
        st.lists(st.floats(width=32), max_size=3) | st.just([0.5] * 384) | st.just([0.0] * 384),
    ),
)
filter_messages = st.one_of(
    st.builds(candidate_pb2.FeatureFilter, feature=names, equals=names),
    st.builds(lambda name, given: filter_(name, in_=given), names, st.lists(names, max_size=3)),
    st.builds(
        lambda name, low, high: filter_(name, range=range_(min=low, max=high)), names, numbers, numbers
    ),
    st.builds(candidate_pb2.FeatureFilter, feature=names),
)
requests = st.builds(
    pb.GetCandidatesRequest,
    use_case=st.sampled_from([USE_CASE, "startup_investor", "user_movie", "unknown", "", "?"]),
    subject_id=names,
    count=st.integers(-3, 600),
    exclude_item_ids=st.lists(names, max_size=5),
    filters=st.lists(filter_messages, max_size=3),
    subject_features=st.dictionaries(names, feature_values, max_size=3),
    methods=st.lists(st.integers(0, 7), max_size=6),
    explain=st.booleans(),
    only_item_ids=st.lists(names, max_size=5),
)


def answer_of(rig: Rig, request: pb.GetCandidatesRequest) -> Any:
    try:
        return call(rig.stub.GetCandidates, request, upstream="candidate_svc")
    except MatchloopError as error:
        return error


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests)
def test_any_request_is_answered_or_refused_with_a_reason(
    shared: Rig, request_: pb.GetCandidatesRequest
) -> None:
    answer = answer_of(shared, request_)
    if isinstance(answer, MatchloopError):
        assert answer.reason in (Reason.INVALID_INPUT, Reason.USE_CASE_NOT_FOUND)
        assert bool(answer.violations) == (answer.reason is Reason.INVALID_INPUT)
        return
    found = [each.item_id for each in answer.candidates]
    assert len(set(found)) == len(found)
    assert not set(found) & set(request_.exclude_item_ids)
    assert len(found) <= (len(set(request_.only_item_ids)) or request_.count or 20)


def test_it_is_not_ready_before_the_catalogue_and_then_is(tmp_path: Path) -> None:
    store = FakeStore()
    store.upsert(*startups(3))
    rig = start(store, tmp_path, upstream_up=False)
    assert rig.health() != SERVING
    with pytest.raises(Unavailable):
        rig.get()
    again, _ = fake_feedback(store, port=rig.upstream.port)
    again.start()
    assert until(lambda: rig.health() == SERVING)
    assert len(rig.get().candidates) == 3
    stop(rig)
    again.stop()


def test_a_new_item_and_a_dislike_act_on_the_next_list(rig: Rig) -> None:
    rig.store.states["d1"] = state(developer("d1", categories=Multi(("space",))))
    assert rig.get(count=1).candidates[0].method == session_pb2.METHOD_POPULAR
    rig.store.upsert(startup("new", category=Categorical("space")))
    assert until(lambda: rig.get(count=1).candidates[0].item_id == "new")
    rig.store.states["d1"] = replace(rig.store.states["d1"], hidden=frozenset({"new"}))
    assert "new" not in [each.item_id for each in rig.get(count=50).candidates]


def test_it_answers_while_feedback_is_down_and_says_so(rig: Rig) -> None:
    rig.store.states["d1"] = state(developer("d1", categories=Multi(("games",))), hidden=frozenset({"s2"}))
    assert rig.get(count=50).degraded == []
    rig.upstream.stop()
    remembered = rig.get(count=50)
    assert list(remembered.degraded) == ["feedback"]
    assert len(remembered.candidates) == 19
    assert remembered.candidates[0].method == session_pb2.METHOD_CONTENT
    stranger = rig.get(subject_id="d2", count=50)
    assert list(stranger.degraded) == ["feedback"]
    assert len(stranger.candidates) == 20
    assert rig.value("matchloop_degraded_total", use_case=USE_CASE, part="feedback") == 2
    assert rig.health() == SERVING


def test_a_feedback_service_that_hangs_costs_a_bounded_time(rig: Rig) -> None:
    released = threading.Event()
    rig.feedback.before_lookup = lambda: released.wait(5.0)
    try:
        reply = rig.get(count=5)
    finally:
        released.set()
    assert list(reply.degraded) == ["feedback"]
    assert len(reply.candidates) == 5
