"""One cell at a time: what it says, or why it cannot be taken. The bounds are the services' own."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from matchloop.entities import MAX_ID_LENGTH, Categorical, FeatureValue, Multi, Numeric, Text
from matchloop.rpc.convert import MAX_TEXT_LENGTH, MAX_VALUE_LENGTH, MAX_VALUES
from matchloop.rpc.validation import EARLIEST
from matchloop.usecase import FeatureType

if TYPE_CHECKING:
    from collections.abc import Container

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SHOWN = 40


class CellError(ValueError):
    """A cell holds what its column may not; the message ends a sentence that begins with the column."""


def check_id(cell: str, known: Container[str]) -> None:
    """Check an id that must not be in `known`."""
    if not cell:
        raise CellError("is missing")
    if len(cell) > MAX_ID_LENGTH:
        raise CellError(f"is {len(cell)} characters long, at most {MAX_ID_LENGTH} are allowed")
    if _CONTROL.search(cell):
        raise CellError(f"contains a control character: {cell[:_SHOWN]!r}")
    if cell in known:
        raise CellError(f"`{cell}` stands in an earlier row too")


def feature(type_: FeatureType, cell: str) -> FeatureValue:
    """Read a feature of a type that data sets can hold."""
    if type_ is FeatureType.NUMERIC:
        return Numeric(number(cell))
    if type_ is FeatureType.MULTI:
        values = tuple(dict.fromkeys(value for part in cell.split("|") if (value := part.strip())))
        if len(values) > MAX_VALUES:
            raise CellError(f"has {len(values)} values, at most {MAX_VALUES} are allowed")
        return Multi(tuple(_words(value, MAX_VALUE_LENGTH) for value in values))
    if type_ is FeatureType.TEXT:
        return Text(_words(cell, MAX_TEXT_LENGTH))
    return Categorical(_words(cell, MAX_VALUE_LENGTH))


def _words(cell: str, most: int) -> str:
    if len(cell) > most:
        raise CellError(f"has {len(cell)} characters, at most {most} are allowed: `{cell[:_SHOWN]}…`")
    if "\0" in cell:
        raise CellError("contains a NUL character")
    return cell


def number(cell: str) -> float:
    """Read a finite number."""
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in cell:
        raise CellError(f"is no finite number: `{cell[:_SHOWN]}`")
    return value


def time(cell: str, latest: datetime | None) -> datetime:
    """Read a time, UTC unless it says otherwise; after 1899 and not after `latest`."""
    if not cell:
        raise CellError("is missing")
    try:
        moment = datetime.fromisoformat(cell)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise CellError(f"is no ISO date or time: `{cell[:_SHOWN]}`") from None
    if moment < EARLIEST:
        raise CellError(f"lies before {EARLIEST.year}: `{cell[:_SHOWN]}`")
    if latest is not None and moment > latest:
        raise CellError(f"lies in the future: `{cell[:_SHOWN]}`")
    return moment
