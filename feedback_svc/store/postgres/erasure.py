"""Erasure in PostgreSQL: a tombstone first, then bounded batches, each a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select, tuple_

from feedback_svc.dislikes import Cut, Factor, fold
from feedback_svc.erasure import Erased, Roles, places_of
from feedback_svc.store.postgres.catalog import TOMBSTONE_COLUMNS
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.postgres.dislikes import HOLD_SUBJECT, WRITE_FACTORS, dislike_of
from feedback_svc.store.postgres.literals import number_array, text_array, time_array
from feedback_svc.store.postgres.tables import DislikeRow, UseCaseKindsRow
from matchloop.entities import EntityKey, Kind, Tombstone
from matchloop.errors import Overloaded

FOUND_AT_A_TIME = 20_000
"""Rows looked for at a time: bounds memory."""
INTERACTIONS_AT_A_TIME = 2000
SESSIONS_AT_A_TIME = 500
DISLIKES_AT_A_TIME = 200
"""Rows of one transaction: bounds how long it holds locks."""

KEEP_ROLES = """
INSERT INTO use_case_kinds AS kept (use_case, subject_kind, item_kind)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]) AS sent (use_case, subject_kind, item_kind)
ORDER BY sent.use_case COLLATE "C"
ON CONFLICT (use_case) DO UPDATE SET subject_kind = excluded.subject_kind, item_kind = excluded.item_kind
WHERE (kept.subject_kind, kept.item_kind) <> (excluded.subject_kind, excluded.item_kind)
"""
ENTOMB = "SELECT entities, erase_time, change_sequence FROM entomb(%s, %s, %s)"
AWAIT_WRITERS = "SELECT await_writers(interval '10 seconds')"
# What was stored before the tombstone, or happened before it.
OLD = "({table}.sequence < %(bound)s OR {table}.{time} <= %(erase_time)s)"
FIND = """
SELECT {key} FROM {table} WHERE use_case = ANY (%(use_cases)s::text[]) AND {role}_id = %(id)s AND {old}
LIMIT {most}
"""
# The inner query is fenced, so that it goes by the index on items, whatever is known of how common they are.
FIND_SHOWN = """
SELECT session_id FROM (
    SELECT session_id, use_case, sequence, serve_time FROM sessions
    WHERE item_ids @> ARRAY[%(id)s]::text[] OFFSET 0
) AS sessions WHERE use_case = ANY (%(use_cases)s::text[]) AND {old} LIMIT {most}
"""
ERASE_INTERACTIONS = "SELECT erase_interactions(%s::bigint[])"
ERASE_SESSIONS = "SELECT erase_sessions(%s::text[], %s)"
ERASE_REST = "SELECT erase_rest(%s, %s, %s, %s::text[], %s::text[])"
DROP_FACTORS = """
DELETE FROM weight_factors w USING unnest(%s::text[], %s::text[]) AS own (feature, value)
WHERE w.use_case = %s AND w.subject_id = %s AND w.feature = own.feature AND w.value = own.value
"""
FACTORS = "SELECT feature, value FROM weight_factors WHERE use_case = %s AND subject_id = %s"


def _find(table: str, key: str, role: str, time: str) -> str:
    old = OLD.format(table=table, time=time)
    return FIND.format(table=table, key=key, role=role, old=old, most=FOUND_AT_A_TIME)


class PostgresErasure:
    """The part of the store for erasing."""

    _database: Database

    def keep_roles(self, roles: Sequence[Roles]) -> None:
        """Remember the kinds of use cases: late data about erased entities is recognised by them."""
        parameters = (
            text_array([role.use_case for role in roles]),
            text_array([role.subject for role in roles]),
            text_array([role.item for role in roles]),
        )
        self._database.run(lambda connection: connection.exec_driver_sql(KEEP_ROLES, parameters))

    def roles(self) -> tuple[Roles, ...]:
        """Return the kinds of every use case that was ever loaded."""
        statement = select(UseCaseKindsRow.use_case, UseCaseKindsRow.subject_kind, UseCaseKindsRow.item_kind)
        rows = self._database.run(lambda connection: connection.execute(statement).all())
        return tuple(Roles(row[0], row[1], row[2]) for row in rows)

    def tombstones(self) -> tuple[Tombstone, ...]:
        """Return every tombstone."""
        statement = select(*TOMBSTONE_COLUMNS)
        rows = self._database.run(lambda connection: connection.execute(statement).all())
        return tuple(Tombstone(Kind(row[0]), row[1], row[2], row[3]) for row in rows)

    def erase_entity(self, key: EntityKey, *, roles: Sequence[Roles], now: datetime) -> Erased:
        """Remove an entity and all about it; raises Overloaded when writes under way do not end."""
        self.keep_roles(roles)
        entities, erase_time, bound = self._scalars(ENTOMB, (key.kind, key.id, now))
        if not self._scalars(AWAIT_WRITERS, ())[0]:
            raise Overloaded("writes under way did not end in time: erase again")
        subjects, items = places_of(key.kind, roles)
        which = {"id": key.id, "bound": bound << 9, "erase_time": erase_time}
        places = (("subject", subjects), ("item", items))
        dislikes = interactions = 0
        for role, use_cases in places:
            which["use_cases"] = text_array(use_cases)
            dislikes += self._erase_dislikes(role, which)
            interactions += self._erase_interactions(role, which)
        sessions = self._erase_sessions(key, subjects, items, which)
        for use_case in subjects:
            self._database.transact(_refolding(use_case, key.id))
        rest = (key.kind, key.id, bound, text_array(subjects), text_array(items))
        raced = self._scalars(ERASE_REST, rest)[0]
        return Erased(entities + raced > 0, interactions, dislikes, sessions, erase_time)

    def _scalars(self, statement: str, parameters: tuple[Any, ...]) -> Any:
        return self._database.run(lambda connection: connection.exec_driver_sql(statement, parameters).one())

    def _found(self, statement: str, which: dict[str, Any], batch: int) -> Iterator[Sequence[Any]]:
        """Find what is left, again and again, and give it in batches: each must be gone when it returns."""
        while True:
            parameters = dict(which)
            found = self._database.run(
                lambda connection: connection.exec_driver_sql(statement, parameters).scalars().all()  # noqa: B023
            )
            for start in range(0, len(found), batch):
                yield found[start : start + batch]
            if len(found) < FOUND_AT_A_TIME:
                return

    def _erase_interactions(self, role: str, which: dict[str, Any]) -> int:
        erased = 0
        statement = _find("interactions", "sequence", role, "event_time")
        for sequences in self._found(statement, which, INTERACTIONS_AT_A_TIME):
            erased += self._scalars(ERASE_INTERACTIONS, (number_array(sequences),))[0]
        return erased

    def _erase_dislikes(self, role: str, which: dict[str, Any]) -> int:
        erased = 0
        statement = _find("dislikes", "dislike_id", role, "event_time")
        for ids in self._found(statement, which, DISLIKES_AT_A_TIME):
            erased += self._database.transact(_erasing_dislikes(ids))
        return erased

    def _erase_sessions(
        self, key: EntityKey, subjects: list[str], items: list[str], which: dict[str, Any]
    ) -> int:
        shown = FIND_SHOWN.format(old=OLD.format(table="sessions", time="serve_time"), most=FOUND_AT_A_TIME)
        own = _find("sessions", "session_id", "subject", "serve_time")
        erased = 0
        for statement, use_cases, item in ((own, subjects, None), (shown, items, key.id)):
            which["use_cases"] = text_array(use_cases)
            for ids in self._found(statement, which, SESSIONS_AT_A_TIME) if use_cases else ():
                erased += self._scalars(ERASE_SESSIONS, (text_array(ids), item))[0]
        return erased


def _erasing_dislikes(ids: Sequence[str]) -> Callable[[Connection], int]:
    """Return what removes dislikes and folds their subjects' factors again, of what is left."""

    def work(connection: Connection) -> int:
        subjects = select(DislikeRow.use_case, DislikeRow.subject_id).where(DislikeRow.dislike_id.in_(ids))
        for use_case, subject in sorted({tuple(row) for row in connection.execute(subjects)}):
            connection.exec_driver_sql(HOLD_SUBJECT, (f"{use_case} {subject}",))
        gone = delete(DislikeRow).where(DislikeRow.dislike_id.in_(ids)).returning(DislikeRow.__table__)
        erased = [dislike_of(row) for row in connection.execute(gone)]
        cuts: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for each in erased:
            values = cuts.setdefault((each.dislike.use_case, each.dislike.subject_id), set())
            values.update((cut.feature, cut.value) for cut in each.cuts)
        left = _cuts_of(connection, [place for place, values in cuts.items() if values])
        for place, values in cuts.items():
            _write_folded(connection, place, values, left.get(place, []))
        return len(erased)

    return work


