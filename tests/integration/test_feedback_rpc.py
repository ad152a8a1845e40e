"""feedback_svc over gRPC in this process: the contract's rules, and what breaks them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from feedback_svc.retraining import RetrainingBounds
from feedback_svc.serving import build_server
from feedback_svc.store.memory import MemoryStore
from matchloop.catalog.v1 import catalog_service_pb2 as catalog
from matchloop.catalog.v1 import catalog_service_pb2_grpc, entity_pb2
from matchloop.errors import MatchloopError, Reason
from matchloop.feedback.v1 import (
    dislike_pb2,
    feedback_service_pb2_grpc,
    insight_pb2,
    interaction_pb2,
    session_pb2,
)
from matchloop.feedback.v1 import feedback_service_pb2 as feedback
from matchloop.rpc.settings import ServerSettings
from matchloop.rpc.status import from_rpc_error
from tests.feedback_worlds import NOW, USE_CASE, use_cases


class World:
    """A running service over a store in memory; its clock stands until it is set."""

    def __init__(self) -> None:
        self.now = NOW
        self.store = MemoryStore()

    def clock(self) -> datetime:
        return self.now

    def call(self, method: str, request: Message) -> Any:
        stub = self.catalog if hasattr(self.catalog, method) else self.feedback
        try:
            return getattr(stub, method)(request, timeout=10)
        except grpc.RpcError as error:
            raise from_rpc_error(error, upstream="feedback_svc") from error

    def __enter__(self) -> World:
        settings = ServerSettings(threads=2)
        bounds = RetrainingBounds(negatives=2, error=0.7, error_negatives=1)
        self._server = build_server(settings, self.store, use_cases(), self.clock, bounds=bounds).start()
        self._channel = grpc.insecure_channel(self._server.address)
        self.catalog = catalog_service_pb2_grpc.CatalogServiceStub(self._channel)
        self.feedback = feedback_service_pb2_grpc.FeedbackServiceStub(self._channel)
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._server.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def startup(id_: str = "a", **features: entity_pb2.FeatureValue) -> entity_pb2.Entity:
    return entity_pb2.Entity(key=entity_pb2.EntityKey(kind="startup", id=id_), features=features)


def interaction(id_: str = "1", **given: Any) -> interaction_pb2.Interaction:
    return interaction_pb2.Interaction(
        **{
            "interaction_id": id_,
            "use_case": USE_CASE,
            "subject_id": "s",
            "item_id": "i",
            "event_type": "click",
            **given,
        }
    )


def session(id_: str = "x", **given: Any) -> session_pb2.Session:
    items = [session_pb2.SessionItem(item_id="i", score=0.9, method=session_pb2.METHOD_ALS)]
    return session_pb2.Session(
        **{
            "session_id": id_,
            "use_case": USE_CASE,
            "subject_id": "s",
            "source": session_pb2.SESSION_SOURCE_RANKING,
            "items": items,
            **given,
        }
    )


def rejection(id_: str = "d", **given: Any) -> dislike_pb2.Dislike:
    return dislike_pb2.Dislike(
        **{
            "dislike_id": id_,
            "use_case": USE_CASE,
            "subject_id": "s",
            "item_id": "i",
            "reason": "not_interested",
            **given,
        }
    )


def upsert(*entities: entity_pb2.Entity) -> catalog.UpsertEntitiesRequest:
    return catalog.UpsertEntitiesRequest(entities=entities)


def record(*interactions: interaction_pb2.Interaction) -> feedback.RecordInteractionsRequest:
    return feedback.RecordInteractionsRequest(interactions=interactions)


def show(*sessions: session_pb2.Session) -> feedback.RecordSessionsRequest:
    return feedback.RecordSessionsRequest(sessions=sessions)


def reject(dislike: dislike_pb2.Dislike) -> feedback.RecordDislikeRequest:
    return feedback.RecordDislikeRequest(dislike=dislike)


def at(moment: datetime) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(moment)
    return result


def value(**given: Any) -> entity_pb2.FeatureValue:
    return entity_pb2.FeatureValue(**given)


def item(id_: str = "i", **given: Any) -> session_pb2.SessionItem:
    return session_pb2.SessionItem(item_id=id_, **given)


LONG = "x" * 129
FAR = at(NOW + timedelta(days=1, seconds=1))
BAD: dict[str, tuple[str, Message, list[str]]] = {
    "no entities": ("UpsertEntities", upsert(), ["entities"]),
    "too many entities": ("UpsertEntities", upsert(*[startup(str(n)) for n in range(501)]), ["entities"]),
    "an entity twice": ("UpsertEntities", upsert(startup(), startup()), ["entities[1].key"]),
    "unknown kind": (
        "UpsertEntities",
        upsert(entity_pb2.Entity(key=entity_pb2.EntityKey(kind="planet", id="a"))),
        ["entities[0].key.kind"],
    ),
    "ids empty and too long": (
        "UpsertEntities",
        upsert(startup(""), startup(LONG)),
        ["entities[0].key.id", "entities[1].key.id"],
    ),
    "a NUL in a text": (
        "UpsertEntities",
        upsert(startup(name=value(text="a\x00b"))),
        ['entities[0].features["name"]'],
    ),
    "feature faults, all named": (
        "UpsertEntities",
        upsert(
            startup(
                category=value(numeric=1.0),
                founded_year=value(numeric=math.nan),
                nonsense=value(text="x"),
                embedding=value(embedding=entity_pb2.Embedding(values=[1.0])),
            )
        ),
        [f'entities[0].features["{name}"]' for name in ("category", "embedding", "founded_year", "nonsense")],
    ),
    "created in the far future": (
        "UpsertEntities",
        upsert(entity_pb2.Entity(key=entity_pb2.EntityKey(kind="startup", id="a"), create_time=FAR)),
        ["entities[0].create_time"],
    ),
    "a key without id": ("GetEntity", catalog.GetEntityRequest(), ["key.kind", "key.id"]),
    "negative page": ("ListEntities", catalog.ListEntitiesRequest(page_size=-1), ["page_size"]),
    "negative sequence": (
        "ListEntities",
        catalog.ListEntitiesRequest(from_change_sequence=-1),
        ["from_change_sequence"],
    ),
    "a token from elsewhere": ("ListEntities", catalog.ListEntitiesRequest(page_token="zz"), ["page_token"]),
    "too many kinds": ("ListEntities", catalog.ListEntitiesRequest(kinds=["a"] * 33), ["kinds"]),
    "no use case": ("ListItemStats", catalog.ListItemStatsRequest(), ["use_case"]),
    "nothing to deactivate": ("DeactivateEntities", catalog.DeactivateEntitiesRequest(), ["keys"]),
    "no interactions": ("RecordInteractions", record(), ["interactions"]),
    "too many interactions": (
        "RecordInteractions",
        record(*[interaction(str(n)) for n in range(501)]),
        ["interactions"],
    ),
    "an interaction twice": (
        "RecordInteractions",
        record(interaction(), interaction()),
        ["interactions[1].interaction_id"],
    ),
    "every field of an interaction": (
        "RecordInteractions",
        record(
            interaction(), interaction("", subject_id=LONG, item_id="a\nb", event_time=FAR, session_id=LONG)
        ),
        [
            f"interactions[1].{name}"
            for name in ("event_time", "interaction_id", "subject_id", "item_id", "session_id")
        ],
    ),
    "unknown use case and event": (
        "RecordInteractions",
        record(interaction(use_case="nope"), interaction("2", event_type="sniff")),
        ["interactions[0].use_case", "interactions[1].event_type"],
    ),
    "before any time": (
        "RecordInteractions",
        record(interaction(event_time=Timestamp(seconds=-(2**40)))),
        ["interactions[0].event_time"],
    ),
    "no sessions": ("RecordSessions", show(), ["sessions"]),
    "a session twice": ("RecordSessions", show(session(), session()), ["sessions[1].session_id"]),
    "an item twice": (
        "RecordSessions",
        show(session(items=[item(), item("j"), item()])),
        ["sessions[0].items[2].item_id"],
    ),
    "no items": ("RecordSessions", show(session(items=[])), ["sessions[0].items"]),
    "too many items": (
        "RecordSessions",
        show(session(items=[item(str(n)) for n in range(201)])),
        ["sessions[0].items"],
    ),
    "item faults": (
        "RecordSessions",
        show(
            session(
                feature_names=["recency"],
                items=[item(score=math.nan, propensity=1.5, method=99, features=[math.inf, 0.0])],
            )
        ),
        [
            f"sessions[0].items[0].{name}"
            for name in ("score", "method", "propensity", "features", "features[0]")
        ],
    ),
    "session faults": (
        "RecordSessions",
        show(session("", use_case="nope", subject_id="", source=0, tier=9, serve_time=FAR)),
        [
            f"sessions[0].{name}"
            for name in ("use_case", "source", "serve_time", "session_id", "subject_id", "tier")
        ],
    ),
    "every field of a dislike": (
        "RecordDislike",
        reject(
            rejection(
                "", subject_id="", item_id=LONG, reason="bored", comment="x" * 2001, predicted_score=1.1
            )
        ),
        [
            f"dislike.{name}"
            for name in ("reason", "predicted_score", "dislike_id", "subject_id", "item_id", "comment")
        ],
    ),
    "a dislike of nothing": (
        "RecordDislike",
        feedback.RecordDislikeRequest(),
        [f"dislike.{name}" for name in ("use_case", "dislike_id", "subject_id", "item_id")],
    ),
    "a window turned round": (
        "ListInteractions",
        feedback.ListInteractionsRequest(
            use_case=USE_CASE, from_time=at(NOW), to_time=at(NOW - timedelta(days=1)), page_size=-3
        ),
        ["to_time", "page_size"],
    ),
    "no subject": (
        "LookupSubjectState",
        feedback.LookupSubjectStateRequest(use_case=USE_CASE),
        ["subject_id"],
    ),
    "no release": (
        "MarkNegativesUsed",
        feedback.MarkNegativesUsedRequest(use_case=USE_CASE, to_sequence=-1),
        ["release", "to_sequence"],
    ),
}
"""Method, request, and the fields that have to be named."""


@pytest.mark.parametrize("case", BAD)
def test_bad_input_names_every_field_and_writes_nothing(shared: World, case: str) -> None:
    method, request, fields = BAD[case]
    with pytest.raises(MatchloopError) as error:
        shared.call(method, request)
    assert error.value.reason is Reason.INVALID_INPUT
    assert sorted(v.field for v in error.value.violations) == sorted(fields)
    page = shared.call("ListEntities", catalog.ListEntitiesRequest(include_inactive=True))
    assert not page.entities
    for name, list_request in (
        ("ListInteractions", feedback.ListInteractionsRequest(use_case=USE_CASE)),
        ("ListSessions", feedback.ListSessionsRequest(use_case=USE_CASE)),
        ("ListDislikes", feedback.ListDislikesRequest(use_case=USE_CASE)),
    ):
        assert shared.call(name, list_request).ByteSize() == 0


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("ListItemStats", catalog.ListItemStatsRequest),
        ("ListSessions", feedback.ListSessionsRequest),
        ("ListInteractions", feedback.ListInteractionsRequest),
        ("ListDislikes", feedback.ListDislikesRequest),
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


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("EraseEntity", catalog.EraseEntityRequest()),
        ("ListMatches", feedback.ListMatchesRequest()),
    ],
)
def test_what_is_not_there_yet_says_so(shared: World, method: str, request_: Message) -> None:
    with pytest.raises(MatchloopError) as error:
        shared.call(method, request_)
    assert error.value.reason is Reason.NOT_IMPLEMENTED


def test_everything_at_its_bound_is_taken(world: World) -> None:
    entity = startup(
        "x" * 128, name=value(text="x" * 8192), embedding=value(embedding={"values": [0.5] * 384})
    )
    assert world.call("UpsertEntities", upsert(entity, *[startup(str(n)) for n in range(499)])).created == 500
    ahead = at(NOW + timedelta(days=1))
    events = [interaction(f"{n}", event_time=ahead) for n in range(500)]
    assert world.call("RecordInteractions", record(*events)).stored == 500
    names = [f"f{n}" for n in range(64)]
    items = [item(f"i{n}", features=[0.5] * 64, propensity=1.0) for n in range(200)]
    sessions = [session(f"{n}", feature_names=names, items=items) for n in range(2)]
    assert world.call("RecordSessions", show(*sessions)).stored == 2
    dislike = rejection("x" * 128, comment="x" * 2000, predicted_score=1.0)
    assert not world.call("RecordDislike", reject(dislike)).receipt.duplicate


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
    assert sorted(e.event_type for e in state.recent_events) == ["click", "dislike"]
    assert state.recent_events[0].event_time.ToDatetime(tzinfo=NOW.tzinfo) == NOW
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
