"""Every field of every request at its stated bound, and one past it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.message import Message

from matchloop.errors import MatchloopError, NotImplementedYet
from playground.postgres import EmbeddedPostgres
from tests.bounds import check_at_bound, check_past_bound, every_field
from tests.feedback_bounds import base
from tests.feedback_bounds_table import BOUNDS
from tests.feedback_rpc_world import World, methods, postgres_world, rows
from tests.feedback_worlds import NOW

STORES = ["memory", pytest.param("postgres", marks=pytest.mark.processes)]
NO_TIME = "google.protobuf.Timestamp"


def test_every_request_field_has_an_entry() -> None:
    assert every_field(methods()) == set(BOUNDS)


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


def skip_if_not_there(world: World, entry: str) -> str:
    method = entry.partition(".")[0]
    if isinstance(world.error(method, base(method)), NotImplementedYet):
        pytest.skip(f"{method} is not implemented yet")
    return method


WRITING = (
    "UpsertEntities",
    "RecordSessions",
    "RecordInteractions",
    "RecordDislike",
    "AcquireLease",
    "RecordAct",
    "StartExperiment",
)


@pytest.mark.parametrize("entry", [entry for entry, bound in BOUNDS.items() if bound.at])
def test_at_its_bound_it_is_taken(used: World, entry: str) -> None:
    skip_if_not_there(used, entry)

    def refusal(method: str, request: Message) -> MatchloopError | None:
        if method == "StartExperiment":  # one runs at a time
            for running in used.store.list_experiments("", after=None, limit=9):
                used.store.stop_experiment(running.experiment_id, reason="r", now=NOW)
        return used.error(method, request)

    check_at_bound(base, entry, BOUNDS[entry], refusal)


@pytest.mark.parametrize("entry", [entry for entry, bound in BOUNDS.items() if bound.past])
def test_past_its_bound_it_is_named_and_nothing_written(untouched: World, entry: str) -> None:
    if entry.partition(".")[0] not in WRITING:
        skip_if_not_there(untouched, entry)
    before = rows(untouched.store)

    def nothing_written() -> None:
        assert rows(untouched.store) == before

    check_past_bound(base, entry, BOUNDS[entry], untouched.error, nothing_written)
