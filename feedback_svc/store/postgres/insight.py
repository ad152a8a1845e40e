"""What patterns and metrics are computed from, in PostgreSQL: bounded reads, each by an index."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from feedback_svc.evidence import (
    LISTS_PER_DAY,
    PLACES,
    REJECTIONS,
    DislikeCell,
    Rejection,
    Retraining,
    Shown,
    Value,
    Window,
)
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.postgres.literals import text_array

RETRAININGS = """
SELECT release, to_sequence, marked, mark_time FROM retrainings
WHERE use_case = %s ORDER BY mark_time DESC, release DESC LIMIT %s
"""
# Answered from an index alone (dislikes_by_time, or dislikes_by_subject_time), however many there are.
COUNTS = """
SELECT reason, week, count(*), count(error), coalesce(sum(error), 0.0), min(error), max(error)
FROM (
    SELECT reason, error, CASE WHEN event_time >= %(start)s AND event_time < %(end)s
        THEN floor(date_part('epoch', event_time - %(start)s) / 604800)::int END AS week
    FROM dislikes WHERE use_case = %(use_case)s {of_subject}
) AS each
GROUP BY reason, week
"""
OF_SUBJECT = "AND subject_id = %(subject_id)s"
CHANGES = ", change_features, change_values, factors_before, factors_after"
REJECTED = """
SELECT dislike_id, subject_id, item_id, reason, event_time, used_by_release IS NOT NULL {changes}
FROM dislikes WHERE use_case = %(use_case)s AND event_time >= %(since)s {of_subject} {unused}
ORDER BY {latest} LIMIT %(limit)s
"""
# Values of a feature: a text for one, a JSON array for several (see `feedback_svc.store.features`). Each
# row is unpacked once: behind it may lie an embedding.
HELD = """
SELECT e.id, held.values
FROM unnest(%(items)s::text[]) AS asked (id)
JOIN entities e ON e.kind = %(kind)s AND e.id = asked.id
CROSS JOIN LATERAL (
    SELECT jsonb_object_agg(f.name, f.held -> 1) AS values FROM jsonb_each(e.features) AS f (name, held)
    WHERE f.name = ANY (%(features)s::text[]) AND f.held ->> 0 IN ('c', 'm')
) AS held
"""
# By default nothing of ours is hashed (see OPTIONS): here two small derived tables are joined.
HASHED = "SET LOCAL enable_hashjoin = on"
SHOWN = """
WITH lists AS MATERIALIZED (
    SELECT day.number / 7 AS week, latest.session_id, latest.item_ids
    FROM generate_series(0, %(days)s - 1) AS day (number)
    CROSS JOIN LATERAL (
        SELECT s.session_id, s.item_ids[1:%(places)s] AS item_ids FROM sessions s
        WHERE s.use_case = %(use_case)s {of_subject}
            AND s.serve_time >= %(start)s + day.number * interval '1 day'
            AND s.serve_time < %(start)s + (day.number + 1) * interval '1 day'
        ORDER BY s.serve_time DESC, s.session_id DESC LIMIT %(lists)s
    ) AS latest
), disliked AS MATERIALIZED (
    SELECT d.item_id, count(DISTINCT l.session_id) AS rejected
    FROM lists l JOIN dislikes d ON d.session_id = l.session_id AND d.use_case = %(use_case)s
        AND d.item_id = ANY (l.item_ids)
    GROUP BY d.item_id
), shown AS MATERIALIZED (
    SELECT l.week, i.item_id, count(*) AS places
    FROM lists l CROSS JOIN LATERAL unnest(l.item_ids) AS i (item_id) GROUP BY l.week, i.item_id
), known AS MATERIALIZED (
    SELECT e.id, e.features FROM (SELECT DISTINCT item_id FROM shown) AS s
    JOIN entities e ON e.kind = %(kind)s AND e.id = s.item_id
), held AS MATERIALIZED (
    SELECT k.id, f.name, v.value FROM known k
    CROSS JOIN LATERAL jsonb_each(k.features) AS f (name, held)
    CROSS JOIN LATERAL jsonb_array_elements_text(
        CASE f.held ->> 0 WHEN 'm' THEN f.held -> 1 WHEN 'c' THEN f.held - 0 END
    ) AS v (value)
    WHERE f.name = ANY (%(features)s::text[])
), wanted AS MATERIALIZED (
    SELECT h.* FROM held h WHERE %(any_value)s OR (h.name, h.value) IN (
        SELECT asked.name, asked.value
        FROM unnest(%(names)s::text[], %(values)s::text[]) AS asked (name, value)
    )
), weekly AS (
    SELECT h.name, h.value, s.week, sum(s.places) AS places
    FROM shown s JOIN wanted h ON h.id = s.item_id GROUP BY h.name, h.value, s.week
), rejected AS (
    SELECT h.name, h.value, sum(d.rejected) AS places
    FROM disliked d JOIN wanted h ON h.id = d.item_id GROUP BY h.name, h.value
)
SELECT 'lists' AS of, NULL AS name, NULL AS value, NULL AS week, count(*) AS places FROM lists
UNION ALL
SELECT 'items', NULL, NULL, s.week, sum(s.places)
FROM shown s JOIN known k ON k.id = s.item_id GROUP BY s.week
UNION ALL
SELECT 'distinct', name, NULL, NULL, count(*)
FROM (SELECT DISTINCT name, value FROM held) AS each GROUP BY name
UNION ALL
SELECT 'value', name, value, week, places FROM weekly
UNION ALL
SELECT 'rejected', name, value, NULL, places FROM rejected
"""


class PostgresInsight:
    """The part of the store for what is learned from rejections."""

    _database: Database

    def list_retrainings(self, use_case: str, *, limit: int) -> tuple[Retraining, ...]:
        """List the impact records, the latest first."""
        rows = self._database.run(lambda c: c.exec_driver_sql(RETRAININGS, (use_case, limit)).all())
        return tuple(Retraining(*row) for row in rows)

    def count_dislikes(self, use_case: str, *, subject_id: str, window: Window) -> tuple[DislikeCell, ...]:
        """Count all dislikes by reason and week of the window; `subject_id` empty: of all subjects."""
        statement = COUNTS.format(of_subject=OF_SUBJECT if subject_id else "")
        parameters = {
            "use_case": use_case,
            "subject_id": subject_id,
            "start": window.start,
            "end": window.end,
        }
        rows = self._database.run(lambda c: c.exec_driver_sql(statement, parameters).all())
        return tuple(DislikeCell(*row) for row in rows)

    def list_rejections(
        self,
        use_case: str,
        item_kind: str,
        features: Sequence[str],
        *,
        subject_id: str,
        since: datetime,
        unused_only: bool,
    ) -> tuple[Rejection, ...]:
        """List the latest `REJECTIONS` dislikes by event time and id, with their items' values."""
        # The unused go by the small index of the unused, which is in the order of arrival.
        statement = REJECTED.format(
            of_subject=OF_SUBJECT if subject_id else "",
            changes="" if features else CHANGES,
            unused="AND used_by_release IS NULL" if unused_only else "",
            latest="sequence DESC" if unused_only else "event_time DESC, dislike_id DESC",
        )
        parameters = {"use_case": use_case, "subject_id": subject_id, "since": since, "limit": REJECTIONS}

        def work(connection: Connection) -> tuple[Rejection, ...]:
            rows = connection.exec_driver_sql(statement, parameters).all()
            held = _held(connection, item_kind, features, {row[2] for row in rows})
            found = (_rejection(row, held.get(row[2])) for row in rows)
            return tuple(sorted(found, key=lambda r: (r.event_time, r.dislike_id)))

        return self._database.run(work)

    def sample_shown(
        self,
        use_case: str,
        item_kind: str,
        features: Sequence[str],
        *,
        values: Collection[Value] | None,
        subject_id: str,
        window: Window,
    ) -> Shown:
        """Count the first `PLACES` places on the latest `LISTS_PER_DAY` lists of each day of the window."""
        statement = SHOWN.format(of_subject=OF_SUBJECT if subject_id else "")
        parameters = {
            "use_case": use_case,
            "subject_id": subject_id,
            "kind": item_kind,
            "features": text_array(features),
            "any_value": values is None,
            "names": text_array([name for name, _ in values or ()]),
            "values": text_array([value for _, value in values or ()]),
            "start": window.start,
            "days": 7 * window.weeks,
            "lists": LISTS_PER_DAY,
            "places": PLACES,
        }

        def work(connection: Connection) -> Sequence[Row[Any]]:
            connection.exec_driver_sql(HASHED)
            return connection.exec_driver_sql(statement, parameters).all()

        return _shown(self._database.transact(work), window)


