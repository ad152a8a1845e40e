"""The data sets as somebody would write them by hand in DuckDB's SQL, for `benchmarks.datasets`.

They know what the data sets' own expressions have to be told: one use case, the settings of the preset, lists
of ten. The results are the same, row for row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from matchloop.snapshot import TableName

if TYPE_CHECKING:
    import pyarrow as pa

    from matchloop.snapshot import Snapshot

THREADS = 2
VALIDATION_SHARE = 0.1

EVENTS = """
CREATE TEMP MACRO weight_of(event_type) AS CASE event_type WHEN 'view' THEN 0.5::DOUBLE WHEN 'click' THEN 1.0
    WHEN 'like' THEN 2.0 WHEN 'favorite' THEN 2.5 WHEN 'apply' THEN 3.0 WHEN 'interest' THEN 3.5
    WHEN 'dislike' THEN -1.0 END;
CREATE TEMP MACRO label_of(event_type) AS CASE event_type WHEN 'view' THEN 0.4::DOUBLE WHEN 'click' THEN 0.6
    WHEN 'like' THEN 0.8 WHEN 'favorite' THEN 0.9 WHEN 'apply' THEN 1.0 WHEN 'interest' THEN 1.0
    WHEN 'dislike' THEN 0.0 END;
CREATE TEMP VIEW developers AS SELECT id FROM entities WHERE kind = 'developer';
CREATE TEMP VIEW startups AS SELECT id FROM entities WHERE kind = 'startup';
CREATE TEMP VIEW events AS
SELECT * FROM interactions WHERE use_case = 'developer_startup'
    AND event_type IN ('view', 'click', 'like', 'favorite', 'apply', 'interest', 'dislike')
    AND subject_id IN (FROM developers) AND item_id IN (FROM startups)
"""

COUNT = "SELECT count(*) AS count FROM events"
LAST = "SELECT event_time, sequence FROM events ORDER BY ALL LIMIT 1 OFFSET $before"
TRAINING = "(event_time, sequence) <= ($last_time, $last_sequence)"

ALS = f"""
SELECT subject_id, item_id, sum(weight_of(event_type)) AS weight, count(*) AS interactions,
    bool_or(source = 'recommendation') AS listed, min(event_time) AS first_time, max(event_time) AS last_time
