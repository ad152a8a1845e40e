"""How tables travel from COPY to a snapshot: the statement, the CSV's columns, and the last steps in Arrow.

Times travel as microseconds since 1970, lists as text joined by the unit separator, which no id holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from matchloop.snapshot import TableName
from matchloop.snapshot.schemas import UTC_TIME

SEPARATOR = "\x1f"

ENTITIES = """
SELECT kind, id, features || coalesce(derived, '{}') AS features, active, create_time, update_time,
    change_sequence
FROM entities
WHERE change_sequence << 9 <= :watermark ORDER BY kind, id
"""


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """One table that is copied.

    Parameters
    ----------
    statement
        Its SELECT, with a place for the watermark.
    columns
        As they come in the CSV.
    finish
        Makes the snapshot's columns of a block.
    """

    name: TableName
    statement: str
    columns: pa.Schema
    finish: Callable[[pa.Table], pa.Table]


def _micros(column: str) -> str:
    return f"(date_part('epoch', {column}) * 1e6)::bigint"


def _joined(column: str) -> str:
    return f"array_to_string({column}, E'\\x1f')"


def _times(table: pa.Table, *names: str) -> pa.Table:
    for name in names:
        table = table.set_column(table.column_names.index(name), name, table[name].cast(UTC_TIME))
    return table


def _lists(table: pa.Table, value: pa.DataType, *names: str, empty: bool = False) -> pa.Table:
    """Split columns of joined text into lists.

    Parameters
    ----------
    empty
        Whether '' is the list without values; else it is the list of one empty text.
    """
    for name in names:
        column = table[name].combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        split = pc.split_pattern(column, SEPARATOR)
        lengths = pc.fill_null(pc.list_value_length(split), 0)
        if empty:
            lengths = pc.if_else(pc.fill_null(pc.equal(column, ""), fill_value=True), 0, lengths)
            split = split.filter(pc.fill_null(pc.not_equal(column, ""), fill_value=False))
        flat = pc.list_flatten(split)
        flat = pc.if_else(pc.equal(flat, ""), pa.scalar(None, pa.string()), flat).cast(value)
        offsets = np.concatenate([[0], np.cumsum(lengths.to_numpy(zero_copy_only=False))]).astype(np.int32)
        nulls = pc.is_null(column) if column.null_count else None
        lists = pa.ListArray.from_arrays(pa.array(offsets), flat, mask=nulls)
        table = table.set_column(table.column_names.index(name), name, lists)
    return table


def _finish_sessions(table: pa.Table) -> pa.Table:
    table = _lists(_times(table, "serve_time"), pa.string(), "item_ids", "methods")
    table = _lists(table, pa.float64(), "scores")
    table = _lists(table, pa.float64(), "propensities", empty=True)
    table = _lists(table, pa.string(), "feature_names", empty=True)
    return _lists(table, pa.float32(), "feature_values", empty=True)


def _schema(**types: pa.DataType) -> pa.Schema:
    return pa.schema(list(types.items()))


TEXT, WHOLE, NUMBER, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()

INTERACTIONS = CopiedTable(
    TableName.INTERACTIONS,
    f"""SELECT sequence, interaction_id, use_case, subject_id, item_id, event_type, {_micros("event_time")},
        {_micros("receive_time")}, CASE WHEN rank IS NULL THEN 'organic' ELSE 'recommendation' END,
        session_id, nullif(rank, 0), score, method, nullif(release, '')
    FROM interactions WHERE sequence <= {{watermark}} ORDER BY sequence""",  # noqa: S608
    _schema(
        sequence=WHOLE,
        interaction_id=TEXT,
        use_case=TEXT,
        subject_id=TEXT,
        item_id=TEXT,
        event_type=TEXT,
        event_time=WHOLE,
        receive_time=WHOLE,
        source=TEXT,
        session_id=TEXT,
        rank=pa.int32(),
        score=NUMBER,
        method=TEXT,
        release=TEXT,
    ),
    lambda table: _times(table, "event_time", "receive_time"),
)

SESSIONS = CopiedTable(
    TableName.SESSIONS,
    f"""SELECT session_id, use_case, subject_id, nullif(release, ''), nullif(arm, ''), nullif(tier, ''),
        reranked, source, {_micros("serve_time")}, {_joined("item_ids")}, {_joined("scores")},
        {_joined("methods")}, {_joined("propensities")}, {_joined("feature_names")},
        {_joined("feature_values")}
    FROM sessions WHERE sequence <= {{watermark}}
    ORDER BY use_case, serve_time, session_id""",  # noqa: S608
    _schema(
        session_id=TEXT,
        use_case=TEXT,
        subject_id=TEXT,
        release=TEXT,
        arm=TEXT,
        tier=TEXT,
        reranked=FLAG,
        source=TEXT,
        serve_time=WHOLE,
        item_ids=TEXT,
        scores=TEXT,
        methods=TEXT,
        propensities=TEXT,
        feature_names=TEXT,
        feature_values=TEXT,
    ),
    _finish_sessions,
)

DISLIKES = CopiedTable(
    TableName.DISLIKES,
    f"""SELECT dislike_id, use_case, subject_id, item_id, session_id, reason, predicted_score, error,
        {_micros("event_time")}, used_by_release
    FROM dislikes WHERE sequence <= {{watermark}} ORDER BY sequence""",  # noqa: S608
    _schema(
        dislike_id=TEXT,
        use_case=TEXT,
        subject_id=TEXT,
        item_id=TEXT,
        session_id=TEXT,
        reason=TEXT,
        predicted_score=NUMBER,
        error=NUMBER,
        event_time=WHOLE,
        used_by_release=TEXT,
    ),
    lambda table: _times(table, "event_time"),
)

COPIED = (INTERACTIONS, SESSIONS, DISLIKES)
