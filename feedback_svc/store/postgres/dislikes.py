"""Dislikes, and how training uses them, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from feedback_svc.dislikes import (
    HALF_LIFE,
    Cut,
    Dislike,
    Factor,
    Receipt,
    StoredDislike,
    WeightChange,
    dropped,
    judge,
    replayed,
)
from feedback_svc.interactions import EventFacts, Interaction
from feedback_svc.retraining import NegativeNumbers
from feedback_svc.sessions import RecordFilter
from feedback_svc.store.postgres.catalog import ENTITY_COLUMNS, entity_of
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.postgres.literals import number_array, text_array, time_array
from feedback_svc.store.postgres.record import RECORD_INTERACTIONS, interaction_parameters
from feedback_svc.store.postgres.tables import DislikeRow, EntityRow, InteractionRow, SessionRow
from matchloop.entities import Entity
from matchloop.errors import Conflict
from matchloop.usecase import DislikeReason

# Dislikes of one subject change the same factors: one after the other.
HOLD_SUBJECT = "SELECT pg_advisory_xact_lock(74002, hashtext(%s))"
HOLD_SESSION = "SELECT hold_sessions(%s::text[], false)"
WRITE_FACTORS = """
INSERT INTO weight_factors (use_case, subject_id, feature, value, factor, as_of)
SELECT %(use_case)s, %(subject_id)s, feature, value, factor, as_of
FROM unnest(%(features)s::text[], %(values)s::text[], %(factors)s::float8[], %(as_of)s::timestamptz[])
    AS sent (feature, value, factor, as_of)
ON CONFLICT (use_case, subject_id, feature, value)
    DO UPDATE SET factor = excluded.factor, as_of = excluded.as_of
"""
NEGATIVE_NUMBERS = """
SELECT count(*), count(error), coalesce(avg(error), 0.0) FROM dislikes
WHERE use_case = %s AND used_by_release IS NULL
"""
LAST_RETRAINING = """
SELECT mark_time, release FROM retrainings WHERE use_case = %s ORDER BY mark_time DESC, release DESC LIMIT 1
"""
MARK_USED = """
WITH marked AS (
    UPDATE dislikes SET used_by_release = %(release)s
    WHERE use_case = %(use_case)s AND sequence <= %(to_sequence)s AND used_by_release IS NULL
    RETURNING sequence
), noted AS (
    INSERT INTO retrainings AS kept (use_case, release, to_sequence, marked, mark_time)
    SELECT %(use_case)s, %(release)s, %(to_sequence)s, count(*), %(now)s FROM marked
    ON CONFLICT (use_case, release) DO UPDATE SET marked = kept.marked + excluded.marked,
        to_sequence = greatest(kept.to_sequence, excluded.to_sequence)
)
SELECT count(*), amend('dislikes', array_remove(ARRAY[max(sequence)], NULL)) FROM marked
"""


class PostgresDislikes:
    """The part of the store for dislikes."""

    _database: Database

    def record_dislike(
        self, dislike: Dislike, *, reason: DislikeReason, facts: EventFacts, item_kind: str, now: datetime
    ) -> Receipt:
        """Store a dislike, its interaction and its effect; raises Conflict if the id is an interaction's."""

        def work(connection: Connection) -> Receipt:
            connection.exec_driver_sql(HOLD_SUBJECT, (f"{dislike.use_case} {dislike.subject_id}",))
            found = _find(connection, dislike.dislike_id)
            if found is not None:
                return replayed(found, dislike)
            connection.exec_driver_sql(HOLD_SESSION, (text_array([dislike.session_id]),))
            stored, factors = judge(
                dislike,
                reason=reason,
                item=_item(connection, item_kind, dislike.item_id),
                earlier=_cuts(connection, dislike) if reason.cut else (),
                session_score=_session_score(connection, dislike),
                receive_time=now,
            )
            if not _write(connection, stored, facts, now):
                return dropped(dislike, receive_time=now)
            if factors:
                _write_factors(connection, dislike, factors)
            return Receipt(stored, duplicate=False)

        return self._database.transact(work)

    def list_dislikes(
        self, which: RecordFilter, *, unused_only: bool, before: int | None, limit: int
    ) -> list[StoredDislike]:
        """List by sequence, latest first, below a sequence; subject and item of `which` are looked at."""
        statement = select(DislikeRow.__table__).where(DislikeRow.use_case == which.use_case)
        if which.subject_id:
            statement = statement.where(DislikeRow.subject_id == which.subject_id)
        if which.item_id:
            statement = statement.where(DislikeRow.item_id == which.item_id)
        if unused_only:
            statement = statement.where(DislikeRow.used_by_release.is_(None))
        if before is not None:
            statement = statement.where(DislikeRow.sequence < before)
        statement = statement.order_by(DislikeRow.sequence.desc()).limit(limit)
        rows = self._database.run(lambda connection: connection.execute(statement).all())
        return [dislike_of(row) for row in rows]

    def negative_numbers(self, use_case: str) -> NegativeNumbers:
        """Return the numbers of the negatives no training has used."""

        def work(connection: Connection) -> NegativeNumbers:
            unused, with_error, mean = connection.exec_driver_sql(NEGATIVE_NUMBERS, (use_case,)).one()
            last = connection.exec_driver_sql(LAST_RETRAINING, (use_case,)).one_or_none()
            return NegativeNumbers(unused, with_error, mean, *(last or (None, "")))

        return self._database.run(work)

    def mark_negatives_used(self, use_case: str, *, release: str, to_sequence: int, now: datetime) -> int:
        """Mark unused negatives up to a sequence, itself included; return how many."""
        parameters = {"use_case": use_case, "release": release, "to_sequence": to_sequence, "now": now}
        return self._database.run(
            lambda connection: int(connection.exec_driver_sql(MARK_USED, parameters).scalar_one())
        )


