"""OperationsService over gRPC, over either store: two clients at once, a start again, metrics."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from feedback_svc.operations_servicer import SERVICE
from feedback_svc.serving import build_server
from matchloop.acts import ActKind
from matchloop.errors import Conflict, InvalidInput, NotFound, Reason
from matchloop.observe.metrics import Metrics
from matchloop.operations.v1 import operations_service_pb2 as operations
from matchloop.rpc.settings import ServerSettings
from playground.postgres import EmbeddedPostgres
from tests.feedback_bounds import base
from tests.feedback_rpc_world import World, at, postgres_world
from tests.feedback_worlds import NOW, USE_CASE, use_cases
from training_jobs.leases import LeaseTaken
from training_jobs.operations import Operations

NAME = f"retrain/{USE_CASE}"
TURNS = 20


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.processes)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    memory = request.param == "memory"
    with World() if memory else postgres_world(request.getfixturevalue("postgres"), threads=4) as running:
        yield running


def test_of_two_clients_at_once_one_has_the_lease(world: World) -> None:
    both, done = Barrier(2), Barrier(2)

    def hold(holder: str) -> int:
        times = 0
        with Operations(world.address) as client:
            for _ in range(TURNS):
                both.wait(timeout=30)
                try:
                    with client.lease(NAME, holder=holder):
                        times += 1
                        done.wait(timeout=30)
                except LeaseTaken:
                    done.wait(timeout=30)
        return times

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(hold, ("a", "b"))) == TURNS


@pytest.mark.processes
def test_what_was_recorded_is_there_when_the_service_starts_again(
    postgres: EmbeddedPostgres, database_url: str
) -> None:
    with postgres_world(postgres, url=database_url) as world, Operations(world.address) as client:
        client.record_act(USE_CASE, ActKind.PROMOTED, automatic=True, act_id="1")
        started = client.start_experiment(
            USE_CASE,
            experiment_id="e",
            challenger_share=0.3,
            champion_release="r1",
            challenger_release="r2",
        )
        world.store.acquire_lease(NAME, "a", duration=timedelta(hours=1), now=NOW)
        acts = client.acts()
    with postgres_world(postgres, url=database_url) as world, Operations(world.address) as client:
        assert client.acts() == acts
        assert client.running_experiment(USE_CASE) == started
        with pytest.raises(LeaseTaken, match="held by `a`"), client.lease(NAME):
            raise AssertionError("two hold it")


def test_it_is_listed_by_reflection_and_has_a_health_of_its_own(world: World) -> None:
    assert SERVICE in ProtoReflectionDescriptorDatabase(world.channel).get_services()
    request = health_pb2.HealthCheckRequest(service=SERVICE)
    reply = health_pb2_grpc.HealthStub(world.channel).Check(request, timeout=10)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_acts_are_counted_once() -> None:
    metrics, world = Metrics(), World()
    server = build_server(ServerSettings(), world.store, use_cases(), world.clock, metrics=metrics)
    with server, Operations(server.address) as client:
        for _ in range(2):
            client.record_act(USE_CASE, ActKind.REFUSED, automatic=True, act_id="1")
    assert metrics.value("matchloop_acts_total", use_case=USE_CASE, kind="refused") == 1.0


@pytest.mark.parametrize("method", ["ListActs", "ListExperiments", "GetReactions"])
def test_an_unknown_use_case_is_not_found(world: World, method: str) -> None:
    request: Any = base(method)
    request.use_case = "nope"
    with pytest.raises(NotFound) as raised:
        world.call(method, request)
    assert raised.value.reason is Reason.USE_CASE_NOT_FOUND


def test_every_violation_is_named(world: World) -> None:
    act: Any = operations.RecordActRequest()
    act.act.numbers.add(value=float("nan"), threshold=float("inf"))
    error = world.error("RecordAct", act)
    assert isinstance(error, InvalidInput)
    assert [violation.field for violation in error.violations] == [
        "act.act_id",
        "act.use_case",
        "act.kind",
        "act.numbers[0].name",
        "act.numbers[0].value",
        "act.numbers[0].threshold",
    ]
    asked = operations.GetReactionsRequest(
        use_case=USE_CASE, from_time=at(NOW), to_time=at(NOW - timedelta(1)), release="x" * 129
    )
    error = world.error("GetReactions", asked)
    assert isinstance(error, InvalidInput)
    assert [violation.field for violation in error.violations] == ["to_time", "release"]


def test_pages_go_on_where_they_ended_also_when_more_is_recorded(world: World) -> None:
    with Operations(world.address) as client:
        for number in range(5):
            client.record_act(USE_CASE, ActKind.PROMOTED, automatic=False, act_id=f"{number}")
        request = operations.ListActsRequest(use_case=USE_CASE, page_size=2)
        seen = []
        while True:
            page = world.call("ListActs", request)
            seen += [act.act_id for act in page.acts]
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
            world.now += timedelta(seconds=1)
            client.record_act(USE_CASE, ActKind.PROMOTED, automatic=False)
    assert seen == ["4", "3", "2", "1", "0"]


def test_a_conflict_is_told_with_its_reason(world: World) -> None:
    world.call("StartExperiment", base("StartExperiment"))
    stub: Any = world.operations
    with pytest.raises(grpc.RpcError) as raised:
        stub.StartExperiment(base("StartExperiment"), timeout=10)
    failed: Any = raised.value
    assert failed.code() is grpc.StatusCode.FAILED_PRECONDITION
    error = world.error("StartExperiment", base("StartExperiment"))
    assert isinstance(error, Conflict)
    assert error.reason is Reason.CONFLICT
