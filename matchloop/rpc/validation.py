"""Checks on what clients send: all run, each violation is named by its field path, one error at the end.

::

    violations = Violations(now=clock())
    subject = violations.identifier("subject_id", request.subject_id)
    for index, interaction in enumerate(request.interactions):
        each = violations.within(f"interactions[{index}]")
        each.name("event_type", interaction.event_type)
    violations.raise_if_any()
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from matchloop.entities import MAX_ID_LENGTH
from matchloop.errors import InvalidInput, Violation
from matchloop.rpc.paging import BadPageToken, read_page_token

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sized

    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

MAX_NAME_LENGTH = 64
MAX_TEXT_LENGTH = 10_000
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=1)
"""How far a client's clock may run before ours."""

MAX_SHOWN = 60

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
"""Of a `Timestamp`: the years 1 to 9999."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NUL = "\x00"


def utc_now() -> datetime:
    """Return the time, aware, UTC: the clock that a composition root passes on."""
    return datetime.now(UTC)


def _shown(value: str) -> str:
    return repr(value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + "…")


class Violations:
    """Collects violations.

    Every check returns the value to go on with, also when it is at fault: nothing is used before
    `raise_if_any`.

    Parameters
    ----------
    now
        Aware UTC; times are compared with it. Not a default: a test says what time it is.
    """

    __slots__ = ("_found", "_prefix", "now")

    def __init__(self, *, now: datetime) -> None:
        self.now = now
        self._prefix = ""
        self._found: list[Violation] = []

    def within(self, path: str) -> Violations:
        """Return a collector into the same list, whose field paths start with ``path.``."""
        inner = Violations(now=self.now)
        inner._prefix = f"{self._prefix}{path}."
        inner._found = self._found
        return inner

    @property
    def found(self) -> tuple[Violation, ...]:
        """Everything found so far, in order."""
        return tuple(self._found)

    def add(self, field: str, description: str) -> None:
        """Note that `field` breaks a rule."""
        self._found.append(Violation(self._prefix + field, description))

    def raise_if_any(self) -> None:
        """Raise one InvalidInput with everything found.

        Raises
        ------
        InvalidInput
            If anything was found.
        """
        if self._found:
            raise InvalidInput.of(self._found)

    def identifier(self, field: str, value: str, *, required: bool = True) -> str:
        """Check an opaque id: at most 128 characters, no control character; empty only if not required."""
        if not value:
            if required:
                self.add(field, "is required")
        elif len(value) > MAX_ID_LENGTH:
            self.add(field, f"has {len(value)} characters, at most {MAX_ID_LENGTH} are allowed")
        elif not value.isprintable() and _CONTROL.search(value):  # no printable text has one; this is quick
            self.add(field, "contains a control character")
        return value

    def name(self, field: str, value: str, *, required: bool = True) -> str:
        """Check a configured name (kind, use case, event type, feature): lower_snake_case, at most 64."""
        if not value:
            if required:
                self.add(field, "is required")
        elif len(value) > MAX_NAME_LENGTH or not _NAME.fullmatch(value):
            self.add(
                field,
                f"{_shown(value)} is not a lower_snake_case name of at most {MAX_NAME_LENGTH} characters",
            )
        return value

    def one_of(self, field: str, value: str, allowed: Collection[str]) -> str:
        """Check a value against a set, which the message names."""
        if value not in allowed:
            said = _shown(value) if value else "is required and"
            self.add(field, f"{said} is not one of {', '.join(sorted(allowed))}")
        return value

    def enum(self, field: str, value: int, name_of: Callable[[Any], str]) -> int:
        """Check a closed enum: known, not UNSPECIFIED (zero); `name_of` is the generated ``Enum.Name``."""
        if value == 0:
            self.add(field, "is required")
        else:
            try:
                name_of(value)
            except ValueError:
                self.add(field, f"has no value {value}")
        return value

    def text(self, field: str, value: str, *, most: int = MAX_TEXT_LENGTH, required: bool = False) -> str:
        """Check words for people: at most `most` characters, no NUL (PostgreSQL stores none)."""
        if not value:
            if required:
                self.add(field, "is required")
        elif len(value) > most:
            self.add(field, f"has {len(value)} characters, at most {most} are allowed")
        elif _NUL in value:
            self.add(field, "contains a NUL character")
        return value

    def number(
        self, field: str, value: float, *, least: float | None = None, most: float | None = None
    ) -> float:
        """Check that a number is finite and in [least, most]."""
        if not math.isfinite(value):
            self.add(field, f"is {value}, not a finite number")
        elif least is not None and value < least:
            self.add(field, f"is {value:g}, at least {least:g} is allowed")
        elif most is not None and value > most:
            self.add(field, f"is {value:g}, at most {most:g} is allowed")
        return value

    def numbers(self, field: str, values: Iterable[float]) -> None:
        """Check that every number is finite; one violation, with the first fault's index."""
        for index, value in enumerate(values):
            if not math.isfinite(value):
                self.add(f"{field}[{index}]", f"is {value}, not a finite number")
                return

    def count(self, field: str, values: Sized, *, most: int, least: int = 0) -> bool:
        """Check the length of a repeated field; False when out of bounds (then do not walk through it)."""
        length = len(values)
        if length > most:
            self.add(field, f"has {length} entries, at most {most} are allowed")
            return False
        if length < least:
            self.add(
                field, "is required" if least == 1 else f"has {length} entries, at least {least} are needed"
            )
            return False
        return True

    def distinct(self, field: str, values: Iterable[str], *, part: str = "") -> None:
        """Check that no value comes twice; names every repetition, as ``field[i].part``."""
        first: dict[str, int] = {}
        for index, value in enumerate(values):
            if value in first:
                path = f"{field}[{index}].{part}" if part else f"{field}[{index}]"
                self.add(path, f"repeats {field}[{first[value]}]")
            else:
                first[value] = index

    def time(self, field: str, value: Timestamp, *, given: bool = True) -> datetime | None:
        """Check a time: valid, not before 1900, not more than a day ahead.

        Parameters
        ----------
        given
            ``request.HasField(field)``; a time not given is None and no violation.

        Returns
        -------
        datetime or None
            Aware UTC, microseconds; None when not given or at fault.
        """
        if not given:
            return None
        seconds, nanos = value.seconds, value.nanos
        if not (_FIRST_SECOND <= seconds <= _LAST_SECOND and 0 <= nanos < 1_000_000_000):
            self.add(field, "is no valid time")
            return None
        moment = _EPOCH + timedelta(0, seconds, nanos // 1000)
        if moment < EARLIEST:
            self.add(field, f"{moment.isoformat()} lies before {EARLIEST.year}")
        elif moment > self.now + AHEAD:
            self.add(field, f"{moment.isoformat()} lies more than a day ahead of {self.now.isoformat()}")
        else:
            return moment
        return None

    def required_time(self, field: str, value: Timestamp, *, given: bool) -> datetime:
        """Check a time that must be given; `now` stands in for a faulty one."""
        if not given:
            self.add(field, "is required")
        return self.time(field, value, given=given) or self.now

    def page_size(self, value: int, *, default: int, most: int, field: str = "page_size") -> int:
        """Return the page size (AIP-158): 0 is the default, over `most` is `most`, negative is refused."""
        if value < 0:
            self.add(field, f"is {value}, negative")
        return min(value if value > 0 else default, most)

    def page_token(
        self, request: Message, token: str, *, parts: int, field: str = "page_token"
    ) -> tuple[str, ...] | None:
        """Return where the page starts, None for the first; refuses tokens of other requests."""
        try:
            return read_page_token(request, token, parts=parts)
        except BadPageToken as error:
            self.add(field, str(error))
            return None
