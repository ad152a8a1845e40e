"""Errors as a log may tell them: where and of what kind, and of messages only those that hold no data.

A message of Python, of a driver or of a check quotes what it stumbled over, which may be what an entity is
made of. Kept are the messages of `MatchloopError`, of `InvalidInput` only the violated fields, and what the
system says of its files and sockets.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from matchloop.errors import InvalidInput, MatchloopError

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHHELD = "(message withheld)"
MOST_FIELDS = 10


def said(error: BaseException) -> str:
    """Return what a log may say of an error, in a line."""
    if isinstance(error, InvalidInput) and error.violations:
        # What a client made up itself, a feature's name, is quoted in a path.
        fields = dict.fromkeys(each.field.partition('["')[0] for each in error.violations)
        return ", ".join(list(fields)[:MOST_FIELDS])
    if isinstance(error, MatchloopError) and not isinstance(error, InvalidInput):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    state = getattr(error, "pgcode", None)  # PostgreSQL's SQLSTATE
    return f"SQLSTATE {state} {WITHHELD}" if state else WITHHELD


def told(error: BaseException) -> str:
    """Return a traceback with what it came from before it; every message as `said` has it."""
    parts = []
    for each in reversed(list(_chain(error))):
        kind = f"{type(each).__module__}.{type(each).__qualname__}".removeprefix("builtins.")
        frames = "".join(traceback.format_tb(each.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{kind}: {said(each)}\n")
    return "\nwhich led to\n\n".join(parts)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Give an error, and what each came from, the latest first; no error twice."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
