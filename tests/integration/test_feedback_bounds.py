"""Every field of every request at its stated bound, and one past it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from matchloop.errors import MatchloopError, NotImplementedYet, Reason
from playground.postgres import EmbeddedPostgres
from tests.feedback_bounds import Past, base
from tests.feedback_bounds_table import BOUNDS
from tests.feedback_requests import fields_of, put
from tests.feedback_rpc_world import World, methods, postgres_world, rows

STORES = ["memory", pytest.param("postgres", marks=pytest.mark.processes)]
NO_TIME = "google.protobuf.Timestamp"


@functools.cache
def paths(descriptor: Descriptor) -> tuple[str, ...]:
    """Return the paths of a message's fields, those of messages in it too; times are values."""
    found: list[str] = []
    for field in descriptor.fields:
        found.append(field.name)
        if field.message_type is not None and field.message_type.full_name != NO_TIME:
            found += [f"{field.name}.{inner}" for inner in paths(field.message_type)]
    return tuple(found)


def test_every_request_field_has_an_entry() -> None:
    fields = {f"{name}.{path}" for name, kind in methods() for path in paths(kind.DESCRIPTOR)}
    assert fields == set(BOUNDS)


def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return World()
    server: EmbeddedPostgres = request.getfixturevalue("postgres")
    return postgres_world(server)


@pytest.fixture(scope="module", params=STORES)
def untouched(request: pytest.FixtureRequest) -> Iterator[World]:
    """A service that is sent faulty requests alone: its store stays empty."""
    with world(request) as running:
        yield running


@pytest.fixture(scope="module", params=STORES)
def used(request: pytest.FixtureRequest) -> Iterator[World]:
    with world(request) as running:
        yield running


def build(entry: str, given: Any) -> Message:
    method, _, path = entry.partition(".")
    request = base(method)
    if isinstance(given, type(request)):
        return given
    put(request, path, given)
    return request


def skip_if_not_there(world: World, entry: str) -> str:
    method = entry.partition(".")[0]
    if isinstance(world.error(method, base(method)), NotImplementedYet):
        pytest.skip(f"{method} is not implemented yet")
    return method


WRITING = ("UpsertEntities", "RecordSessions", "RecordInteractions", "RecordDislike")


@pytest.mark.parametrize("entry", [entry for entry, bound in BOUNDS.items() if bound.at])
def test_at_its_bound_it_is_taken(used: World, entry: str) -> None:
    method = skip_if_not_there(used, entry)
    for given in BOUNDS[entry].at:
        error = used.error(method, build(entry, given))
        assert (error and error.reason) is BOUNDS[entry].told, error


@pytest.mark.parametrize("entry", [entry for entry, bound in BOUNDS.items() if bound.past])
def test_past_its_bound_it_is_named_and_nothing_written(untouched: World, entry: str) -> None:
    method, _, path = entry.partition(".")
    if method not in WRITING:
        skip_if_not_there(untouched, entry)
    before = rows(untouched.store)
    for case in BOUNDS[entry].past:
        past = case if isinstance(case, Past) else Past(case)
        with pytest.raises(MatchloopError) as raised:
            untouched.call(method, build(entry, past.value))
        assert raised.value.reason is past.reason, past.value
        if past.reason is Reason.INVALID_INPUT:
            expected = past.fields or (fields_of(base(method), path),)
            assert sorted(v.field for v in raised.value.violations) == sorted(expected), past.value
        assert rows(untouched.store) == before
