"""Bad input at the doors of a running stack: refused by name, and nothing of it is written."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from sqlalchemy import create_engine, inspect, text

from matchloop.candidate.v1 import candidate_service_pb2 as candidate_pb
from matchloop.catalog.v1 import catalog_service_pb2 as catalog_pb
from matchloop.catalog.v1.entity_pb2 import Entity, EntityKey, FeatureValue
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from matchloop.feedback.v1.dislike_pb2 import Dislike
from matchloop.feedback.v1.interaction_pb2 import Interaction
from matchloop.feedback.v1.session_pb2 import Session, SessionItem, SessionSource
from matchloop.ranking.v1 import ranking_service_pb2 as ranking_pb
from playground.clients import Clients
from playground.stack import Stack
from tests.e2e.conftest import USE_CASE

pytestmark = pytest.mark.processes

Ask = Callable[[Clients], Any]
Expected = tuple[grpc.StatusCode, str, list[str]]
LONG = "x" * 129
FUTURE = datetime.now(UTC) + timedelta(days=2)


def invalid(*fields: str) -> Expected:
    return grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT", list(fields)


NO_USE_CASE: Expected = (grpc.StatusCode.NOT_FOUND, "USE_CASE_NOT_FOUND", [])


def future() -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(FUTURE)
    return moment


def interaction(**changed: Any) -> Interaction:
    given = {
        "interaction_id": "bad-1",
        "use_case": USE_CASE,
        "subject_id": "bad",
        "item_id": "i",
        "event_type": "view",
    }
    return Interaction(**{**given, **changed})


def interactions(*some: Interaction) -> Ask:
    # A sound one goes in front: it must not be stored either.
    batch = [interaction(interaction_id="bad-0"), *some]
    return lambda to: to.feedback.RecordInteractions(
        feedback_pb.RecordInteractionsRequest(interactions=batch), timeout=10
    )


def session(items: list[SessionItem] | None = None, **changed: Any) -> Ask:
    given: dict[str, Any] = {
        "session_id": "bad-1",
        "use_case": USE_CASE,
        "subject_id": "bad",
        "source": SessionSource.SESSION_SOURCE_CLIENT,
        "items": [SessionItem(item_id="i", score=0.5)] if items is None else items,
    }
    sound = Session(**{**given, "session_id": "bad-0", "items": [SessionItem(item_id="i", score=0.5)]})
    batch = [sound, Session(**{**given, **changed})]
    return lambda to: to.feedback.RecordSessions(
        feedback_pb.RecordSessionsRequest(sessions=batch), timeout=10
    )


def dislike(**changed: Any) -> Ask:
    given = {
        "dislike_id": "bad-1",
        "use_case": USE_CASE,
        "subject_id": "bad",
        "item_id": "i",
        "reason": "not_interested",
    }
    message = Dislike(**{**given, **changed})
    return lambda to: to.feedback.RecordDislike(feedback_pb.RecordDislikeRequest(dislike=message), timeout=10)


def entities(*some: Entity) -> Ask:
    batch = [Entity(key=EntityKey(kind="startup", id="bad-0")), *some]
    return lambda to: to.catalog.UpsertEntities(catalog_pb.UpsertEntitiesRequest(entities=batch), timeout=10)


def entity(kind: str = "startup", id_: str = "bad-1", **changed: Any) -> Entity:
    return Entity(key=EntityKey(kind=kind, id=id_), **changed)


def recommend(**changed: Any) -> Ask:
    message = ranking_pb.RecommendRequest(**{"use_case": USE_CASE, "subject_id": "bad", **changed})
    return lambda to: to.ranking.Recommend(message, timeout=10)


def rank(*items: ranking_pb.RankItem, use_case: str = USE_CASE) -> Ask:
    message = ranking_pb.RankRequest(use_case=use_case, subject_id="bad", items=items)
    return lambda to: to.ranking.Rank(message, timeout=10)


def candidates(**changed: Any) -> Ask:
    message = candidate_pb.GetCandidatesRequest(
        **{"use_case": USE_CASE, "subject_id": "bad", "count": 5, **changed}
    )
    return lambda to: to.candidate.GetCandidates(message, timeout=10)


def listed(method: str, request: Any) -> Ask:
    return lambda to: getattr(to.catalog if hasattr(to.catalog, method) else to.feedback, method)(
        request, timeout=10
    )


def named(request: type[Any], **fields: Any) -> Ask:
    return listed(request.__name__.removesuffix("Request"), request(**fields))


CASES: dict[str, tuple[Ask, Expected]] = {
    # an unknown use case: a field of what is recorded, the address of what is asked
    "use case: interaction": (
        interactions(interaction(use_case="no_such")),
        invalid("interactions[1].use_case"),
    ),
    "use case: session": (session(use_case="no_such"), invalid("sessions[1].use_case")),
    "use case: dislike": (dislike(use_case="no_such"), invalid("dislike.use_case")),
    "use case: recommend": (recommend(use_case="no_such"), NO_USE_CASE),
    "use case: rank": (rank(ranking_pb.RankItem(item_id="i"), use_case="no_such"), NO_USE_CASE),
    "use case: candidates": (candidates(use_case="no_such"), NO_USE_CASE),
    "use case: state": (
        named(feedback_pb.LookupSubjectStateRequest, use_case="no_such", subject_id="bad"),
        NO_USE_CASE,
    ),
    "use case: interactions listed": (
        named(feedback_pb.ListInteractionsRequest, use_case="no_such"),
        NO_USE_CASE,
    ),
    "use case: stats listed": (named(catalog_pb.ListItemStatsRequest, use_case="no_such"), NO_USE_CASE),
    # an unknown kind
    "kind: upsert": (entities(entity(kind="planet")), invalid("entities[1].key.kind")),
    "kind: get": (
        named(catalog_pb.GetEntityRequest, key=EntityKey(kind="planet", id="mars")),
        (grpc.StatusCode.NOT_FOUND, "ENTITY_NOT_FOUND", []),
    ),
    "kind: list": (named(catalog_pb.ListEntitiesRequest, kinds=["startup", "planet"]), invalid("kinds[1]")),
    # an unknown event type, an unknown reason
    "event type": (interactions(interaction(event_type="shout")), invalid("interactions[1].event_type")),
    "reason": (dislike(reason="no_such"), invalid("dislike.reason")),
    # ids: empty, over-long; every one of them is told
    "ids: interaction": (
        interactions(interaction(interaction_id="", subject_id=LONG, item_id="", session_id=LONG)),
        invalid(*(f"interactions[1].{name}_id" for name in ("interaction", "subject", "item", "session"))),
    ),
    "ids: session": (
        session([SessionItem(item_id=""), SessionItem(item_id=LONG)], session_id="", subject_id=LONG),
        invalid(
            "sessions[1].session_id",
            "sessions[1].subject_id",
            "sessions[1].items[0].item_id",
            "sessions[1].items[1].item_id",
        ),
    ),
    "ids: dislike": (
        dislike(dislike_id=LONG, subject_id="", item_id=LONG),
        invalid("dislike.dislike_id", "dislike.subject_id", "dislike.item_id"),
    ),
    "ids: entities": (
        entities(entity(id_=""), entity(id_=LONG)),
        invalid("entities[1].key.id", "entities[2].key.id"),
    ),
    "ids: recommend": (
        recommend(subject_id="", exclude_item_ids=[LONG]),
        invalid("subject_id", "exclude_item_ids[0]"),
    ),
    "ids: candidates": (candidates(subject_id=LONG), invalid("subject_id")),
    # numbers that are none
    "NaN: session": (
        session([SessionItem(item_id="i", score=math.nan), SessionItem(item_id="j", propensity=math.inf)]),
        invalid("sessions[1].items[0].score", "sessions[1].items[1].propensity"),
    ),
    "NaN: dislike": (dislike(predicted_score=math.nan), invalid("dislike.predicted_score")),
    "NaN: rank": (rank(ranking_pb.RankItem(item_id="i", score=math.nan)), invalid("items[0].score")),
    "NaN: feature": (
        entities(entity(kind="startup", features={"open_positions": FeatureValue(numeric=math.nan)})),
        invalid('entities[1].features["open_positions"]'),
    ),
    # batches over their bounds
    "batch: interactions": (
        interactions(*(interaction(interaction_id=f"bad-{n}") for n in range(1, 501))),
        invalid("interactions"),
    ),
    "batch: entities": (entities(*(entity(id_=f"bad-{n}") for n in range(1, 501))), invalid("entities")),
    "batch: session items": (
        session([SessionItem(item_id=f"i{n}") for n in range(201)]),
        invalid("sessions[1].items"),
    ),
    "batch: rank": (rank(*(ranking_pb.RankItem(item_id=f"i{n}") for n in range(201))), invalid("items")),
    "batch: count": (recommend(count=201), invalid("count")),
    # pages
    **{
        f"page: {request.__name__}": (named(request, page_size=-1, **which), invalid("page_size"))
        for request, which in (
            (feedback_pb.ListInteractionsRequest, {"use_case": USE_CASE}),
            (feedback_pb.ListSessionsRequest, {"use_case": USE_CASE}),
            (feedback_pb.ListDislikesRequest, {"use_case": USE_CASE}),
            (catalog_pb.ListItemStatsRequest, {"use_case": USE_CASE}),
            (catalog_pb.ListEntitiesRequest, {}),
        )
    },
    # what comes twice
    "twice: session item": (
        session([SessionItem(item_id="i"), SessionItem(item_id="j"), SessionItem(item_id="i")]),
        invalid("sessions[1].items[2].item_id"),
    ),
    "twice: rank item": (rank(*[ranking_pb.RankItem(item_id="i")] * 2), invalid("items[1].item_id")),
    "twice: interaction": (
        interactions(interaction(interaction_id="bad-0")),
        invalid("interactions[1].interaction_id"),
    ),
    "twice: entity": (entities(entity(id_="bad-0")), invalid("entities[1].key")),
    # times to come
    "future: interaction": (
        interactions(interaction(event_time=future())),
        invalid("interactions[1].event_time"),
    ),
    "future: session": (session(serve_time=future()), invalid("sessions[1].serve_time")),
    "future: dislike": (dislike(event_time=future()), invalid("dislike.event_time")),
    "future: entity": (entities(entity(create_time=future())), invalid("entities[1].create_time")),
    # several faults in several places, all told
    "all at once": (
        interactions(
            interaction(use_case="", interaction_id=LONG),
            interaction(interaction_id="bad-2", event_type="", event_time=future()),
        ),
        invalid(
            "interactions[1].use_case",
            "interactions[1].interaction_id",
            "interactions[2].event_type",
            "interactions[2].event_time",
        ),
    ),
}


def rows_by_table(stack: Stack) -> dict[str, int]:
    engine = create_engine(stack.database_url)
    try:
        with engine.connect() as connection:
            return {
                table: int(connection.execute(text(f'SELECT count(*) FROM "{table}"')).scalar_one())
                for table in inspect(engine).get_table_names()
            }
    finally:
        engine.dispose()


def answered(ask: Ask, clients: Clients) -> tuple[Expected, str] | str:
    """Return code, reason and fields of the refusal, and its domain; or what was answered in its place."""
    try:
        return f"was answered: {ask(clients)}"
    except grpc.RpcError as error:
        call: Any = error
    status = rpc_status.from_call(call)
    assert status is not None, call.details()
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    fields = [violation.field for violation in bad.field_violations]
    assert all(violation.description for violation in bad.field_violations)
    return (call.code(), info.reason, fields), info.domain


def test_bad_input_is_refused_by_name_and_leaves_no_trace(stack: Stack, clients: Clients) -> None:
    before = rows_by_table(stack)
    assert before["entities"] >= 100
    wrong: dict[str, Any] = {}
    for name, (ask, (code, reason, fields)) in CASES.items():
        found = answered(ask, clients)
        if isinstance(found, str):
            wrong[name] = found
            continue
        (found_code, found_reason, found_fields), domain = found
        same = (found_code, found_reason, sorted(found_fields)) == (code, reason, sorted(fields))
        if not same or domain != "matchloop":
            wrong[name] = found
    assert wrong == {}
    assert rows_by_table(stack) == before