def _find(connection: Connection, dislike_id: str) -> StoredDislike | None:
    row = connection.execute(
        select(DislikeRow.__table__).where(DislikeRow.dislike_id == dislike_id)
    ).one_or_none()
    return None if row is None else dislike_of(row)


def _item(connection: Connection, kind: str, item_id: str) -> Entity | None:
    row = connection.execute(
        select(*ENTITY_COLUMNS).where(EntityRow.kind == kind, EntityRow.id == item_id)
    ).one_or_none()
    return None if row is None else entity_of(row)


def _cuts(connection: Connection, dislike: Dislike) -> tuple[Cut, ...]:
    rows = connection.execute(
        select(DislikeRow.__table__).where(
            DislikeRow.use_case == dislike.use_case, DislikeRow.subject_id == dislike.subject_id
        )
    )
    return tuple(cut for row in rows for cut in dislike_of(row).cuts)


def _session_score(connection: Connection, dislike: Dislike) -> float | None:
    if not dislike.session_id or dislike.predicted_score is not None:
        return None
    row = connection.execute(
        select(SessionRow.item_ids, SessionRow.scores).where(
            SessionRow.session_id == dislike.session_id,
            SessionRow.use_case == dislike.use_case,
            SessionRow.subject_id == dislike.subject_id,
        )
    ).one_or_none()
    if row is None or dislike.item_id not in row.item_ids:
        return None
    return float(row.scores[row.item_ids.index(dislike.item_id)])


def _write(connection: Connection, stored: StoredDislike, facts: EventFacts, now: datetime) -> bool:
    """Write a dislike and its interaction; false when it is about an entity erased since."""
    dislike = stored.dislike
    interaction = Interaction(
        dislike.dislike_id,
        dislike.use_case,
        dislike.subject_id,
        dislike.item_id,
        "dislike",
        dislike.event_time,
        dislike.session_id,
    )
    parameters = interaction_parameters([interaction], [facts], now)
    if connection.exec_driver_sql(RECORD_INTERACTIONS, parameters).scalar_one():
        stands = select(InteractionRow.sequence).where(InteractionRow.interaction_id == dislike.dislike_id)
        if connection.execute(stands).one_or_none() is None:
            return False
        raise Conflict(f"`{dislike.dislike_id}` is the id of a stored interaction")
    sequence = select(InteractionRow.sequence).where(InteractionRow.interaction_id == dislike.dislike_id)
    connection.execute(
        insert(DislikeRow).values(
            dislike_id=dislike.dislike_id,
            sequence=sequence.scalar_subquery(),
            use_case=dislike.use_case,
            subject_id=dislike.subject_id,
            item_id=dislike.item_id,
            reason=dislike.reason,
            comment=dislike.comment,
            session_id=dislike.session_id or None,
            predicted_score=dislike.predicted_score,
            error=stored.error,
            example_weight=stored.example_weight,
            event_time=dislike.event_time,
            receive_time=stored.receive_time,
            cut=stored.cut,
            change_features=[change.feature for change in stored.changes],
            change_values=[change.value for change in stored.changes],
            factors_before=[change.before for change in stored.changes],
            factors_after=[change.after for change in stored.changes],
        )
    )
    return True


def _write_factors(connection: Connection, dislike: Dislike, factors: Sequence[Factor]) -> None:
    parameters = {
        "use_case": dislike.use_case,
        "subject_id": dislike.subject_id,
        "features": text_array([factor.feature for factor in factors]),
        "values": text_array([factor.value for factor in factors]),
        "factors": number_array([factor.factor for factor in factors]),
        "as_of": time_array([factor.as_of for factor in factors]),
    }
    connection.exec_driver_sql(WRITE_FACTORS, parameters)


def dislike_of(row: Row[Any]) -> StoredDislike:
    """Build a dislike from its row."""
    changes = zip(row.change_features, row.change_values, row.factors_before, row.factors_after, strict=True)
    return StoredDislike(
        dislike=Dislike(
            row.dislike_id,
            row.use_case,
            row.subject_id,
            row.item_id,
            row.reason,
            row.comment,
            row.session_id or "",
            row.predicted_score,
            row.event_time,
        ),
        error=row.error,
        example_weight=row.example_weight,
        changes=tuple(WeightChange(*change, row.event_time + HALF_LIFE) for change in changes),
        cut=row.cut,
        receive_time=row.receive_time,
        sequence=row.sequence,
        used_by_release=row.used_by_release or "",
    )