def _held(
    connection: Connection, kind: str, features: Sequence[str], items: set[str]
) -> dict[str, tuple[Value, ...]]:
    if not items or not features:
        return {}
    parameters = {"kind": kind, "items": text_array(sorted(items)), "features": text_array(features)}
    rows = connection.exec_driver_sql(HELD, parameters)
    return {row.id: _values(row[1] or {}) for row in rows}


def _values(held: dict[str, str | list[str]]) -> tuple[Value, ...]:
    return tuple(
        (name, value)
        for name, values in held.items()
        for value in ((values,) if isinstance(values, str) else values)
    )


def _rejection(row: Sequence[Any], values: tuple[Value, ...] | None) -> Rejection:
    dislike_id, subject_id, item_id, reason, event_time, used, *changes = row
    found = Rejection(dislike_id, subject_id, item_id, reason, event_time, used, values)
    if not changes:
        return found
    features, cut_values, before, after = changes
    falls = tuple(was - is_now for was, is_now in zip(before, after, strict=True))
    return replace(found, cut_values=tuple(zip(features, cut_values, strict=True)), falls=falls)


def _shown(rows: Iterable[Sequence[Any]], window: Window) -> Shown:
    lists, items = 0, [0] * window.weeks
    values: dict[Value, list[int]] = {}
    distinct: dict[str, int] = {}
    rejected: dict[Value, int] = {}
    for kind, name, value, week, places in rows:
        if kind == "value":
            values.setdefault((name, value), [0] * window.weeks)[week] = int(places)
        elif kind == "items":
            items[week] = int(places)
        elif kind == "distinct":
            distinct[name] = int(places)
        elif kind == "rejected":
            rejected[name, value] = int(places)
        else:
            lists = int(places)
    counts = {value: tuple(weeks) for value, weeks in values.items()}
    return Shown(lists, tuple(items), counts, distinct, rejected)
