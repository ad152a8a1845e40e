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
from matchloop.errors import Conflict, Overloaded, Reason, Unavailable
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
ALL_IN_USE = "every connection to the store is in use"
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
        self._traced = tracing.is_on()
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
        """Run a statement that gives one row, as those do that every list asks for; raises as `run`.

        Parameters
        ----------
        statement
            Harmless to repeat.
        """
        sent = tuple(parameters)
        row = None if self._traced else self._bare_one(statement, sent)
        if row is not None:
            return row
        return tuple(self._attempt(lambda connection: connection.exec_driver_sql(statement, sent).one()))

    def _bare_one(self, statement: str, parameters: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the row past SQLAlchemy's connection and result, which cost more than many a statement.

        None when it failed: run through SQLAlchemy, it fails so that the error is told and the pool seen to.
        """
        try:
            connection = self.engine.raw_connection()
        except PoolTimeout:
            raise Overloaded(ALL_IN_USE) from None
        except psycopg2.Error as error:
            raise _told(error) from error
        try:
            with connection.driver_connection.cursor() as cursor:  # type: ignore[union-attr]
                cursor.execute(statement, parameters)
                row: tuple[Any, ...] = cursor.fetchone()
                return row
        except psycopg2.Error as error:
            if _code(error) == CANCELLED:  # it would take as long again
                raise _told(error) from error
            return None
        finally:
            connection.close()

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
                raise Overloaded(ALL_IN_USE) from None
            except DBAPIError as error:
                told = _told(error)
                if not left or not _may_repeat(error, first=left == ATTEMPTS - 1):
                    raise told from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _code(error: DBAPIError | psycopg2.Error) -> str | None:
    return getattr(error.orig if isinstance(error, DBAPIError) else error, "pgcode", None)


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


def _told(error: DBAPIError | psycopg2.Error) -> Exception:
    code = _code(error)
    if code == CANCELLED:
        return Overloaded("the store took too long")
    if code is not None and code.startswith(CONFLICTS):
        return Conflict("contradicts what is stored")
    for codes, message in AWAY:
        if code is not None and code.startswith(codes):
            return _away(f"{message} (SQLSTATE {code})")
    broken = isinstance(error, DBAPIError) and error.connection_invalidated
    if broken or (code is None and type(error).__name__ == "OperationalError"):
        return _away("the store cannot be reached")
    return error


def _away(message: str) -> Unavailable:
    return Unavailable(message, reason=Reason.STORE_UNAVAILABLE)
