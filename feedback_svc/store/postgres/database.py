"""Connections to PostgreSQL: pooled, bounded, replaced when they break, and errors told in our own terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg2
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from feedback_svc.store.postgres.statement_spans import trace_statements
from matchloop.errors import Conflict, MatchloopError, Overloaded, Reason, Unavailable
from matchloop.observe import tracing

T = TypeVar("T")

ATTEMPTS = 3
"""Of one piece of work. Every write is idempotent by its ids, so a repetition is harmless."""

# The services' statements go by an index, every one. The planner sees the tables grow from empty to
# millions of rows under plans that connections keep; it must not bet on a small size it saw once.
OPTIONS = (
    "-c timezone=UTC -c synchronous_commit=on -c jit=off -c enable_seqscan=off -c enable_hashjoin=off "
    "-c enable_mergejoin=off -c idle_in_transaction_session_timeout=30s -c statement_timeout={timeout}"
)

REPEATABLE = ("40001", "40P01")
"""Serialization failure, deadlock."""
CANCELLED = "57014"
READ_ONLY = "25006"
TOO_LONG = "the store took too long"
CONFLICTS = "23"
"""Class of integrity constraints."""
AWAY = (
    (REPEATABLE, "the store is contended"),
    (("08", "57P"), "the store cannot be reached"),
    (("53", "58", "XX"), "the store has no room or is broken"),
    ((READ_ONLY,), "the store is read-only"),
    (("42P01", "42703", "42883"), "the store has another schema: run python -m feedback_svc.migrate"),
)
"""By SQLSTATE or its class: what an operator, not the client, has to see to."""


class Database:
    """A pool of connections, and how work is run on one.

    Parameters
    ----------
    url
        SQLAlchemy URL of a migrated PostgreSQL database.
    pool_size
        Most connections at a time; work over it waits `pool_wait` seconds, then is Overloaded.
    statement_timeout
        Seconds after which the server gives a statement up.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 8,
        pool_wait: float = 5.0,
        connect_timeout: int = 3,
        statement_timeout: float = 15.0,
    ) -> None:
        self.engine: Engine = create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_wait,
            pool_use_lifo=True,
            skip_autocommit_rollback=True,
            use_native_hstore=False,
            hide_parameters=True,
            connect_args={
                "connect_timeout": connect_timeout,
                "options": OPTIONS.format(timeout=int(statement_timeout * 1000)),
                "application_name": "feedback_svc",
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 20_000,
            },
        )
        self._one = _told_one if tracing.is_on() else _bare_one
        event.listen(self.engine, "handle_error", _leave_read_only)
        trace_statements(self.engine)

    def run(self, work: Callable[[Connection], T]) -> T:
        """Run work that is one statement: it commits by itself.

        Raises
        ------
        Unavailable
            When PostgreSQL cannot be reached or cannot write.
        Overloaded
            When no connection comes free in time, or the statement takes too long.
        Conflict
            When the work breaks a constraint.
        """
        return self._attempt(work)

    def one(self, statement: str, parameters: Sequence[Any]) -> tuple[Any, ...]:
        """Run a statement that gives one row, as `run`: for those that every list served asks for.

        Parameters
        ----------
        statement
            Harmless to repeat: one that fails may be run again before the failure is told.
        """
        return self._attempt(lambda connection: self._one(connection, statement, tuple(parameters)))

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run work of several statements in one READ COMMITTED transaction; raises as `run`."""

        def within(connection: Connection) -> T:
            connection = connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                return work(connection)

        return self._attempt(within)

    def _attempt(self, work: Callable[[Connection], T]) -> T:
        for left in reversed(range(ATTEMPTS)):
            try:
                with self.engine.connect() as connection:
                    return work(connection)
            except PoolTimeout:
                raise Overloaded("every connection to the store is in use") from None
            except DBAPIError as error:
                told = _told(error)
                if not left or not _may_repeat(error, first=left == ATTEMPTS - 1):
                    raise told from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _bare_one(connection: Connection, statement: str, parameters: tuple[Any, ...]) -> tuple[Any, ...]:
    """Run a statement on the driver's own cursor: SQLAlchemy's result takes longer than many a statement.

    What fails is run again through SQLAlchemy, which tells the error and sees to the pool, as for any other
    statement; on a broken connection that fails at once.
    """
    try:
        with connection.connection.driver_connection.cursor() as cursor:  # type: ignore[union-attr]
            cursor.execute(statement, parameters)
            row: tuple[Any, ...] = cursor.fetchone()
            return row
    except psycopg2.Error as error:
        if error.pgcode == CANCELLED:
            raise Overloaded(TOO_LONG) from error
    return _told_one(connection, statement, parameters)


def _told_one(connection: Connection, statement: str, parameters: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(connection.exec_driver_sql(statement, parameters).one())


def _code(error: DBAPIError) -> str | None:
    return getattr(error.orig, "pgcode", None)


def _leave_read_only(context: ExceptionContext) -> None:
    """Replace every connection when one cannot write: it may stay so when the store can again."""
    if getattr(context.original_exception, "pgcode", None) == READ_ONLY:
        context.is_disconnect = True


def _may_repeat(error: DBAPIError, *, first: bool) -> bool:
    """Deadlocks, and a connection that broke (the first attempt found a dead one in the pool)."""
    code = _code(error)
    if code == READ_ONLY:
        return first
    return error.connection_invalidated or code in REPEATABLE


def _told(error: DBAPIError) -> MatchloopError | DBAPIError:
    code = _code(error)
    if code == CANCELLED:
        return Overloaded(TOO_LONG)
    if code is not None and code.startswith(CONFLICTS):
        return Conflict("contradicts what is stored")
    for codes, message in AWAY:
        if code is not None and code.startswith(codes):
            return _away(f"{message} (SQLSTATE {code})")
    if error.connection_invalidated or (code is None and type(error).__name__ == "OperationalError"):
        return _away("the store cannot be reached")
    return error


def _away(message: str) -> Unavailable:
    return Unavailable(message, reason=Reason.STORE_UNAVAILABLE)