FROM events WHERE {TRAINING}
GROUP BY subject_id, item_id HAVING sum(weight_of(event_type)) > 0
ORDER BY subject_id, item_id
"""  # noqa: S608 - our own constants

# Who rejected what last, and what came of what was shown.
TOLD = """
rejections AS (
    SELECT subject_id, item_id, max(event_time) FILTER (rejects) AS rejected_at
    FROM (
        SELECT subject_id, item_id, event_time, event_type = 'dislike' AS rejects FROM interactions
        WHERE use_case = 'developer_startup' AND event_time <= $last_time
            AND event_type IN ('like', 'favorite', 'apply', 'interest', 'dislike')
        UNION ALL
        SELECT subject_id, item_id, event_time, true FROM dislikes
        WHERE use_case = 'developer_startup' AND event_time <= $last_time
    )
    GROUP BY subject_id, item_id
    HAVING bool_or(rejects)
        AND NOT coalesce(max(event_time) FILTER (NOT rejects) > max(event_time) FILTER (rejects), false)
),
reacted AS (
    SELECT session_id, item_id,
        bool_or(event_type IN ('like', 'favorite', 'apply', 'interest')) AS strong,
        bool_or(event_type = 'dislike') AS rejected,
        bool_or(event_type = 'click') AS clicked,
        bool_or(event_type = 'view') AS viewed
    FROM interactions
    WHERE use_case = 'developer_startup' AND session_id IS NOT NULL AND event_time <= $last_time
    GROUP BY session_id, item_id
)
"""

TWO_TOWER = f"""
WITH {TOLD},
dislikes_alone AS (
    SELECT subject_id, item_id, event_time FROM dislikes
    WHERE use_case = 'developer_startup' AND event_time <= $last_time
        AND subject_id IN (FROM developers) AND item_id IN (FROM startups)
),
said AS (
    SELECT subject_id, item_id, max(label) AS label, sum(weight) AS weight, min(rank) AS rank,
        max(score) AS score, min(event_time) AS first_time, max(event_time) AS last_time
    FROM (
        SELECT subject_id, item_id, event_time, rank, score, label_of(event_type) AS label,
            weight_of(event_type) AS weight
        FROM events WHERE {TRAINING}
        UNION ALL
        SELECT subject_id, item_id, event_time, NULL, NULL, 0.0, 0.0 FROM dislikes_alone
    )
    GROUP BY subject_id, item_id
),
shown AS (
    SELECT session_id, subject_id, serve_time, unnest(item_ids) AS item_id,
        unnest(range(1, len(item_ids) + 1)) AS rank, unnest(scores) AS score
    FROM sessions
    WHERE use_case = 'developer_startup' AND source = 'ranking'
        AND serve_time <= $last_time - INTERVAL 30 MINUTE
),
hard AS (
    SELECT subject_id, item_id, min(rank) AS rank, max(score) AS score, min(serve_time) AS first_time,
        max(serve_time) AS last_time
    FROM shown LEFT JOIN reacted USING (session_id, item_id) LEFT JOIN rejections USING (subject_id, item_id)
    WHERE (score > 0.7 OR rank <= 5)
        AND NOT coalesce(strong, false)
        AND (coalesce(clicked, false) OR NOT coalesce(viewed, false))
        AND NOT coalesce(rejected_at IS NOT NULL AND (rejected OR rejected_at >= serve_time), false)
        AND subject_id IN (FROM developers) AND item_id IN (FROM startups)
    GROUP BY subject_id, item_id
),
pairs AS (
    SELECT subject_id, item_id,
        CASE WHEN rejected_at IS NULL THEN label ELSE 0.0 END AS label,
        CASE WHEN rejected_at IS NULL THEN weight ELSE least(weight, 0.0) END AS weight,
        rank, score,
        CASE WHEN rejected_at IS NULL THEN 'interaction' ELSE 'disliked' END AS source,
        first_time, last_time
    FROM said LEFT JOIN rejections USING (subject_id, item_id)
    UNION ALL
    SELECT subject_id, item_id, 0.0, 0.0, rank, score, 'hard', first_time, last_time
    FROM hard ANTI JOIN said USING (subject_id, item_id)
)
SELECT *, CASE WHEN rank IS NULL THEN 1.0 ELSE least(log2(rank + 1), 5.0) END AS rank_weight
FROM pairs ORDER BY subject_id, item_id
"""  # noqa: S608 - our own constants

# Two items by chance for each positive, none that the subject has a pair with or was shown.
DRAWN = """
WITH numbered AS (SELECT id, row_number() OVER () - 1 AS number FROM startups),
wanted AS (
    SELECT subject_id, floor(random() * (SELECT count(*) FROM startups))::BIGINT AS number
    FROM pairs CROSS JOIN range(2) WHERE label > 0.0
),
taken AS (
    SELECT subject_id, item_id FROM pairs
    UNION
    SELECT subject_id, unnest(item_ids) FROM sessions
    WHERE use_case = 'developer_startup' AND serve_time <= $last_time
)
SELECT subject_id, item_id FROM (SELECT subject_id, id AS item_id FROM wanted JOIN numbered USING (number))
ANTI JOIN taken USING (subject_id, item_id)
"""

RANKER = f"""
WITH {TOLD},
shown AS (
    SELECT session_id, subject_id, serve_time, unnest(item_ids) AS item_id,
        unnest(range(1, len(item_ids) + 1)) AS rank, unnest(scores) AS score,
        unnest(retrieval_scores) AS retrieval_score, unnest(methods) AS method
    FROM sessions
    WHERE use_case = 'developer_startup' AND source = 'ranking'
        AND feature_names = ['model_score', 'recency', 'popularity', 'diversity', 'original_score',
            'subject_affinity', 'als_score', 'response']
        AND len(feature_values) = len(item_ids) * 8
),
judged AS (
    SELECT shown.*, coalesce(clicked, false) AS clicked,
        CASE WHEN rejected_at IS NOT NULL AND (coalesce(rejected, false) OR rejected_at >= serve_time)
                THEN 'disliked'
            WHEN strong AND rejected_at IS NULL THEN 'positive'
            WHEN strong OR serve_time > $taken - INTERVAL 30 MINUTE THEN NULL
            WHEN viewed AND NOT clicked THEN 'viewed'
            ELSE 'hard' END AS outcome
    FROM shown LEFT JOIN reacted USING (session_id, item_id) LEFT JOIN rejections USING (subject_id, item_id)
),
preferred AS (
    SELECT *,
        CASE outcome WHEN 'positive' THEN 0 WHEN 'disliked' THEN 1 WHEN 'viewed' THEN 2
            ELSE 3 + clicked::INTEGER END AS preference,
        -ln(
            (('0x' || reverse(left(md5(session_id || ' ' || item_id), 5)))::INTEGER + 0.5) / 1048576
        ) * CASE WHEN outcome = 'hard' AND NOT clicked THEN log2(rank + 1) ELSE 1.0 END AS draw
    FROM judged WHERE outcome IS NOT NULL
),
kept AS (
    SELECT * FROM preferred
    QUALIFY preference <= 1
        OR row_number() OVER (PARTITION BY session_id, preference = 0 ORDER BY preference, draw, rank)
            <= 2 * count(*) FILTER (preference = 0) OVER (PARTITION BY session_id)
)
SELECT kept.session_id, kept.subject_id, kept.serve_time, kept.rank, item_id, score AS recommendation_score,
    retrieval_score, method, outcome,
    feature_values[(kept.rank - 1) * 8 + 1 : kept.rank * 8] AS features,
    1.0 / log2(kept.rank + 1) AS exposure_weight
