"""What the contract says of request fields: values at the bound and past it, and how a service is checked.

An entry of a table, named ``Method.path``, has values at the field's bound and past it. A value is put into
that RPC's base request, at the path, in the first entry of a repeated field; one that is a request itself
stands for the whole. None leaves the field out.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from matchloop.catalog.v1 import entity_pb2
from matchloop.errors import MatchloopError, Reason
from tests.request_fields import fields_of, put

LARGEST = 1.7976931348623157e308
LARGEST_FLOAT = 3.4028234663852886e38
SMALLEST_FLOAT = 1.401298464324817e-45
_numbers = itertools.count()

NO_TIME = "google.protobuf.Timestamp"


@dataclass(frozen=True)
class Past:
    """A value past the bound, the fields it has to name (the entry's own when left out), and the reason."""

    value: Any
    fields: tuple[str, ...] | None = None
    reason: Reason = Reason.INVALID_INPUT


@dataclass(frozen=True)
class Bound:
    """Values at the bound, answered OK or with `told`; and past it."""

    at: tuple[Any, ...]
    past: tuple[Any, ...] = ()
    told: Reason | None = None


def feature_value(**given: Any) -> entity_pb2.FeatureValue:
    return entity_pb2.FeatureValue(**given)


Features = Mapping[str, entity_pb2.FeatureValue]


def startup_features(path: str, field: str, made: Callable[[Features], Message]) -> dict[str, Bound]:
    """Rules of the features of a startup.

    Parameters
    ----------
    path
        Of the map in the table.
    field
        Of the map, as violations name it.
    made
        Makes a whole request with these features.
    """

    def having(name: str, **given: Any) -> Message:
        return made({name: feature_value(**given)})

    def rule(name: str, case: str, fits: Iterable[Any], faults: Iterable[tuple[Any, str]]) -> Bound:
        where = f'{field}["{name}"]'
        return Bound(
            tuple(having(name, **{case: fit}) for fit in fits),
            tuple(Past(having(name, **{case: fault}), (where + rest,)) for fault, rest in faults),
        )

    longest, most = "\U0001f600" * 256, [str(n) * 64 for n in range(100, 164)]
    texts = [("", ""), ("x" * 257, ""), ("a\x00b", "")]
    multi = rule(
        "tags",
        "multi",
        [{"values": []}, {"values": most}, {"values": [longest, "a\nb", '"\\{},', "NULL"]}],
        [({"values": [*most, "x"]}, ""), ({"values": ["a", "a"]}, "[1]")]
        + [({"values": ["a", fault]}, "[1]") for fault, _ in texts],
    )
    edge = [LARGEST_FLOAT, SMALLEST_FLOAT, -0.0, *[0.5] * 381]
    embedding = rule(
        "embedding",
        "embedding",
        [{"values": edge}],
        [({"values": edge[:383]}, ""), ({"values": [*edge, 0.5]}, ""), ({"values": []}, "")]
        + [({"values": [0.0, fault, *[0.0] * 382]}, "[1]") for fault in (math.nan, math.inf)],
    )
    names = [f"f{n}" for n in range(65)]
    crowd = made(dict.fromkeys(names, feature_value(numeric=1.0)))
    everything = Bound(
        (having("name", text="x"), made({})),
        (
            Past(crowd, (field,)),
            Past(having("name"), (f'{field}["name"]',)),
            Past(having("nope", text="x"), (f'{field}["nope"]',)),
            Past(having("name", numeric=1.0), (f'{field}["name"]',)),
        ),
    )
    unknown = tuple(
        Past(having(name, text="x"), (f'{field}["{name[:256]}"]',)) for name in ("", "a\x00", "x" * 300)
    )
    return {
        path: everything,
        f"{path}.key": Bound((having("name", text="x"),), unknown),
        f"{path}.value": everything,
        f"{path}.value.categorical": rule("category", "categorical", ["x", longest, "a\nb"], texts),
        f"{path}.value.multi": multi,
        f"{path}.value.multi.values": multi,
        f"{path}.value.numeric": rule(
            "founded_year",
            "numeric",
            [LARGEST, -LARGEST, 5e-324, -0.0],
            [(fault, "") for fault in (math.nan, math.inf, -math.inf)],
        ),
        f"{path}.value.text": rule(
            "name", "text", ["", "\U0001f600" * 8192, "a\nb\x01\u2028"], [("x" * 8193, ""), ("\x00", "")]
        ),
        f"{path}.value.embedding": embedding,
        f"{path}.value.embedding.values": embedding,
        f"{path}.value.embedding.embedder": rule(
            "embedding", "embedding", [{"values": edge, "embedder": "of the client"}], []
        ),
    }


def identifier(*, required: bool = True, told: Reason | None = None) -> Bound:
    number = next(_numbers)
    longest = (
        "x" * 124 + f"{number:04}",
        "\U0001f600" * 124 + f"{number:04}",
        f" {number}",
        f'"\\{number}{{}},%s',
    )
    past = ("x" * 129, "\U0001f600" * 129, "a\nb", "a\x00b", "a\x1fb", "a\x85b", "a\u2028b")
    return Bound(longest if required else ("", *longest), ("", *past) if required else past, told)


def number(*, least: float = -LARGEST, most: float = LARGEST, absent: bool = False) -> Bound:
    past = [math.nan, math.inf, -math.inf]
    if most < LARGEST:
        past += [math.nextafter(least, -math.inf), math.nextafter(most, math.inf)]
    return Bound((*((None,) if absent else ()), least, most, 5e-324, -0.0), tuple(past))


def whole(*, least: int = 0) -> Bound:
    return Bound((least, 2**63 - 1), (least - 1, -(2**63)))


def enum(*known: int, past: tuple[int, ...] = ()) -> Bound:
    return Bound(known, (*past, -1, max(known) + 1, 2**31 - 1))


ANY = Bound((None, True, False))
TOKEN = Bound(("",), ("zz", "=", "é", "x" * 2049, "eyJhIjoxfQ", "\x00"))


def pages(most: int) -> dict[str, Bound]:
    return {
        "page_size": Bound((0, most, most + 1, 2**31 - 1), (-1, -(2**31))),
        "page_token": TOKEN,
    }


def many(least: int, most: int, make: Any, field: str) -> Bound:
    """Rules of a batch; `make` makes a request of so many entries."""
    return Bound((make(least), make(most)), (Past(make(least - 1), (field,)), Past(make(most + 1), (field,))))


def methods_of(*services: tuple[ModuleType, str]) -> Iterator[tuple[str, type[Message]]]:
    """Give every RPC's name and request type, of services in modules of service messages."""
    for module, service in services:
        for method in module.DESCRIPTOR.services_by_name[service].methods:
            yield method.name, getattr(module, method.input_type.name)


@functools.cache
def paths(descriptor: Descriptor) -> tuple[str, ...]:
    """Return the paths of a message's fields, those of messages in it too; times are values."""
    found: list[str] = []
    for field in descriptor.fields:
        found.append(field.name)
        if field.message_type is not None and field.message_type.full_name != NO_TIME:
            found += [f"{field.name}.{inner}" for inner in paths(field.message_type)]
    return tuple(found)


def every_field(methods: Iterable[tuple[str, type[Message]]]) -> set[str]:
    """Return the entries that a table must have."""
    return {f"{name}.{path}" for name, kind in methods for path in paths(kind.DESCRIPTOR)}


def build(base: Callable[[str], Message], entry: str, given: Any) -> Message:
    """Return the request of an entry's value."""
    method, _, path = entry.partition(".")
    request = base(method)
    if isinstance(given, type(request)):
        return given
    put(request, path, given)
    return request


Refusal = Callable[[str, Message], MatchloopError | None]
"""What a call is refused with; None when it is answered."""


def check_at_bound(base: Callable[[str], Message], entry: str, bound: Bound, refusal: Refusal) -> None:
    """Assert that every value at the bound is answered, or told as the table says."""
    for given in bound.at:
        error = refusal(entry.partition(".")[0], build(base, entry, given))
        assert (error and error.reason) is bound.told, (given, error)


def check_past_bound(
    base: Callable[[str], Message],
    entry: str,
    bound: Bound,
    refusal: Refusal,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Assert that every value past the bound is refused by name; `after` each, whatever else must hold."""
    method, _, path = entry.partition(".")
    for case in bound.past:
        past = case if isinstance(case, Past) else Past(case)
        error = refusal(method, build(base, entry, past.value))
        assert error is not None, past.value
        assert error.reason is past.reason, (past.value, error)
        if past.reason is Reason.INVALID_INPUT:
            expected = past.fields or (fields_of(base(method), path),)
            assert sorted(v.field for v in error.violations) == sorted(expected), past.value
        after()
