"""Retention in PostgreSQL: bounded steps in order of arrival, one short transaction each.

A step locks only rows that go, and skips those that somebody else holds. Interactions and sessions are read
by sequence from where earlier runs have left nothing, so a run costs what came of age since the last one.
A row that is too young or held ends what is settled, not the walk: it is looked at again by the next run.

Interactions are deleted from one table, not dropped with partitions of time. `RecordInteractions` promises an
id to be unique over everything, which no index over partitions can hold, so they need a table of ids beside
them that has to be emptied in batches all the same; views go sooner than other events of their time; and what
a subject did is looked for in every partition. Measured on two shared cores, 25 partitions against one table
of 240 000 rows, calls taken in turn: `LookupSubjectState` 0.57 ms against 0.32 (63 pages against 4), a batch
of 500 124 ms against 106, one interaction the same. Dropping a partition took 20 ms, emptying the ids of one
went at 14 000 rows a second; deleting from the one table, amendments included, at 18 000, while the median of
recording one interaction rose to 1.3 times what it was between steps. The space is used again: after as many
new rows as had been deleted the table had grown by 2 %, its indexes by 18 %.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, tuple_

from feedback_svc.dislikes import Cut, Factor, fold
from feedback_svc.expiry import ExpiryPosition, ExpiryRule, ExpiryStep, Kept
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.postgres.dislikes import dislike_of
from feedback_svc.store.postgres.literals import number_array, text_array, time_array
from feedback_svc.store.postgres.tables import DislikeRow

DISLIKES_AT_A_TIME = 500
"""Most dislikes in a step: it holds the advisory lock of each of their subjects."""

START = "SELECT to_sequence FROM retention_progress WHERE rule = %s AND definition = %s"

# Sessions written together share a sequence, so a step takes all of the last one's.
SESSIONS_SEEN = """
    SELECT s.sequence, s.session_id AS id, s.receive_time < %(before)s AS old, true AS mine, s.receive_time
    FROM sessions s WHERE s.sequence > %(after)s ORDER BY s.sequence FETCH FIRST %(batch)s ROWS WITH TIES
"""
INTERACTIONS_SEEN = """
    SELECT i.sequence, i.interaction_id AS id, i.receive_time < %(before)s AS old, {mine} AS mine,
        i.receive_time
    FROM interactions i WHERE i.sequence > %(after)s ORDER BY i.sequence LIMIT %(batch)s
"""
PAIR = "(i.use_case || E'\\x1f' || i.event_type)"
MINE = {
    Kept.VIEWS: f"{PAIR} = ANY (%(views)s::text[])",
    Kept.INTERACTIONS: f"{PAIR} <> ALL (%(views)s::text[]) AND {PAIR} <> ALL (%(dislikes)s::text[])",
    Kept.PLAIN_DISLIKES: f"{PAIR} = ANY (%(dislikes)s::text[])"
    " AND NOT EXISTS (SELECT FROM dislikes d WHERE d.dislike_id = i.interaction_id)",
}
REMOVE = """
WITH seen AS MATERIALIZED ({seen}), gone AS (
    DELETE FROM {table} t USING (
        SELECT h.{key} FROM seen JOIN {table} h ON h.{key} = seen.id
        WHERE seen.old AND seen.mine AND NOT %(dry_run)s FOR UPDATE OF h SKIP LOCKED
    ) AS held
    WHERE t.{key} = held.{key} RETURNING t.{key} AS id, t.sequence
), told AS (
    SELECT amend('{table}', sequences)
    FROM (SELECT array_agg(DISTINCT sequence) AS sequences FROM gone) AS all_gone WHERE sequences IS NOT NULL
), found AS (
    SELECT count(*) AS seen, max(sequence) AS last, max(receive_time) AS reached, bool_or(old) AS any_old,
        min(sequence) FILTER (WHERE NOT old) AS first_young, min(sequence) FILTER (WHERE mine) AS first_mine,
        count(*) FILTER (WHERE old AND mine) AS due
    FROM seen
), settled AS (
    SELECT CASE WHEN due = (SELECT count(*) FROM gone) THEN first_young
        ELSE least(first_young, first_mine) END AS first_left
    FROM found
), noted AS (
    INSERT INTO retention_progress AS kept
    SELECT %(rule)s, %(definition)s, coalesce(first_left - 1, last) FROM found, settled
    WHERE %(settled)s AND NOT %(dry_run)s AND seen > 0
    ON CONFLICT (rule) DO UPDATE SET definition = excluded.definition, to_sequence =
        CASE WHEN kept.definition = excluded.definition THEN greatest(kept.to_sequence, excluded.to_sequence)
            ELSE excluded.to_sequence END
)
SELECT seen, last, reached, any_old, due, first_left,
    (SELECT count(*) FROM gone) AS gone, (SELECT count(*) FROM told) AS told
