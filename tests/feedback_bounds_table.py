"""The table of `tests.feedback_bounds`, RPC by RPC."""

from __future__ import annotations

import math

from matchloop.catalog.v1 import catalog_service_pb2 as catalog
from matchloop.errors import Reason
from tests.bounds import (
    ANY,
    LARGEST_FLOAT,
    SMALLEST_FLOAT,
    Bound,
    Past,
    enum,
    identifier,
    many,
    number,
    pages,
    whole,
)
from tests.feedback_bounds import (
    LISTED_USE_CASE,
    READ_ONLY_TIME,
    SENT_USE_CASE,
    batch,
    features,
    filters,
    key,
    startup_of,
    time,
)
from tests.feedback_rpc_world import interaction, item, record, session, show, upsert
from tests.operations_bounds import operations_bounds

NAMES = [f"f{n}" for n in range(64)]
FULL = [item(f"i{n}", features=[0.5] * 64, propensity=1.0) for n in range(200)]
AN_ITEM = "sessions[0].items[0]"


def with_names(id_: str, names: list[str]) -> object:
    return show(session(id_, feature_names=names, items=[item(features=[0.5] * len(names))]))


def with_items(id_: str, count: int) -> object:
    return show(session(id_, items=[item(f"i{n}") for n in range(count)]))


def keys(*ids: str) -> catalog.DeactivateEntitiesRequest:
    return catalog.DeactivateEntitiesRequest(keys=[startup_of(id_).key for id_ in ids])


BY_METHOD: dict[str, dict[str, Bound]] = {
    "UpsertEntities": {
        "entities": many(1, 500, batch(startup_of, upsert), "entities"),
        **key("entities.key", unknown=Reason.INVALID_INPUT),
        **features(),
        "entities.create_time": time(),
        "entities.update_time": READ_ONLY_TIME,
        "entities.active": ANY,
        "entities.change_sequence": Bound((0, -(2**63), 2**63 - 1)),
    },
    "GetEntity": key("key", told=Reason.ENTITY_NOT_FOUND, unknown=Reason.ENTITY_NOT_FOUND),
    "ListEntities": {
        "kinds": Bound(
            ([], ["startup"] * 32),
            (
                Past(["startup"] * 33, ("kinds",)),
                Past(["startup", "planet", ""], ("kinds[1]", "kinds[2]")),
            ),
        ),
        "from_change_sequence": whole(),
        "include_inactive": ANY,
        "erased_only": ANY,
        **pages(2000),
    },
    "ListItemStats": {
        "use_case": LISTED_USE_CASE,
        "from_change_sequence": whole(),
        **pages(5000),
    },
    "DeactivateEntities": {
        "keys": many(1, 500, batch(str, keys), "keys"),
        **key("keys"),
    },
    "EraseEntity": key("key"),
    "RecordSessions": {
        "sessions": many(1, 100, batch(session, show), "sessions"),
        "sessions.session_id": identifier(),
        "sessions.use_case": SENT_USE_CASE,
        "sessions.subject_id": identifier(),
        "sessions.release": identifier(required=False),
        "sessions.arm": identifier(required=False),
        "sessions.tier": enum(0, 1, 2, 3),
        "sessions.reranked": ANY,
        "sessions.source": enum(1, 2, past=(0,)),
        "sessions.serve_time": time(),
        "sessions.feature_names": Bound(
            (
                with_names("n0", []),
                with_names("n64", NAMES),
                show(session("full", feature_names=NAMES, items=FULL)),
            ),
            (
                Past(with_names("n65", [*NAMES, "more"]), ("sessions[0].feature_names",)),
                Past(with_names("n2", ["same", "same"]), ("sessions[0].feature_names[1]",)),
                Past(with_names("n2", ["fine", ""]), ("sessions[0].feature_names[1]",)),
                Past(with_names("n2", ["x" * 65]), ("sessions[0].feature_names[0]",)),
            ),
        ),
        "sessions.items": Bound(
            (with_items("i1", 1), with_items("i200", 200)),
            tuple(Past(with_items("i", count), ("sessions[0].items",)) for count in (0, 201)),
        ),
        "sessions.items.item_id": identifier(),
        "sessions.items.score": number(),
        "sessions.items.retrieval_score": number(absent=True),
        "sessions.items.method": enum(0, 1, 2, 3, 4, 5),
        "sessions.items.features": Bound(
            ([LARGEST_FLOAT], [-LARGEST_FLOAT], [SMALLEST_FLOAT], [-0.0]),
            (
                Past([], (f"{AN_ITEM}.features",)),
                Past([0.5, 0.5], (f"{AN_ITEM}.features",)),
                *(Past([fault], (f"{AN_ITEM}.features[0]",)) for fault in (math.nan, math.inf, -math.inf)),
            ),
        ),
        "sessions.items.propensity": number(least=0.0, most=1.0),
    },
    "GetSession": {"session_id": identifier(told=Reason.SESSION_NOT_FOUND)},
    "ListSessions": {**filters(), **pages(500)},
    "RecordInteractions": {
        "interactions": many(1, 500, batch(interaction, record), "interactions"),
        "interactions.interaction_id": identifier(),
        "interactions.use_case": SENT_USE_CASE,
        "interactions.subject_id": identifier(),
        "interactions.item_id": identifier(),
        "interactions.event_type": Bound(("view", "dislike"), ("", "contact", "x" * 4096, "a\x00")),
        "interactions.event_time": time(),
        "interactions.session_id": identifier(required=False),
    },
    "ListInteractions": {**filters(), **pages(1000)},
    "RecordDislike": {
        "dislike": Bound(
            (),
            (Past(None, tuple(f"dislike.{f}" for f in ("use_case", "dislike_id", "subject_id", "item_id"))),),
        ),
        "dislike.dislike_id": identifier(),
        "dislike.use_case": SENT_USE_CASE,
        "dislike.subject_id": identifier(),
        "dislike.item_id": identifier(),
        "dislike.reason": Bound(("other", "wrong_stage"), ("", "wrong_genre", "x" * 4096, "a\x00")),
        "dislike.comment": Bound(("", "\U0001f600" * 2000, "a\nb\x01"), ("x" * 2001, "a\x00b")),
        "dislike.session_id": identifier(required=False),
        "dislike.predicted_score": number(least=0.0, most=1.0, absent=True),
        "dislike.event_time": time(),
    },
    "ListDislikes": {
        **filters(times=False, release=False),
        "unused_only": ANY,
        **pages(1000),
    },
    "GetDislikePatterns": {"use_case": LISTED_USE_CASE, "subject_id": identifier(required=False)},
    "GetFeedbackMetrics": {"use_case": LISTED_USE_CASE},
    "GetRetrainingStatus": {"use_case": LISTED_USE_CASE},
    "MarkNegativesUsed": {
        "use_case": LISTED_USE_CASE,
        "release": identifier(),
        "to_sequence": whole(),
    },
    "LookupSubjectState": {"use_case": LISTED_USE_CASE, "subject_id": identifier()},
    "ListMatches": {
        **filters(times=False, release=False),
        "state": enum(0, 1, 2, 3),
        **pages(1000),
    },
    **operations_bounds(sent=SENT_USE_CASE, listed=LISTED_USE_CASE, time=time()),
}

BOUNDS = {f"{method}.{path}": bound for method, fields in BY_METHOD.items() for path, bound in fields.items()}