FROM kept JOIN sessions USING (session_id)
ORDER BY kept.serve_time, kept.session_id, kept.rank
"""  # noqa: S608 - our own constants


@dataclass(frozen=True, slots=True)
class ByHand:
    """A connection that sees a snapshot's tables."""

    connection: duckdb.DuckDBPyConnection
    taken: Any

    @classmethod
    def of(cls, snapshot: Snapshot) -> ByHand:
        """Open a snapshot."""
        connection = duckdb.connect(config={"threads": THREADS})
        connection.execute("SET enable_progress_bar = false")
        for name in TableName:
            files = [str(path) for path in snapshot.paths(name)]
            connection.read_parquet(files).create_view(name)
        connection.execute(EVENTS)
        return cls(connection, snapshot.manifest.created)

    def last(self) -> dict[str, Any]:
        """Return time and sequence of the last event of the training part."""
        count = self._table(COUNT)["count"][0].as_py()
        before = round(count * (1.0 - VALIDATION_SHARE)) - 1
        last = self._table(LAST, before=before).to_pylist()[0]
        return {"last_time": last["event_time"], "last_sequence": last["sequence"]}

    def als(self) -> pa.Table:
        """Return the pairs, by subject and item."""
        return self._table(ALS, **self.last())

    def two_tower(self) -> tuple[pa.Table, pa.Table]:
        """Return the pairs, by subject and item, and what was drawn by chance."""
        last = self.last()
        pairs = self._table(TWO_TOWER, **last)
        self.connection.register("pairs", pairs)
        return pairs, self._table(DRAWN, last_time=last["last_time"])

    def ranker(self) -> pa.Table:
        """Return the examples, by serve time, list and rank."""
        return self._table(RANKER, taken=self.taken, last_time=self.taken)

    def _table(self, query: str, **values: Any) -> pa.Table:
        return self.connection.sql(query, params=values).to_arrow_table()
