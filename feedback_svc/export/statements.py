"""What an export asks PostgreSQL for. Results arrive as Arrow, from COPY BINARY: lists and times as they are.

COPY takes no parameters: statements are filled in with whole numbers only.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from matchloop.snapshot import TableName

SESSION = (
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
    "SET jit = off",
    # A range is read in the order of an index; workers would fight the reader for its cores.
    "SET max_parallel_workers_per_gather = 0",
)

# All changes below the horizon have ended. `store` names the database and its history; amendments of changes
# below `pruned` are gone.
MOMENT = """
SELECT change_horizon() AS horizon,
    (SELECT history::text FROM record_history) || '/'
        || (SELECT oid::text FROM pg_database WHERE datname = current_database()) AS store,
    coalesce((SELECT to_sequence FROM retention_progress WHERE rule = 'amendments'), 0) AS pruned
"""

# By what changed: the highest sequence in sight, and the highest that has ended, with all below it.
CHANGES = """
SELECT 'interactions' AS source, (SELECT max(sequence) FROM interactions) AS latest,
    (SELECT max(sequence) FROM interactions WHERE sequence < {horizon} << 9) AS settled
UNION ALL SELECT 'sessions', (SELECT max(sequence) FROM sessions),
    (SELECT max(sequence) FROM sessions WHERE sequence < {horizon} << 9)
UNION ALL SELECT 'entities', (SELECT max(change_sequence) FROM entities) << 9,
    (SELECT max(change_sequence) FROM entities WHERE change_sequence < {horizon}) << 9
UNION ALL SELECT 'tombstones', (SELECT max(change_sequence) FROM tombstones) << 9,
    (SELECT max(change_sequence) FROM tombstones WHERE change_sequence < {horizon}) << 9
UNION ALL SELECT 'matches', max(sequence), max(sequence) FILTER (WHERE sequence < {horizon} << 9) FROM matches
UNION ALL SELECT 'dislikes', max(sequence), max(sequence) FILTER (WHERE sequence < {horizon} << 9)
    FROM dislikes
UNION ALL SELECT 'amended ' || name,
    (SELECT max(change_sequence) FROM amendments WHERE table_name = name) << 9,
    (SELECT max(change_sequence) FROM amendments WHERE table_name = name AND change_sequence < {horizon}) << 9
FROM unnest(ARRAY['interactions', 'sessions', 'dislikes', 'matches', 'entities']) AS name
"""
AMENDED = "amended "

SMALL_SOURCES: dict[TableName, tuple[str, ...]] = {
    TableName.ENTITIES: ("entities", "tombstones", f"{AMENDED}entities"),
    TableName.FEATURES: ("entities", "tombstones", f"{AMENDED}entities"),
    # A dislike goes with its interaction.
    TableName.DISLIKES: ("dislikes", "tombstones", f"{AMENDED}dislikes", f"{AMENDED}interactions"),
    TableName.MATCHES: ("matches", "tombstones", f"{AMENDED}matches"),
    TableName.TOMBSTONES: ("tombstones",),
}
"""Tables that are read whole when any of these changed."""

AMENDMENTS = """
SELECT sequence, change_sequence FROM amendments
WHERE table_name = '{table}' AND change_sequence > {after}
"""

RANGES: dict[TableName, str] = {
    TableName.INTERACTIONS: """
SELECT sequence, interaction_id, use_case, subject_id, item_id, event_type, event_time, receive_time,
    CASE WHEN rank IS NULL THEN 'organic' ELSE 'recommendation' END AS source, session_id,
    nullif(rank, 0) AS rank, score, method, nullif(release, '') AS release
FROM interactions WHERE sequence BETWEEN {first} AND {last} ORDER BY sequence
""",
    TableName.SESSIONS: """
SELECT sequence, session_id, use_case, subject_id, nullif(release, '') AS release, nullif(arm, '') AS arm,
    nullif(tier, '') AS tier, reranked, source, serve_time, item_ids, scores,
    array_replace(methods, '', NULL) AS methods, propensities, feature_names, feature_values,
    retrieval_scores
FROM sessions WHERE sequence BETWEEN {first} AND {last} ORDER BY sequence, session_id
""",
}
"""Tables in parts, by sequence."""

SMALL: dict[TableName, str] = {
    TableName.ENTITIES: "SELECT kind, id, active, create_time, update_time FROM entities ORDER BY kind, id",
    # See feedback_svc.store.features for how values are stored.
    TableName.FEATURES: """
SELECT e.kind, e.id, f.key AS name, CASE f.value ->> 0 WHEN 'c' THEN 'categorical' WHEN 'm' THEN 'multi'
        WHEN 'n' THEN 'numeric' WHEN 't' THEN 'text' ELSE 'embedding' END AS type,
    CASE WHEN f.value ->> 0 IN ('c', 't') THEN ARRAY[f.value ->> 1]
        WHEN f.value ->> 0 = 'm' THEN ARRAY(SELECT jsonb_array_elements_text(f.value -> 1)) END AS values,
    CASE WHEN f.value ->> 0 = 'n' THEN (f.value ->> 1)::float8 END AS number,
    CASE WHEN f.value ->> 0 = 'e' THEN decode(f.value ->> 1, 'base64') END AS vector
FROM entities e CROSS JOIN LATERAL jsonb_each(e.features || coalesce(e.derived, '{{}}')) AS f (key, value)
ORDER BY e.kind, e.id, f.key COLLATE "C"
""",
    TableName.DISLIKES: """
SELECT dislike_id, use_case, subject_id, item_id, session_id, reason, predicted_score, error, event_time,
    used_by_release
FROM dislikes WHERE sequence <= {watermark} ORDER BY sequence
""",
    TableName.MATCHES: """
SELECT sequence, use_case, subject_id, item_id, state, subject_first AS subject_time,
    item_first AS item_time, close_time
FROM matches ORDER BY use_case, subject_id, item_id
""",
    TableName.TOMBSTONES: """
SELECT change_sequence << 9 AS sequence, kind, id_hash, erase_time FROM tombstones ORDER BY kind, id_hash
""",
}
"""Tables that are read whole."""

ESTIMATES = """
SELECT name, (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass(name)) AS rows
FROM unnest(ARRAY['interactions', 'sessions', 'dislikes', 'entities', 'matches', 'tombstones']) AS name
"""
"""PostgreSQL's own estimates of how many rows there are."""


def with_vectors(table: pa.Table) -> pa.Table:
    """Turn column `vector`, bytes of little-endian float32, into lists of numbers without touching them."""
    chunks = [_vectors(chunk) for chunk in table["vector"].chunks]
    at = table.column_names.index("vector")
    return table.set_column(at, "vector", pa.chunked_array(chunks, pa.list_(pa.float32())))


def _vectors(column: pa.BinaryArray) -> pa.ListArray:
    _, offsets_buffer, data = column.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[column.offset : column.offset + len(column) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    values = np.frombuffer(data, np.uint8)[first:last].view("<f4") if last > first else np.empty(0, "<f4")
    starts = ((offsets - first) // values.itemsize).astype(np.int32)
    nulls = column.is_null() if column.null_count else None
    return pa.ListArray.from_arrays(pa.array(starts), pa.array(values, pa.float32()), mask=nulls)
