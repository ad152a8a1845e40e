"""What came of lists, summed up in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from feedback_svc.operations.reactions import DIVERSITY, FRESHNESS, ReactionKinds, ServedLists
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.postgres.literals import text_array
from matchloop.experiments.reactions import Moments, Reactions

# Hundreds of thousands of subjects are a table to be hashed; a span of many lists may take its time.
AT_LARGE = "SET LOCAL work_mem = '128MB'; SET LOCAL enable_memoize = off; SET LOCAL statement_timeout = '60s'"
# One walk over the lists of the span, by time. Each is met with its reactions (by their index by session) and
# its features, and is narrow from there on. Features lie item by item: every width-th value is one feature's.
SUMS = """
WITH lists AS MATERIALIZED (
    SELECT {arm} AS arm, {release} AS release, s.subject_id, s.shown, s.reranked, drew.*, logged.*
    FROM (
        SELECT s.session_id, s.arm, s.release, s.subject_id, s.reranked, s.feature_values,
            cardinality(s.item_ids) AS shown, greatest(cardinality(s.feature_names), 1) AS width,
            array_position(s.feature_names, %(diversity)s) AS diversity_at,
            array_position(s.feature_names, %(freshness)s) AS freshness_at
        FROM sessions s
        WHERE s.use_case = %(use_case)s AND s.source = 'ranking' AND s.serve_time >= %(from_time)s {within}
        OFFSET 0
    ) AS s
    CROSS JOIN LATERAL (
        SELECT count(DISTINCT i.item_id) FILTER (WHERE i.event_type = ANY (%(clicks)s::text[])) AS clicked,
            count(DISTINCT i.item_id) FILTER (WHERE i.event_type = ANY (%(strong)s::text[])) AS strong,
            count(DISTINCT i.item_id) FILTER (WHERE i.event_type = ANY (%(dislikes)s::text[])) AS disliked
        FROM interactions i WHERE i.session_id = s.session_id AND i.rank > 0
    ) AS drew
    CROSS JOIN LATERAL (
        SELECT sum(s.feature_values[row + s.diversity_at]::float8) AS diversity,
            count(s.feature_values[row + s.diversity_at]) AS diverse,
            sum(s.feature_values[row + s.freshness_at]::float8) AS freshness,
            count(s.feature_values[row + s.freshness_at]) AS fresh
        FROM generate_series(0, cardinality(s.feature_values) - 1, s.width) AS row
    ) AS logged
), subjects AS (
    SELECT arm, release, count(*) AS lists, count(*) FILTER (WHERE reranked) AS reranked,
        sum(shown)::float8 AS shown, sum(clicked)::float8 AS clicked, sum(strong)::float8 AS strong,
        sum(disliked)::float8 AS disliked, sum(diversity) AS diversity, sum(diverse) AS diverse,
        sum(freshness) AS freshness, sum(fresh) AS fresh
    FROM lists GROUP BY arm, release, subject_id
)
SELECT arm, release, count(*) AS subjects, sum(lists) AS lists, sum(reranked) AS reranked,
    sum(shown) AS shown, sum(shown * shown) AS shown_squares,
    ARRAY[sum(clicked), sum(clicked * clicked), sum(clicked * shown)] AS clicks,
    ARRAY[sum(strong), sum(strong * strong), sum(strong * shown)] AS strong_positives,
    ARRAY[sum(disliked), sum(disliked * disliked), sum(disliked * shown)] AS dislikes,
    coalesce(sum(diversity) / nullif(sum(diverse), 0)::float8, 0) AS mean_diversity,
    coalesce(sum(freshness) / nullif(sum(fresh), 0)::float8, 0) AS mean_freshness
FROM subjects GROUP BY arm, release ORDER BY arm, release
"""


class PostgresReactions:
    """The part of the store that sums up what came of lists."""

    _database: Database

    def sum_reactions(self, which: ServedLists, kinds: ReactionKinds) -> tuple[Reactions, ...]:
        """Sum up what came of lists by arm, then release."""
        within = "AND s.serve_time < %(to_time)s" if which.to_time is not None else ""
        within += " AND s.release = %(release)s" if which.release else ""
        parameters = {
            "use_case": which.use_case,
            "from_time": which.from_time,
            "to_time": which.to_time,
            "release": which.release,
            "clicks": text_array(sorted(kinds.clicks)),
            "strong": text_array(sorted(kinds.strong_positives)),
            "dislikes": text_array(sorted(kinds.dislikes)),
            "diversity": DIVERSITY,
            "freshness": FRESHNESS,
        }

        def work(connection: Connection) -> Sequence[Row[Any]]:
            connection.exec_driver_sql(AT_LARGE)
            arm, release = which.group_of("s.arm", "s.release")
            sums = SUMS.format(within=within, arm=arm or "''", release=release or "''")
            return connection.exec_driver_sql(sums, parameters).all()

        return tuple(_reactions_of(row) for row in self._database.transact(work))


def _reactions_of(row: Row[Any]) -> Reactions:
    return Reactions(
        arm=row.arm,
        release=row.release,
        subjects=row.subjects,
        sessions=int(row.lists),
        shown=int(row.shown),
        shown_squares=row.shown_squares,
        clicks=_moments_of(row.clicks),
        strong_positives=_moments_of(row.strong_positives),
        dislikes=_moments_of(row.dislikes),
        reranked_sessions=int(row.reranked),
        mean_diversity=row.mean_diversity,
        mean_freshness=row.mean_freshness,
    )


def _moments_of(sums: Sequence[float]) -> Moments:
    total, squares, products = sums
    return Moments(int(total), squares, products)
