"""JSON logs on stderr, one object a line, each with the ids of the request and of the trace it belongs to.

What people and items are made of is never logged: values under the names in `WITHHELD`, and every value that
is not a plain scalar or a short list of them, are replaced by the name of their type. Errors are told as
`matchloop.observe.faults` does: with their place, without what they quote.
"""

from __future__ import annotations

import logging
import secrets
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from matchloop.observe import faults, tracing

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

request_id: ContextVar[str | None] = ContextVar("matchloop_request_id", default=None)
"""Id of the request being served in this context, set by the server interceptor; of a job, of its run."""

WITHHELD = frozenset(
    {
        "features",
        "entity",
        "entities",
        "attributes",
        "profile",
        "subject",
        "item",
        "text",
        "embedding",
        "vector",
        "token",
        "authorization",
        "metadata",
    }
)
MAX_TEXT = 500
MAX_LIST = 20


def _plain(value: object) -> object:
    """Return `value` if it may be logged, else the name of its type."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…"
    if isinstance(value, list | tuple) and len(value) <= MAX_LIST:
        return [
            _plain(each) if isinstance(each, str | int | float) else f"<{type(each).__name__}>"
            for each in value
        ]
    return f"<{type(value).__name__}>"


def withhold(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Keep scalars, replace everything that could hold an entity's attributes."""
    for key, value in event.items():
        if key in WITHHELD:
            event[key] = f"<{type(value).__name__}>"
        elif not key.startswith("_") and key not in {"exc_info", "exception"}:
            event[key] = _plain(value)
    return event


def _add_ids(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    for name, current in (("request_id", request_id.get()), ("trace_id", tracing.trace_id())):
        if current is not None:
            event.setdefault(name, current)
    return event


def _tell_error(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Put ``exception`` in the place of ``exc_info``: an error, a triple, or True for the current one."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["exception"] = faults.told(error)
    return event


def new_request_id() -> str:
    """Return an id for a request, or a run, that came without."""
    return secrets.token_hex(8)


def configure_logging(level: str = "INFO", *, service: str = "", stream: TextIO | None = None) -> None:
    """Send this process's logs, its libraries' too, as JSON lines to `stream`.

    Parameters
    ----------
    level
        Least level shown: DEBUG, INFO, WARNING, ERROR.
    service
        Name put in every line; left out when empty.
    stream
        Default: stderr.

    Raises
    ------
    ValueError
        If the level is not one of Python's.
    """
    target = stream if stream is not None else sys.stderr
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level {level!r} is not one of DEBUG, INFO, WARNING, ERROR")

    def add_service(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        if service:
            event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_ids,
        add_service,
        withhold,
    ]
    closing: list[Processor] = [_tell_error, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*shared, *closing],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *closing],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)


def get_logger(**bound: Any) -> Any:
    """Return a logger; its keyword arguments become fields of the line. Safe to call at import."""
    return structlog.get_logger(**bound)
