"""The match ledger in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select, union_all

from feedback_svc.matches.ledger import Match, MatchFilter, MatchRole, MatchState, Side, StoredMatch
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.postgres.literals import number_array, text_array, time_array
from feedback_svc.store.postgres.tables import MatchRow

READ = 5000
"""Interactions looked at in one statement when the ledger is made again."""
WRITE = 500
"""Of which so many are written in one transaction; a sequence has room for 512."""

# From the index by subject alone, where the table is vacuumed. Reactions stored meanwhile bring their own
# part of the ledger along, wherever in this order they come.
PAGE = """
SELECT subject_id, event_time, sequence, item_id, event_type FROM interactions
WHERE use_case = %s AND (subject_id, event_time, sequence) > (%s, %s::timestamptz, %s)
ORDER BY subject_id, event_time, sequence LIMIT %s
"""
START = ("", "-infinity", 0)
NOTE = """
SELECT note_matches(%s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::int[], '{}', change_now(),
    %s::timestamptz)
"""
DROP = """
DELETE FROM matches WHERE (use_case, subject_id, item_id) IN (
    SELECT use_case, subject_id, item_id FROM matches WHERE use_case = %s
    ORDER BY subject_id, item_id LIMIT %s FOR UPDATE)
"""


class PostgresMatches:
    """The part of the store for matches."""

    _database: Database

    def list_matches(self, which: MatchFilter, *, before: int | None, limit: int) -> list[StoredMatch]:
        """List by sequence, latest change first, below a sequence."""
        rows = self._database.run(lambda connection: connection.execute(_listing(which, before, limit)).all())
        return [match_of(row) for row in rows]


def _listing(which: MatchFilter, before: int | None, limit: int) -> Select[Any]:
    statement = select(MatchRow.__table__).where(MatchRow.use_case == which.use_case)
    if which.item_id:
        statement = statement.where(MatchRow.item_id == which.item_id)
    if before is not None:
        statement = statement.where(MatchRow.sequence < before)
    latest = MatchRow.sequence.desc()
    states = tuple(MatchState) if which.state is None else (which.state,)
    if which.subject_id:
        # OFFSET keeps the planner from walking all changes in search of the few of one subject.
        own = statement.where(MatchRow.subject_id == which.subject_id, MatchRow.state.in_(states))
        found = own.offset(0).subquery()
    elif which.item_id:
        found = statement.where(MatchRow.state.in_(states)).order_by(latest).limit(limit).subquery()
    else:  # the latest of each state, by its index
        found = union_all(
            *(
                select(statement.where(MatchRow.state == state).order_by(latest).limit(limit).subquery())
                for state in states
            )
        ).subquery()
    return select(found).order_by(found.c.sequence.desc()).limit(limit)


def match_arrays(roles: Sequence[MatchRole | None]) -> tuple[str, str]:
    """Return what the ledger is told of a batch: forward use cases, and roles as numbers."""
    return (
        text_array([role.use_case if role else "" for role in roles]),
        number_array([1 + 2 * role.by_item + role.rejects if role else 0 for role in roles]),
    )


def match_of(row: Row[Any]) -> StoredMatch:
    """Build a match from its row."""
    match = Match(
        row.use_case,
        row.subject_id,
        row.item_id,
        Side(row.subject_first, row.subject_last, row.subject_rejected),
        Side(row.item_first, row.item_last, row.item_rejected),
    )
    return StoredMatch(match, row.change_time, row.sequence)


def count_interactions(database: Database, use_case: str) -> int:
    """Return how many interactions of a use case are stored."""
    statement = "SELECT count(*) FROM interactions WHERE use_case = %s"
    return int(
        database.run(lambda connection: connection.exec_driver_sql(statement, (use_case,)).scalar_one())
    )


def drop_matches(database: Database, use_case: str) -> int:
    """Delete the ledger of a forward use case, in bounded transactions; return how many matches it had."""
    total = 0
    while dropped := database.run(
        lambda connection: connection.exec_driver_sql(DROP, (use_case, READ)).rowcount
    ):
        total += dropped
    return total


def note_stored(
    database: Database, use_case: str, roles: Mapping[str, MatchRole], *, now: datetime
) -> Iterator[int]:
    """Add what the stored interactions of a use case say to the ledger, in bounded transactions.

    Parameters
    ----------
    roles
        By event type; what is not named says nothing.
    now
        The change time of what changes.

    Yields
    ------
    int
        How many interactions were gone through since the last.
    """
    position: tuple[Any, ...] = START
    while True:
        page = database.run(
            lambda connection, at=position: _page(connection, use_case, at)  # type: ignore[misc]
        )
        speaking = [row for row in page if row.event_type in roles]
        for first in range(0, len(speaking), WRITE):
            parameters = _note_parameters(speaking[first : first + WRITE], roles, now)
            database.run(
                lambda connection, sent=parameters: connection.exec_driver_sql(NOTE, sent)  # type: ignore[misc]
            )
        yield len(page)
        if len(page) < READ:
            return
        position = tuple(page[-1][:3])


def _page(connection: Connection, use_case: str, after: tuple[Any, ...]) -> Sequence[Row[Any]]:
    return connection.exec_driver_sql(PAGE, (use_case, *after, READ)).all()


def _note_parameters(
    rows: Sequence[Row[Any]], roles: Mapping[str, MatchRole], now: datetime
) -> tuple[Any, ...]:
    use_cases, numbers = match_arrays([roles[row.event_type] for row in rows])
    return (
        use_cases,
        text_array([row.subject_id for row in rows]),
        text_array([row.item_id for row in rows]),
        time_array([row.event_time for row in rows]),
        numbers,
        now,
    )
