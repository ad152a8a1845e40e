"""What the contract says of the request fields of CatalogService and FeedbackService.

An entry, named ``Method.path``, has values at the field's bound and past it. A value is put into that RPC's
`base` request, at the path, in the first entry of a repeated field; one that is a request itself stands for
the whole. None leaves the field out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from matchloop.catalog.v1 import catalog_service_pb2 as catalog
from matchloop.catalog.v1 import entity_pb2
from matchloop.errors import Reason
from matchloop.feedback.v1 import feedback_service_pb2 as feedback
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

MICROSECOND = timedelta(microseconds=1)
LARGEST = 1.7976931348623157e308
LARGEST_FLOAT = 3.4028234663852886e38
SMALLEST_FLOAT = 1.401298464324817e-45
_numbers = itertools.count()


@dataclass(frozen=True)
class Past:
    """A value past the bound, the fields it has to name (the entry's own when left out), and the reason."""

    value: Any
    fields: tuple[str, ...] | None = None
    reason: Reason = Reason.INVALID_INPUT


@dataclass(frozen=True)
class Bound:
    """Values at the bound, answered OK or with `told`; and past it."""

    at: tuple[Any, ...]
    past: tuple[Any, ...] = ()
    told: Reason | None = None


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
    return requests[method]


LISTS = (
    "ListSessions",
    "ListInteractions",
    "ListDislikes",
    "ListMatches",
    "GetDislikePatterns",
    "GetFeedbackMetrics",
    "GetRetrainingStatus",
)


def identifier(*, required: bool = True, told: Reason | None = None) -> Bound:
    number = next(_numbers)
    longest = (
        "x" * 124 + f"{number:04}",
        "\U0001f600" * 124 + f"{number:04}",
        f" {number}",
        f'"\\{number}{{}},%s',
    )
    past = ("x" * 129, "\U0001f600" * 129, "a\nb", "a\x00b", "a\x1fb", "a\x85b", "a\u2028b")
    return Bound(longest if required else ("", *longest), ("", *past) if required else past, told)


def time(*, required: bool = False) -> Bound:
    first = datetime(1900, 1, 1, tzinfo=UTC)
    ahead = NOW + timedelta(days=1)
    odd = (Timestamp(seconds=2**62), Timestamp(seconds=-(2**62)), Timestamp(nanos=-1), Timestamp(nanos=10**9))
    return Bound(
        (None, when(first), when(ahead)), (when(first - MICROSECOND), when(ahead + MICROSECOND), *odd)
    )


def number(*, least: float = -LARGEST, most: float = LARGEST, absent: bool = False) -> Bound:
    past = [math.nan, math.inf, -math.inf]
    if most < LARGEST:
        past += [math.nextafter(least, -math.inf), math.nextafter(most, math.inf)]
    return Bound((*((None,) if absent else ()), least, most, 5e-324, -0.0), tuple(past))


def whole(*, least: int = 0) -> Bound:
    return Bound((least, 2**63 - 1), (least - 1, -(2**63)))


def enum(*known: int, past: tuple[int, ...] = ()) -> Bound:
    return Bound(known, (*past, -1, max(known) + 1, 2**31 - 1))


ANY = Bound((None, True, False))
READ_ONLY_TIME = Bound((None, Timestamp(seconds=2**62)))
LISTED_USE_CASE = Bound(
    (USE_CASE,),
    ("", "Not a name", "x" * 65, "a\x00", Past("x" * 64, reason=Reason.USE_CASE_NOT_FOUND)),
)
SENT_USE_CASE = Bound((USE_CASE,), ("", "nope", "x" * 4096, "a\x00"))
TOKEN = Bound(("",), ("zz", "=", "é", "x" * 2049, "eyJhIjoxfQ", "\x00"))


def pages(most: int) -> dict[str, Bound]:
    return {
        "page_size": Bound((0, most, most + 1, 2**31 - 1), (-1, -(2**31))),
        "page_token": TOKEN,
    }


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
    """Rules of an entity's features; a case is a whole request with one feature."""

    def having(name: str, **given: Any) -> Message:
        return upsert(
            entity_pb2.Entity(key=startup_of(str(next(_numbers))).key, features={name: value(**given)})
        )

    def rule(name: str, case: str, fits: Iterable[Any], faults: Iterable[tuple[Any, str]]) -> Bound:
        path = f'entities[0].features["{name}"]'
        return Bound(
            tuple(having(name, **{case: fit}) for fit in fits),
            tuple(Past(having(name, **{case: fault}), (path + rest,)) for fault, rest in faults),
        )

    longest, most = "\U0001f600" * 256, [str(n) * 64 for n in range(100, 164)]
    texts = [("", ""), ("x" * 257, ""), ("a\x00b", "")]
    multi = rule(
        "tags",
        "multi",
        [{"values": []}, {"values": most}, {"values": [longest, "a\nb", '"\\{},', "NULL"]}],
        [({"values": [*most, "x"]}, ""), ({"values": ["a", "a"]}, "[1]")]
        + [({"values": ["a", fault]}, "[1]") for fault, _ in texts],
    )
    edge = [LARGEST_FLOAT, SMALLEST_FLOAT, -0.0, *[0.5] * 381]
    embedding = rule(
        "embedding",
        "embedding",
        [{"values": edge}],
        [({"values": edge[:383]}, ""), ({"values": [*edge, 0.5]}, ""), ({"values": []}, "")]
        + [({"values": [0.0, fault, *[0.0] * 382]}, "[1]") for fault in (math.nan, math.inf)],
    )
    names = [f"f{n}" for n in range(65)]
    crowd = upsert(
        entity_pb2.Entity(key=startup_of("c").key, features=dict.fromkeys(names, value(numeric=1.0)))
    )
    everything = Bound(
        (having("name", text="x"), upsert(startup_of(f"empty {next(_numbers)}"))),
        (
            Past(crowd, ("entities[0].features",)),
            Past(having("name"), ('entities[0].features["name"]',)),
            Past(having("nope", text="x"), ('entities[0].features["nope"]',)),
            Past(having("name", numeric=1.0), ('entities[0].features["name"]',)),
        ),
    )
    unknown = tuple(
        Past(having(name, text="x"), (f'entities[0].features["{name[:256]}"]',))
        for name in ("", "a\x00", "x" * 300)
    )
    return {
        "entities.features": everything,
        "entities.features.key": Bound((having("name", text="x"),), unknown),
        "entities.features.value": everything,
        "entities.features.value.categorical": rule("category", "categorical", ["x", longest, "a\nb"], texts),
        "entities.features.value.multi": multi,
        "entities.features.value.multi.values": multi,
        "entities.features.value.numeric": rule(
            "founded_year",
            "numeric",
            [LARGEST, -LARGEST, 5e-324, -0.0],
            [(fault, "") for fault in (math.nan, math.inf, -math.inf)],
        ),
        "entities.features.value.text": rule(
            "name", "text", ["", "\U0001f600" * 8192, "a\nb\x01\u2028"], [("x" * 8193, ""), ("\x00", "")]
        ),
        "entities.features.value.embedding": embedding,
        "entities.features.value.embedding.values": embedding,
        "entities.features.value.embedding.embedder": rule(
            "embedding", "embedding", [{"values": edge, "embedder": "of the client"}], []
        ),
    }


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


def many(least: int, most: int, make: Any, field: str) -> Bound:
    """Rules of a batch; `make` makes a request of so many entries."""
    return Bound((make(least), make(most)), (Past(make(least - 1), (field,)), Past(make(most + 1), (field,))))


def batch(one: Any, whole_of: Any) -> Any:
    return lambda count: whole_of(*[one(f"b{next(_numbers)}") for _ in range(count)])


def startup_of(id_: str) -> entity_pb2.Entity:
    return entity_pb2.Entity(key=entity_pb2.EntityKey(kind="startup", id=id_))
