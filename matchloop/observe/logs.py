"""JSON logs on stderr, one object a line, each with the id of the request it belongs to.

What people and items are made of is never logged: values under the names in `WITHHELD`, and every value that
is not a plain scalar or a short list of them, are replaced by the name of their type.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

request_id: ContextVar[str | None] = ContextVar("matchloop_request_id", default=None)
"""Id of the request being served in this context; set by the server interceptor."""

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


def _add_request_id(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    current = request_id.get()
    if current is not None:
        event.setdefault("request_id", current)
    return event


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
        _add_request_id,
        add_service,
        withhold,
    ]
    closing: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
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
