"""Several faults in one request: all are named, nothing is written. One each is `test_feedback_bounds`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta

import pytest
from google.protobuf.message import Message

from matchloop.catalog.v1 import catalog_service_pb2 as catalog
from matchloop.catalog.v1 import entity_pb2
from matchloop.errors import MatchloopError, Reason
from matchloop.feedback.v1 import feedback_service_pb2 as feedback
from tests.feedback_rpc_world import (
    World,
    at,
    interaction,
    item,
    record,
    reject,
    rejection,
    rows,
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


LONG = "x" * 129
FAR = at(NOW + timedelta(days=1, seconds=1))
BAD: dict[str, tuple[str, Message, list[str]]] = {
    "an entity twice": ("UpsertEntities", upsert(startup(), startup()), ["entities[1].key"]),
    "ids empty and too long": (
        "UpsertEntities",
        upsert(startup(""), startup(LONG)),
        ["entities[0].key.id", "entities[1].key.id"],
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
    "a key without id": ("GetEntity", catalog.GetEntityRequest(), ["key.kind", "key.id"]),
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
    "a session twice": ("RecordSessions", show(session(), session()), ["sessions[1].session_id"]),
    "an item twice": (
        "RecordSessions",
        show(session(items=[item(), item("j"), item()])),
        ["sessions[0].items[2].item_id"],
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
    "a window turned round": (
        "ListInteractions",
        feedback.ListInteractionsRequest(
            use_case=USE_CASE, from_time=at(NOW), to_time=at(NOW - timedelta(days=1)), page_size=-3
        ),
        ["to_time", "page_size"],
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
    assert rows(shared.store) == {}
