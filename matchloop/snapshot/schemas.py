"""The Parquet columns of a snapshot: times are UTC in microseconds, a required value is never null."""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

SCHEMA_VERSION = 3
"""Grows when a column changes its name, type or meaning; a reader refuses another version."""

UTC_TIME = pa.timestamp("us", tz="UTC")


class TableName(StrEnum):
    """The tables of a snapshot; a table is one Parquet file or, when it is one of `PARTED`, several."""

    ENTITIES = "entities"
    FEATURES = "features"
    INTERACTIONS = "interactions"
    SESSIONS = "sessions"
    DISLIKES = "dislikes"
    MATCHES = "matches"
    TOMBSTONES = "tombstones"


PARTED = (TableName.INTERACTIONS, TableName.SESSIONS)
"""Tables in parts by ranges of their column `sequence`, which never overlap."""


class Source(StrEnum):
    """Where an interaction came from: a list that was served, or not."""

    RECOMMENDATION = "recommendation"
    ORGANIC = "organic"


class MatchState(StrEnum):
    """What two sides want of each other."""

    ONE_SIDED = "one_sided"
    RECIPROCATED = "reciprocated"
    CLOSED = "closed"


class SessionSource(StrEnum):
    """Who decided a list: ranking_svc, or a client that showed its own."""

    RANKING = "ranking"
    CLIENT = "client"


def _required(name: str, type_: pa.DataType) -> pa.Field:
    return pa.field(name, type_, nullable=False)


ENTITIES = pa.schema(
    [
        _required("kind", pa.string()),
        _required("id", pa.string()),
        _required("active", pa.bool_()),
        pa.field("create_time", UTC_TIME),
        pa.field("update_time", UTC_TIME),
    ]
)

# One row a feature value. `type` is the value's FeatureType; discrete values and text (as the one value)
# stand in `values`, a number in `number`, an embedding in `vector`; the other two are null, but for a vector
# derived from texts, whose `values` hold its embedder's name.
FEATURES = pa.schema(
    [
        _required("kind", pa.string()),
        _required("id", pa.string()),
        _required("name", pa.string()),
        _required("type", pa.string()),
        pa.field("values", pa.list_(pa.string())),
        pa.field("number", pa.float64()),
        pa.field("vector", pa.list_(pa.float32())),
    ]
)

# One row a reaction, by `sequence` (the order of receipt). The last five are those of the session that
# caused it, null for an organic one.
INTERACTIONS = pa.schema(
    [
        _required("sequence", pa.int64()),
        _required("interaction_id", pa.string()),
        _required("use_case", pa.string()),
        _required("subject_id", pa.string()),
        _required("item_id", pa.string()),
        _required("event_type", pa.string()),
        _required("event_time", UTC_TIME),
        _required("receive_time", UTC_TIME),
        _required("source", pa.string()),
        pa.field("session_id", pa.string()),
        pa.field("rank", pa.int32()),
        pa.field("score", pa.float64()),
        pa.field("method", pa.string()),
        pa.field("release", pa.string()),
    ]
)

# One row a list served, by `sequence` (the order of receipt; lists received together share one) and id;
# `source` is a SessionSource. The lists run in rank order, rank 1 first, and are
# equally long; `feature_values` is items × names, row by row, empty when no features were logged;
# `retrieval_scores` and what is in it are null where the methods' own scores were not logged.
SESSIONS = pa.schema(
    [
        _required("sequence", pa.int64()),
        _required("session_id", pa.string()),
        _required("use_case", pa.string()),
        _required("subject_id", pa.string()),
        pa.field("release", pa.string()),
        pa.field("arm", pa.string()),
        pa.field("tier", pa.string()),
        _required("reranked", pa.bool_()),
        _required("source", pa.string()),
        _required("serve_time", UTC_TIME),
        _required("item_ids", pa.list_(pa.string())),
        _required("scores", pa.list_(pa.float64())),
        _required("methods", pa.list_(pa.string())),
        pa.field("propensities", pa.list_(pa.float64())),
        _required("feature_names", pa.list_(pa.string())),
        _required("feature_values", pa.list_(pa.float32())),
        pa.field("retrieval_scores", pa.list_(pa.float64())),
    ]
)

# One row an explicit rejection; `used_by_release` is the release whose training used it first.
DISLIKES = pa.schema(
    [
        _required("dislike_id", pa.string()),
        _required("use_case", pa.string()),
        _required("subject_id", pa.string()),
        _required("item_id", pa.string()),
        pa.field("session_id", pa.string()),
        _required("reason", pa.string()),
        pa.field("predicted_score", pa.float64()),
        pa.field("error", pa.float64()),
        _required("event_time", UTC_TIME),
        pa.field("used_by_release", pa.string()),
    ]
)

# One row a pair of which either side wanted or rejected the other; `use_case` is the forward one, `state` a
# MatchState. The times are each side's first strong positive, and when the match was closed.
MATCHES = pa.schema(
    [
        _required("sequence", pa.int64()),
        _required("use_case", pa.string()),
        _required("subject_id", pa.string()),
        _required("item_id", pa.string()),
        _required("state", pa.string()),
        pa.field("subject_time", UTC_TIME),
        pa.field("item_time", UTC_TIME),
        pa.field("close_time", UTC_TIME),
    ]
)

# One row an erased entity, named by the hex SHA-256 of its kind, a unit separator (U+001F) and its id, in
# UTF-8: a snapshot made earlier can be searched for it, while this one doesn't say who it was.
TOMBSTONES = pa.schema(
    [
        _required("sequence", pa.int64()),
        _required("kind", pa.string()),
        _required("id_hash", pa.string()),
        _required("erase_time", UTC_TIME),
    ]
)

SCHEMAS: dict[TableName, pa.Schema] = {
    TableName.ENTITIES: ENTITIES,
    TableName.FEATURES: FEATURES,
    TableName.INTERACTIONS: INTERACTIONS,
    TableName.SESSIONS: SESSIONS,
    TableName.DISLIKES: DISLIKES,
    TableName.MATCHES: MATCHES,
    TableName.TOMBSTONES: TOMBSTONES,
}
