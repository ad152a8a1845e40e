"""Sessions, interactions and subject states in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Row, Select, literal, select, tuple_

from feedback_svc.dislikes import Factor
from feedback_svc.insight import HIDDEN_ITEMS, RECENT_EVENTS, RecentEvents, SubjectState, factors_now
from feedback_svc.interactions import EventFacts, Interaction, StoredInteraction, Tie
from feedback_svc.sessions import RecordFilter, Session, SessionSource, SessionsRecorded
from feedback_svc.store.postgres.catalog import entity_of
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.postgres.literals import (
    flag_array,
    float_array,
    number_array,
    optional_number_array,
    text_array,
    time_array,
)
from feedback_svc.store.postgres.matches import match_arrays
from feedback_svc.store.postgres.tables import InteractionRow, SessionRow
from matchloop.entities import EntityKey
from matchloop.errors import NotFound, Reason
from matchloop.usecase import Method, Tier

RECORD_INTERACTIONS = """
SELECT record_interactions(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[],
    %s::text[], %s::boolean[], %s::int[], %s::int[], %s::float8[], %s::float8[], %s::timestamptz,
    %s::text[], %s::int[])
"""
RECORD_SESSIONS = """
SELECT duplicates, tied FROM record_sessions(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::text[], %s::boolean[], %s::text[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::text[], %s::text[], %s::timestamptz, %s::text[])
"""
REASON = "\x1e"
SUBJECT_STATE = """
SELECT features, active, create_time, update_time, change_sequence, interaction_count,
    event_items, event_types, event_times, hidden, factor_features, factor_values, factors, as_of
FROM subject_state(%s, %s, %s, %s, %s)
"""


class PostgresRecord:
    """The part of the store for lists shown and reactions."""

    _database: Database

    def record_sessions(self, sessions: Sequence[Session], *, now: datetime) -> SessionsRecorded:
        """Store lists (no id twice) and tie the interactions and dislikes that wait for them."""
        parameters = (
            text_array([s.session_id for s in sessions]),
            text_array([s.use_case for s in sessions]),
            text_array([s.subject_id for s in sessions]),
            text_array([s.release for s in sessions]),
            text_array([s.arm for s in sessions]),
            text_array([s.tier or "" for s in sessions]),
            flag_array([s.reranked for s in sessions]),
            text_array([s.source for s in sessions]),
            time_array([s.serve_time for s in sessions]),
            text_array([text_array(s.feature_names) for s in sessions]),
            text_array([text_array(s.item_ids) for s in sessions]),
            text_array([float_array(s.scores) for s in sessions]),
            text_array([text_array([method or "" for method in s.methods]) for s in sessions]),
            _nullable([float_array(s.propensities) if any(s.propensities) else None for s in sessions]),
            text_array([float_array(s.feature_values, digits=9) for s in sessions]),
            now,
            _nullable([_logged(s.retrieval_scores) for s in sessions]),
        )
        duplicates, tied = self._database.one(RECORD_SESSIONS, parameters)
        return SessionsRecorded(len(sessions) - len(duplicates), tuple(duplicates), tied)

    def get_session(self, session_id: str) -> Session:
        """Return a session; raises NotFound."""
        statement = select(SessionRow.__table__).where(SessionRow.session_id == session_id)
        row = self._database.run(lambda connection: connection.execute(statement).one_or_none())
        if row is None:
            raise NotFound(f"no session `{session_id}` is stored", reason=Reason.SESSION_NOT_FOUND)
        return session_of(row)

    def list_sessions(
        self, which: RecordFilter, *, after: tuple[datetime, str] | None, limit: int
    ) -> list[Session]:
        """List by serve time and id, latest first, from after a (serve time, id)."""
        position = (SessionRow.serve_time, SessionRow.session_id)
        statement = _within(select(SessionRow.__table__), SessionRow, which, SessionRow.serve_time)
        if which.item_id:
            statement = statement.where(SessionRow.item_ids.contains([which.item_id]))
        if after is not None:
            statement = statement.where(tuple_(*position) < tuple_(literal(after[0]), literal(after[1])))
        statement = statement.order_by(*(column.desc() for column in position)).limit(limit)
        rows = self._database.run(lambda connection: connection.execute(statement).all())
        return [session_of(row) for row in rows]

    def record_interactions(
        self, interactions: Sequence[Interaction], facts: Sequence[EventFacts], *, now: datetime
    ) -> tuple[str, ...]:
        """Store reactions (no id twice), tie them, count them; return the ids that were stored before."""
        (found,) = self._database.one(RECORD_INTERACTIONS, interaction_parameters(interactions, facts, now))
        return tuple(found)

    def list_interactions(
        self, which: RecordFilter, *, before: int | None, limit: int
    ) -> list[StoredInteraction]:
        """List by sequence, latest first, below a sequence."""
        statement = _within(
            select(InteractionRow.__table__), InteractionRow, which, InteractionRow.event_time
        )
        if which.item_id:
            statement = statement.where(InteractionRow.item_id == which.item_id)
        if before is not None:
            statement = statement.where(InteractionRow.sequence < before)
        statement = statement.order_by(InteractionRow.sequence.desc()).limit(limit)
        rows = self._database.run(lambda connection: connection.execute(statement).all())
        return [interaction_of(row) for row in rows]

    def lookup_subject_state(self, use_case: str, subject: EntityKey, *, now: datetime) -> SubjectState:
        """Return all that retrieval needs of a subject; one unknown has an empty state."""
        parameters = (use_case, subject.kind, subject.id, RECENT_EVENTS, HIDDEN_ITEMS)
        *entity, count, items, types, times, hidden, features, values, factors, as_of = self._database.one(
            SUBJECT_STATE, parameters
        )
        event_types, reasons = _types_and_reasons(types)
        weights = zip(features or (), values or (), factors or (), as_of or (), strict=True)
        return SubjectState(
            entity=None if entity[0] is None else entity_of((subject.kind, subject.id, *entity)),
            interaction_count=count,
            recent_events=RecentEvents(_split(items), event_types, tuple(map(int, _split(times))), reasons),
            hidden_item_ids=tuple(dict.fromkeys(_split(hidden))),
            factors=factors_now(tuple(Factor(*weight) for weight in weights), now),
        )


def interaction_parameters(
    interactions: Sequence[Interaction], facts: Sequence[EventFacts], now: datetime
) -> tuple[Any, ...]:
    """Return the parameters of `RECORD_INTERACTIONS`."""
    return (
        text_array([i.interaction_id for i in interactions]),
        text_array([i.use_case for i in interactions]),
        text_array([i.subject_id for i in interactions]),
        text_array([i.item_id for i in interactions]),
        text_array([i.event_type for i in interactions]),
        time_array([i.event_time for i in interactions]),
        text_array([i.session_id for i in interactions]),
        flag_array([f.hides for f in facts]),
        number_array([int(f.view) for f in facts]),
        number_array([int(f.counted) for f in facts]),
        number_array([f.weight for f in facts]),
        number_array([f.half_life_seconds for f in facts]),
        now,
        *match_arrays([f.match for f in facts]),
    )


def _split(column: str | None) -> tuple[str, ...]:
    return tuple(column.split("\x1f")) if column else ()


def _types_and_reasons(column: str | None) -> tuple[tuple[str, ...], dict[int, str]]:
    """Return event types, and reasons by place: a dislike's stands behind its type and a record separator."""
    types = _split(column)
    if not column or REASON not in column:
        return types, {}
    parted = [each.partition(REASON) for each in types]
    return tuple(each[0] for each in parted), {at: each[2] for at, each in enumerate(parted) if each[2]}


def _nullable(values: Sequence[str | None]) -> str:
    """Return the literal of a ``text[]`` of array literals of numbers, which need no escaping."""
    written = ("NULL" if value is None else f'"{value}"' for value in values)
    return f"{{{','.join(written)}}}"


def _logged(scores: Sequence[float | None]) -> str | None:
    """Return the literal of a number array in which some are null; None for no array at all."""
    if not scores:
        return None
    return optional_number_array(scores) if None in scores else float_array(cast("Sequence[float]", scores))


def _within(
    statement: Select[Any],
    row: type[SessionRow] | type[InteractionRow],
    which: RecordFilter,
    time: Any,
) -> Select[Any]:
    statement = statement.where(row.use_case == which.use_case)
    if which.subject_id:
        statement = statement.where(row.subject_id == which.subject_id)
    if which.release:
        statement = statement.where(row.release == which.release)
    if which.from_time is not None:
        statement = statement.where(time >= which.from_time)
    if which.to_time is not None:
        statement = statement.where(time < which.to_time)
    return statement


def session_of(row: Row[Any]) -> Session:
    """Build a session from its row."""
    return Session(
        session_id=row.session_id,
        use_case=row.use_case,
        subject_id=row.subject_id,
        release=row.release,
        arm=row.arm,
        tier=Tier(row.tier) if row.tier else None,
        reranked=row.reranked,
        source=SessionSource(row.source),
        serve_time=row.serve_time,
        feature_names=tuple(row.feature_names),
        item_ids=tuple(row.item_ids),
        scores=tuple(row.scores),
        methods=tuple(Method(method) if method else None for method in row.methods),
        propensities=tuple(row.propensities or [0.0] * len(row.item_ids)),
        feature_values=tuple(row.feature_values),
        retrieval_scores=tuple(row.retrieval_scores or ()),
    )


def interaction_of(row: Row[Any]) -> StoredInteraction:
    """Build an interaction from its row."""
    interaction = Interaction(
        row.interaction_id,
        row.use_case,
        row.subject_id,
        row.item_id,
        row.event_type,
        row.event_time,
        row.session_id or "",
    )
    tied = None
    if row.rank is not None:
        tied = Tie(row.rank, row.score, Method(row.method) if row.method else None, row.release)
    return StoredInteraction(interaction, tied, row.receive_time, row.sequence)
