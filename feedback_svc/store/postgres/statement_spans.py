"""A span for each statement of a traced process, named after what it does to what, never after values."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext

from matchloop.observe import tracing

KEPT = 512
MOST_NAMES = 3
_SPAN = "matchloop_span"
_LITERAL = re.compile(r"'(?:[^']|'')*'")
_VERB = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
_NAMED = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(?:ONLY\s+)?([a-z_]+)\b", re.IGNORECASE)
_FUNCTION = re.compile(r"\bSELECT\s+([a-z_]+)\(", re.IGNORECASE)


@lru_cache(KEPT)
def statement_name(sql: str) -> str:
    """Return what a statement does and to what, e.g. ``INSERT entities`` or ``SELECT subject_state``.

    Verb, and the tables or functions it names, at most three; a statement of another kind is its first word.
    String literals are no part of it, and bound values are never in the text.
    """
    bare = _LITERAL.sub("''", sql)
    verb = _VERB.search(bare)
    if verb is None:
        return bare.split(maxsplit=1)[0].upper() if bare.strip() else "EMPTY"
    names = dict.fromkeys(_NAMED.findall(bare) or _FUNCTION.findall(bare))
    return " ".join([verb[1].upper(), *list(names)[:MOST_NAMES]])


def trace_statements(engine: Engine) -> None:
    """Make every statement of `engine` a span; nothing where the process is not traced."""
    if not tracing.is_on():
        return
    event.listen(engine, "before_cursor_execute", _begin)
    event.listen(engine, "after_cursor_execute", _end)
    event.listen(engine, "handle_error", _fail)


def _begin(connection: Connection, _cursor: Any, sql: str, *_more: Any) -> None:
    span = tracing.start(statement_name(sql), kind=tracing.Kind.CLIENT)
    span.set("db.system.name", "postgresql")
    connection.info[_SPAN] = span


def _end(connection: Connection, *_more: Any) -> None:
    connection.info.pop(_SPAN).end()


def _fail(context: ExceptionContext) -> None:
    span = context.connection.info.pop(_SPAN, None) if context.connection is not None else None
    if span is not None:
        span.fail()
        span.end()