FROM found, settled
"""

DISLIKES_SEEN = """
SELECT dislike_id, use_case, subject_id, sequence, receive_time,
    receive_time < CASE WHEN used_by_release IS NULL THEN %(unused_before)s ELSE %(before)s END AS due
FROM dislikes WHERE (use_case, sequence) > (%(use_case)s, %(after)s)
ORDER BY use_case, sequence LIMIT %(batch)s
"""
# Several subjects' locks, in one order; a dislike that is being recorded holds just one.
HOLD_SUBJECTS = """
SELECT pg_advisory_xact_lock(74002, stripe)
FROM (SELECT DISTINCT hashtext(name) AS stripe FROM unnest(%s::text[]) AS name ORDER BY 1) AS stripes
"""
REMOVE_DISLIKES = """
WITH held AS (
    SELECT d.dislike_id, i.sequence FROM dislikes d JOIN interactions i ON i.interaction_id = d.dislike_id
    WHERE d.dislike_id = ANY (%s::text[]) FOR UPDATE SKIP LOCKED
), told AS (
    SELECT amend('interactions', sequences)
    FROM (SELECT array_agg(sequence) AS sequences FROM held) AS all_held WHERE sequences IS NOT NULL
), interactions_gone AS (
    DELETE FROM interactions i USING held WHERE i.sequence = held.sequence
), gone AS (
    DELETE FROM dislikes d USING held WHERE d.dislike_id = held.dislike_id
    RETURNING d.use_case, d.subject_id, d.change_features, d.change_values
)
SELECT *, (SELECT count(*) FROM told) FROM gone
"""
DROP_FACTORS = """
DELETE FROM weight_factors w
USING unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS lost (use_case, subject_id, feature, value)
WHERE (w.use_case, w.subject_id, w.feature, w.value)
    = (lost.use_case, lost.subject_id, lost.feature, lost.value)
"""
PUT_FACTORS = """
INSERT INTO weight_factors (use_case, subject_id, feature, value, factor, as_of)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::timestamptz[])
"""

NOTE_CHANGES = """
INSERT INTO change_marks SELECT %s, change_horizon()
ON CONFLICT (mark_time) DO UPDATE SET change_sequence = excluded.change_sequence
"""
PRUNE_AMENDMENTS = """
WITH mark AS (
    SELECT max(change_sequence) AS change FROM change_marks WHERE mark_time < %(before)s
), due AS (
    SELECT a.table_name, a.change_sequence, a.sequence FROM mark, amendments a
    WHERE a.table_name IN ('interactions', 'sessions') AND a.change_sequence < mark.change LIMIT %(batch)s
), gone AS (
    DELETE FROM amendments a USING due
    WHERE NOT %(dry_run)s AND (a.table_name, a.change_sequence, a.sequence)
        = (due.table_name, due.change_sequence, due.sequence)
), noted AS (
    INSERT INTO retention_progress AS kept
    SELECT 'amendments', '', change FROM mark WHERE change IS NOT NULL AND NOT %(dry_run)s
    ON CONFLICT (rule) DO UPDATE SET to_sequence = greatest(kept.to_sequence, excluded.to_sequence)
), spent AS (
    DELETE FROM change_marks m USING mark WHERE NOT %(dry_run)s AND m.change_sequence < mark.change
)
SELECT count(*) FROM due
"""
COUNT_AMENDMENTS = """
SELECT count(*) FROM amendments WHERE table_name IN ('interactions', 'sessions') AND change_sequence <
    (SELECT max(change_sequence) FROM change_marks WHERE mark_time < %s)