def _refolding(use_case: str, subject: str) -> Callable[[Connection], None]:
    """Return what makes all factors of a subject what its dislikes say."""

    def work(connection: Connection) -> None:
        connection.exec_driver_sql(HOLD_SUBJECT, (f"{use_case} {subject}",))
        values = {(row[0], row[1]) for row in connection.exec_driver_sql(FACTORS, (use_case, subject))}
        place = (use_case, subject)
        left = _cuts_of(connection, [place] if values else [])
        _write_folded(connection, place, values, left.get(place, []))

    return work


def _cuts_of(connection: Connection, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[Cut]]:
    """Return the cuts of all dislikes of these (use case, subject) pairs."""
    if not places:
        return {}
    found: dict[tuple[str, str], list[Cut]] = {}
    own = tuple_(DislikeRow.use_case, DislikeRow.subject_id).in_(places)
    for row in connection.execute(select(DislikeRow.__table__).where(own)):
        found.setdefault((row.use_case, row.subject_id), []).extend(dislike_of(row).cuts)
    return found


def _write_folded(
    connection: Connection, place: tuple[str, str], values: set[tuple[str, str]], cuts: Sequence[Cut]
) -> None:
    if not values:
        return
    use_case, subject = place
    own = (text_array([feature for feature, _ in values]), text_array([value for _, value in values]))
    connection.exec_driver_sql(DROP_FACTORS, (*own, use_case, subject))
    folded = [fold(cut for cut in cuts if (cut.feature, cut.value) == value) for value in sorted(values)]
    factors: list[Factor] = [factor for factor in folded if factor is not None]
    if factors:
        parameters = {
            "use_case": use_case,
            "subject_id": subject,
            "features": text_array([factor.feature for factor in factors]),
            "values": text_array([factor.value for factor in factors]),
            "factors": number_array([factor.factor for factor in factors]),
            "as_of": time_array([factor.as_of for factor in factors]),
        }
        connection.exec_driver_sql(WRITE_FACTORS, parameters)
