"""feedback_svc over gRPC in this process: what its calls add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from google.protobuf.message import Message

from matchloop.catalog.v1 import catalog_service_pb2 as catalog
from matchloop.errors import MatchloopError, Reason
from matchloop.feedback.v1 import feedback_service_pb2 as feedback
from matchloop.feedback.v1 import insight_pb2, interaction_pb2
from matchloop.rpc.convert import read_micros
from tests.feedback_rpc_world import (
    World,
    at,
    interaction,
    item,
    record,
    reject,
    rejection,
    session,
    show,
    startup,
    upsert,
    value,
)
from tests.feedback_worlds import NOW, USE_CASE


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("ListItemStats", catalog.ListItemStatsRequest),
        ("ListSessions", feedback.ListSessionsRequest),
        ("ListInteractions", feedback.ListInteractionsRequest),
        ("ListDislikes", feedback.ListDislikesRequest),
        ("ListMatches", feedback.ListMatchesRequest),
        ("LookupSubjectState", feedback.LookupSubjectStateRequest),
        ("GetRetrainingStatus", feedback.GetRetrainingStatusRequest),
        ("GetDislikePatterns", feedback.GetDislikePatternsRequest),
        ("GetFeedbackMetrics", feedback.GetFeedbackMetricsRequest),
        ("MarkNegativesUsed", feedback.MarkNegativesUsedRequest),
    ],
)
def test_an_unknown_use_case_is_not_found(shared: World, method: str, kind: Callable[..., Message]) -> None:
    with pytest.raises(MatchloopError) as error:
        shared.call(method, kind(use_case="nope"))
    assert error.value.reason is Reason.USE_CASE_NOT_FOUND


def test_pages_join_up(world: World) -> None:
    world.call("UpsertEntities", upsert(*[startup(f"{n:02}") for n in range(25)]))
    request = catalog.ListEntitiesRequest(page_size=10)
    ids: list[str] = []
    while True:
        page = world.call("ListEntities", request)
        ids += [entity.key.id for entity in page.entities]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert ids == [f"{n:02}" for n in range(25)]
    later = catalog.ListEntitiesRequest(from_change_sequence=page.next_change_sequence)
    assert not world.call("ListEntities", later).entities
    for n in range(5):
        world.call("RecordSessions", show(session(f"s{n}", serve_time=at(NOW - timedelta(hours=n)))))
        world.call("RecordInteractions", record(interaction(str(n))))
        world.call("RecordDislike", reject(rejection(f"d{n}")))
    for name, kind, field in (
        ("ListSessions", feedback.ListSessionsRequest, "sessions"),
        ("ListInteractions", feedback.ListInteractionsRequest, "interactions"),
        ("ListDislikes", feedback.ListDislikesRequest, "dislikes"),
    ):
        first = world.call(name, kind(use_case=USE_CASE, page_size=3))
        second = world.call(name, kind(use_case=USE_CASE, page_token=first.next_page_token))
        whole = world.call(name, kind(use_case=USE_CASE))
        assert [*getattr(first, field), *getattr(second, field)] == [*getattr(whole, field)]
        assert not second.next_page_token


def test_large_rows_make_short_pages(world: World) -> None:
    world.call(
        "UpsertEntities",
        upsert(*[startup(f"{n:03}", name=value(text="\U0001f600" * 8192)) for n in range(200)]),
    )
    names = [f"f{n}" for n in range(64)]
    items = [item(f"i{n}", features=[0.1] * 64) for n in range(200)]
    world.call(
        "RecordSessions", show(*[session(f"{n}", feature_names=names, items=items) for n in range(80)])
    )
    for name, request, field, whole in (
        ("ListEntities", catalog.ListEntitiesRequest(page_size=2000), "entities", 200),
        ("ListSessions", feedback.ListSessionsRequest(use_case=USE_CASE, page_size=500), "sessions", 80),
    ):
        found: list[Message] = []
        sizes: list[int] = []
        while True:
            page = world.call(name, request)
            found += getattr(page, field)
            sizes.append(page.ByteSize())
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert len({row.SerializeToString() for row in found}) == len(found) == whole
        assert 1 < len(sizes) < 5
        assert max(sizes) < 4 * 1024 * 1024


def test_the_loop_of_one_subject(world: World) -> None:
    world.call("UpsertEntities", upsert(startup("i", category=value(categorical="fintech"))))
    early = world.call("RecordInteractions", record(interaction("1", session_id="x")))
    assert (early.stored, list(early.duplicate_interaction_ids)) == (1, [])
    shown = session(
        "x", feature_names=["recency"], items=[item("i", score=0.75, features=[0.5])], release="r"
    )
    assert world.call("RecordSessions", show(shown)).tied_interactions == 1
    assert list(world.call("RecordSessions", show(shown)).duplicate_session_ids) == ["x"]
    kept = world.call("GetSession", feedback.GetSessionRequest(session_id="x")).session
    shown.serve_time.CopyFrom(at(NOW))
    assert kept == shown
    (stored,) = world.call(
        "ListInteractions", feedback.ListInteractionsRequest(use_case=USE_CASE)
    ).interactions
    assert (stored.source, stored.rank, stored.score, stored.release) == (
        interaction_pb2.INTERACTION_SOURCE_RECOMMENDATION,
        1,
        0.75,
        "r",
    )
    receipt = world.call("RecordDislike", reject(rejection(session_id="x"))).receipt
    assert list(receipt.hidden_item_ids) == ["i"]
    assert receipt.prediction_error == 0.75
    assert receipt.example_weight == 0.8
    (change,) = receipt.weight_changes
    assert (change.feature, change.value, change.factor_after) == (
        "category",
        "fintech",
        pytest.approx(0.925),
    )
    world.now = NOW + timedelta(days=90)
    lookup = feedback.LookupSubjectStateRequest(use_case=USE_CASE, subject_id="s")
    state = world.call("LookupSubjectState", lookup).state
    assert not state.known
    assert state.interaction_count == 2
    assert list(state.hidden_item_ids) == ["i"]
    events = state.recent_events
    assert sorted(events.event_types[index] for index in events.type_indices) == ["click", "dislike"]
    assert list(events.item_ids) == ["i", "i"]
    assert list(map(read_micros, events.event_micros)) == [NOW, NOW]
    assert state.weight_factors[0].factor == pytest.approx(1 - 0.075 / 2)


def test_a_retraining_is_due_until_the_negatives_are_used(world: World) -> None:
    status = feedback.GetRetrainingStatusRequest(use_case=USE_CASE)
    assert not world.call("GetRetrainingStatus", status).status.due
    for n in range(2):
        world.call("RecordDislike", reject(rejection(f"d{n}", predicted_score=0.8)))
    found = world.call("GetRetrainingStatus", status).status
    assert found.due
    assert list(found.causes) == [insight_pb2.RETRAINING_CAUSE_NEGATIVES, insight_pb2.RETRAINING_CAUSE_ERROR]
    assert (found.unused_negatives, found.mean_prediction_error) == (2, pytest.approx(0.8))
    mark = feedback.MarkNegativesUsedRequest(use_case=USE_CASE, release="r", to_sequence=2**40)
    assert world.call("MarkNegativesUsed", mark).marked == 2
    assert world.call("MarkNegativesUsed", mark).marked == 0
    found = world.call("GetRetrainingStatus", status).status
    assert (found.due, found.last_release) == (False, "r")
    assert found.last_retrain_time.ToDatetime(tzinfo=NOW.tzinfo) == NOW