"""

Weight = tuple[str, str, str, str]
"""Use case, subject, feature, value."""


class PostgresRetention:
    """The part of the store for retention."""

    _database: Database

    def expire(
        self, rule: ExpiryRule, *, after: ExpiryPosition | None, batch: int, dry_run: bool
    ) -> ExpiryStep:
        """Let go of what is under a rule among the next `batch` rows; one short transaction."""
        if rule.kept is Kept.DISLIKES:
            return self._expire_dislikes(rule, after or ExpiryPosition("", -1), batch, dry_run=dry_run)
        if after is None:
            start = self._database.run(
                lambda connection: connection.exec_driver_sql(START, (rule.kept, rule.definition)).scalar()
            )
            after = ExpiryPosition("", -1 if start is None else int(start))
        return self._expire_rows(rule, after, batch, dry_run=dry_run)

    def _expire_rows(
        self, rule: ExpiryRule, after: ExpiryPosition, batch: int, *, dry_run: bool
    ) -> ExpiryStep:
        if rule.kept is Kept.SESSIONS:
            statement = REMOVE.format(seen=SESSIONS_SEEN, table="sessions", key="session_id")
        else:
            seen = INTERACTIONS_SEEN.format(mine=MINE[rule.kept])
            statement = REMOVE.format(seen=seen, table="interactions", key="interaction_id")
        parameters = {
            "rule": rule.kept.value,
            "definition": rule.definition,
            "before": rule.before,
            "after": after.sequence,
            "settled": after.settled,
            "batch": batch,
            "dry_run": dry_run,
            "views": text_array(_joined(rule.views)),
            "dislikes": text_array(_joined(rule.dislikes)),
        }
        row = self._database.run(lambda connection: connection.exec_driver_sql(statement, parameters).one())
        position = None
        if row.seen >= batch and row.any_old:
            position = ExpiryPosition("", row.last, settled=after.settled and row.first_left is None)
        return ExpiryStep(row.due if dry_run else row.gone, position, row.reached)

    def _expire_dislikes(
        self, rule: ExpiryRule, after: ExpiryPosition, batch: int, *, dry_run: bool
    ) -> ExpiryStep:
        size = min(batch, DISLIKES_AT_A_TIME)
        parameters = {
            "before": rule.before,
            "unused_before": rule.unused_before,
            "use_case": after.use_case,
            "after": after.sequence,
            "batch": size,
        }

        def work(connection: Connection) -> ExpiryStep:
            seen = connection.exec_driver_sql(DISLIKES_SEEN, parameters).all()
            due = [row for row in seen if row.due]
            gone = len(due) if dry_run or not due else _remove_dislikes(connection, due)
            last = seen[-1] if seen else None
            return ExpiryStep(
                gone,
                ExpiryPosition(last.use_case, last.sequence) if last and len(seen) == size else None,
                last.receive_time if last else None,
            )

        return self._database.transact(work)

    def note_changes(self, *, now: datetime) -> None:
        """Remember which changes have ended by now, for `prune_amendments`."""
        self._database.run(lambda connection: connection.exec_driver_sql(NOTE_CHANGES, (now,)))

    def prune_amendments(self, *, before: datetime, batch: int) -> int:
        """Delete at most `batch` amendments that an earlier `note_changes` saw before a time; how many.

        Up to where they have gone is kept in ``retention_progress``, rule ``amendments``.
        """
        parameters = {"before": before, "batch": batch, "dry_run": False}
        return self._database.run(
            lambda connection: int(connection.exec_driver_sql(PRUNE_AMENDMENTS, parameters).scalar_one())
        )

    def count_old_amendments(self, *, before: datetime) -> int:
        """Return how many amendments `prune_amendments` would delete in all."""
        return self._database.run(
            lambda connection: int(connection.exec_driver_sql(COUNT_AMENDMENTS, (before,)).scalar_one())
        )


def _remove_dislikes(connection: Connection, due: Sequence[Row[Any]]) -> int:
    names = sorted({f"{row.use_case} {row.subject_id}" for row in due})
    connection.exec_driver_sql(HOLD_SUBJECTS, (text_array(names),))
    gone = connection.exec_driver_sql(REMOVE_DISLIKES, (text_array([row.dislike_id for row in due]),)).all()
    lost: set[Weight] = {
        (row.use_case, row.subject_id, feature, value)
        for row in gone
        for feature, value in zip(row.change_features, row.change_values, strict=True)
    }
    if lost:
        fold_again(connection, lost)
    return len(gone)


def fold_again(connection: Connection, lost: Iterable[Weight]) -> None:
    """Set these factors to what is left of their dislikes; the caller holds the subjects' locks."""
    weights = sorted(lost)
    kept: defaultdict[Weight, list[Cut]] = defaultdict(list)
    rows = connection.execute(
        select(DislikeRow.__table__).where(
            tuple_(DislikeRow.use_case, DislikeRow.subject_id).in_(sorted({w[:2] for w in weights}))
        )
    )
    for row in rows:
        for cut in dislike_of(row).cuts:
            kept[row.use_case, row.subject_id, cut.feature, cut.value].append(cut)
    folded = [(weight, factor) for weight in weights if (factor := fold(kept.get(weight, ()))) is not None]
    connection.exec_driver_sql(DROP_FACTORS, _columns(weights))
    if folded:
        factors: list[Factor] = [factor for _, factor in folded]
        numbers = number_array([f.factor for f in factors]), time_array([f.as_of for f in factors])
        connection.exec_driver_sql(PUT_FACTORS, (*_columns([weight for weight, _ in folded]), *numbers))


def _columns(weights: Sequence[Weight]) -> tuple[str, ...]:
    return tuple(text_array([weight[at] for weight in weights]) for at in range(4))


def _joined(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return ["\x1f".join(pair) for pair in sorted(pairs)]
