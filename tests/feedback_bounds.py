"""The bounds of feedback_svc's services: base requests, and rules that several RPCs share."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from matchloop.catalog.v1 import catalog_service_pb2 as catalog
from matchloop.catalog.v1 import entity_pb2
from matchloop.errors import Reason
from matchloop.feedback.v1 import feedback_service_pb2 as feedback
from tests.bounds import Bound, Features, Past, identifier, startup_features
from tests.feedback_rpc_world import at as when
from tests.feedback_rpc_world import (
    interaction,
    item,
    record,
    reject,
    rejection,
    session,
    show,
    upsert,
    value,
)
from tests.feedback_worlds import NOW, USE_CASE
from tests.operations_bounds import operations_request

MICROSECOND = timedelta(microseconds=1)
_numbers = itertools.count()


def base(method: str) -> Message:
    """Return a request that is answered OK, with ids that no other has."""
    number = str(next(_numbers))
    key = entity_pb2.EntityKey(kind="startup", id=number)
    list_types: dict[str, type[Any]] = {name: getattr(feedback, f"{name}Request") for name in LISTS}
    if method in list_types:
        listing: Message = list_types[method](
            use_case="developer_startup" if method == "ListMatches" else USE_CASE
        )
        return listing
    named = session(
        number, serve_time=when(NOW), feature_names=["recency"], items=[item(score=0.5, features=[0.5])]
    )
    requests: dict[str, Message] = {
        "UpsertEntities": upsert(entity_pb2.Entity(key=key, features={"name": value(text="n")})),
        "GetEntity": catalog.GetEntityRequest(key=key),
        "ListEntities": catalog.ListEntitiesRequest(),
        "ListItemStats": catalog.ListItemStatsRequest(use_case=USE_CASE),
        "DeactivateEntities": catalog.DeactivateEntitiesRequest(keys=[key]),
        "EraseEntity": catalog.EraseEntityRequest(key=key),
        "RecordSessions": show(named),
        "GetSession": feedback.GetSessionRequest(session_id=number),
        "RecordInteractions": record(interaction(number)),
        "RecordDislike": reject(rejection(number)),
        "MarkNegativesUsed": feedback.MarkNegativesUsedRequest(use_case=USE_CASE, release="r"),
        "LookupSubjectState": feedback.LookupSubjectStateRequest(use_case=USE_CASE, subject_id="s"),
    }
    return requests[method] if method in requests else operations_request(method, number)


LISTS = (
    "ListSessions",
    "ListInteractions",
    "ListDislikes",
    "ListMatches",
    "GetDislikePatterns",
    "GetFeedbackMetrics",
    "GetRetrainingStatus",
)


def time(*, required: bool = False) -> Bound:
    first = datetime(1900, 1, 1, tzinfo=UTC)
    ahead = NOW + timedelta(days=1)
    odd = (Timestamp(seconds=2**62), Timestamp(seconds=-(2**62)), Timestamp(nanos=-1), Timestamp(nanos=10**9))
    return Bound(
        (None, when(first), when(ahead)), (when(first - MICROSECOND), when(ahead + MICROSECOND), *odd)
    )


READ_ONLY_TIME = Bound((None, Timestamp(seconds=2**62)))
LISTED_USE_CASE = Bound(
    (USE_CASE,),
    ("", "Not a name", "x" * 65, "a\x00", Past("x" * 64, reason=Reason.USE_CASE_NOT_FOUND)),
)
SENT_USE_CASE = Bound((USE_CASE,), ("", "nope", "x" * 4096, "a\x00"))


def key(path: str, *, told: Reason | None = None, unknown: Reason | None = None) -> dict[str, Bound]:
    """Rules of an EntityKey; a kind that no use case has is `unknown`, None: no fault."""
    field = path.replace("entities", "entities[0]").replace("keys", "keys[0]")
    kind = ("", "Startup", "x" * 65, "a\x00b")
    more = () if unknown is None else (Past("planet", reason=unknown),)
    own = {
        f"{path}.kind": Bound(("startup", "investor"), (*kind, *more), told),
        f"{path}.id": identifier(told=told),
    }
    if path.endswith("s"):
        return own
    return own | {path: Bound((), (Past(None, (f"{field}.kind", f"{field}.id")),))}


def features() -> dict[str, Bound]:
    """Rules of an entity's features; a case is a whole request."""

    def made(given: Features) -> Message:
        return upsert(entity_pb2.Entity(key=startup_of(str(next(_numbers))).key, features=given))

    return startup_features("entities.features", "entities[0].features", made)


def filters(*, times: bool = True, release: bool = True) -> dict[str, Bound]:
    found = {
        "use_case": LISTED_USE_CASE,
        "subject_id": identifier(required=False),
        "item_id": identifier(required=False),
    }
    if release:
        found["release"] = identifier(required=False)
    if times:
        found |= {"from_time": time(), "to_time": time()}
    return found


def batch(one: Any, whole_of: Any) -> Any:
    return lambda count: whole_of(*[one(f"b{next(_numbers)}") for _ in range(count)])


def startup_of(id_: str) -> entity_pb2.Entity:
    return entity_pb2.Entity(key=entity_pb2.EntityKey(kind="startup", id=id_))
