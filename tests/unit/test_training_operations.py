"""training_jobs' client of OperationsService, against the service over a store in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from matchloop.acts import Act, ActKind, ActNumber
from matchloop.errors import Conflict, InvalidInput, NotFound, Reason, Unavailable
from matchloop.experiments.reactions import Moments, Reactions
from matchloop.leases import Lease
from tests.feedback_rpc_world import World
from tests.feedback_worlds import NOW, USE_CASE, event, facts, shown
from training_jobs.leases import HeldLease, LeaseLost, LeaseTaken
from training_jobs.operations import Operations

NAME = f"retrain/{USE_CASE}"
TURNS, PAUSE = 400, 0.02


@pytest.fixture
def world() -> Iterator[World]:
    with World() as running:
        yield running


@pytest.fixture
def operations(world: World) -> Iterator[Operations]:
    with Operations(world.address) as client:
        yield client


def wait_until(reached: Callable[[], bool]) -> None:
    turn = threading.Event()
    for _ in range(TURNS):
        if reached():
            return
        turn.wait(PAUSE)
    raise AssertionError("not reached in time")


def held(world: World) -> Lease | None:
    return world.store._leases.get(NAME)  # type: ignore[union-attr]


def test_a_lease_is_held_during_the_block_alone(world: World, operations: Operations) -> None:
    with operations.lease(NAME, holder="a") as lease:
        assert held(world) == Lease(NAME, "a", NOW, NOW + timedelta(seconds=300))
        with (
            pytest.raises(LeaseTaken, match="held by `a` until 2026-05-01T12:05:00") as raised,
            operations.lease(NAME, holder="b"),
        ):
            raise AssertionError("two hold it")
        assert raised.value.lease == held(world)
        assert raised.value.reason is Reason.CONFLICT
        assert not lease.lost
        lease.raise_if_lost()
    assert held(world) is None
    with operations.lease(NAME) as first, operations.lease("another") as second:
        assert first.holder != second.holder


def test_a_block_that_fails_gives_the_lease_back(world: World, operations: Operations) -> None:
    with pytest.raises(KeyError), operations.lease(NAME):
        raise KeyError
    assert held(world) is None


def test_a_lease_is_prolonged_while_the_block_runs(world: World, operations: Operations) -> None:
    with operations.lease(NAME, seconds=1, holder="a") as lease:
        world.now += timedelta(seconds=0.7)
        wait_until(lambda: held(world) == Lease(NAME, "a", NOW, NOW + timedelta(seconds=1.7)))
        assert not lease.lost


def test_the_block_is_told_when_somebody_else_has_taken_the_lease(
    world: World, operations: Operations
) -> None:
    with operations.lease(NAME, seconds=1, holder="a") as lease:
        later = NOW + timedelta(seconds=5)
        world.store.acquire_lease(NAME, "b", duration=timedelta(seconds=60), now=later)
        world.now = later
        wait_until(lambda: lease.lost)
        with pytest.raises(LeaseLost, match="held by `b` until 2026-05-01T12:01:05"):
            lease.raise_if_lost()
    assert held(world) == Lease(NAME, "b", later, later + timedelta(seconds=60))


def test_the_block_is_told_when_the_lease_had_expired_though_nobody_holds_it(
    world: World, operations: Operations
) -> None:
    with operations.lease(NAME, seconds=1, holder="a") as lease:
        world.now = NOW + timedelta(seconds=5)
        wait_until(lambda: lease.lost)
        with pytest.raises(LeaseLost, match="expired before it was prolonged"):
            lease.raise_if_lost()


def test_the_block_is_told_when_the_service_stays_away(world: World, operations: Operations) -> None:
    with operations.lease(NAME, seconds=1) as lease:
        world._server.stop()
        wait_until(lambda: lease.lost)
        with pytest.raises(LeaseLost, match="did not answer until it expired"):
            lease.raise_if_lost()
        operations._timeout = 0.05  # giving it back is not waited for here


def test_a_lease_outlives_calls_that_fail() -> None:
    lease = Lease(NAME, "a", NOW, NOW + timedelta(seconds=1))
    answers: list[Any] = [Unavailable("away"), Unavailable("away"), (True, lease), (False, lease)]
    in_use, asked = HeldLease(lease), []

    def ask(timeout: float) -> tuple[bool, Lease]:
        asked.append(timeout)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    expires = time.monotonic() + 30.0
    in_use.prolong(ask, seconds=0.3, expires=expires, most=5.0, ended=threading.Event())
    assert in_use.lost
    assert len(asked) == 4
    assert max(asked) <= 0.1


def test_acts_are_recorded_once_and_listed(operations: Operations) -> None:
    numbers = (ActNumber("dislike_rate", 0.25, 0.1), ActNumber("unused", 20.0))
    for stored in (True, False):
        assert stored is operations.record_act(
            USE_CASE,
            ActKind.ROLLED_BACK,
            automatic=True,
            release="r2",
            reason="lost a guard",
            numbers=numbers,
            act_id="1",
            act_time=NOW - timedelta(hours=1),
        )
    assert operations.record_act(USE_CASE, ActKind.NOT_DUE, automatic=False)
    latest, first = operations.acts(USE_CASE)
    assert first == Act(
        "1", USE_CASE, ActKind.ROLLED_BACK, True, "r2", "lost a guard", numbers, NOW - timedelta(hours=1)
    )
    assert (latest.kind, latest.act_time, latest.numbers) == (ActKind.NOT_DUE, NOW, ())
    assert operations.acts(kinds=[ActKind.ROLLED_BACK]) == (first,)
    assert operations.acts(limit=1) == (latest,)
    assert operations.acts("user_movie") == ()
    with pytest.raises(InvalidInput, match=r"act\.numbers\[0\]\.value"):
        operations.record_act(
            USE_CASE, ActKind.DRIFTED, automatic=True, numbers=[ActNumber("psi", float("nan"))]
        )


def test_acts_are_read_over_pages(operations: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training_jobs.operations.PAGE", 2)
    for number in range(7):
        operations.record_act(USE_CASE, ActKind.PROMOTED, automatic=True, act_id=str(number))
    assert [act.act_id for act in operations.acts(limit=5)] == ["6", "5", "4", "3", "2"]
    assert len(operations.acts()) == 7


def start(operations: Operations, id_: str, use_case: str = USE_CASE, share: float = 0.3) -> Any:
    return operations.start_experiment(
        use_case,
        experiment_id=id_,
        challenger_share=share,
        champion_release="r1",
        challenger_release="r2",
    )


def test_an_experiment_runs_until_it_is_stopped(world: World, operations: Operations) -> None:
    assert operations.running_experiment(USE_CASE) is None
    first = start(operations, "e1")
    assert start(operations, "e1") == first == operations.running_experiment(USE_CASE)
    with pytest.raises(Conflict, match="experiment `e1` runs"):
        start(operations, "e2")
    with pytest.raises(Conflict, match="the id of another"):
        start(operations, "e1", share=0.4)
    assert start(operations, "e3", "user_movie").runs
    world.now += timedelta(hours=1)
    stopped = operations.stop_experiment("e1", reason="decided")
    assert (stopped.stop_time, stopped.stop_reason) == (world.now, "decided")
    assert operations.stop_experiment("e1", reason="again") == stopped
    assert operations.running_experiment(USE_CASE) is None
    assert [each.experiment_id for each in operations.experiments()] == ["e3", "e1"]
    with pytest.raises(NotFound) as raised:
        operations.stop_experiment("e9", reason="r")
    assert raised.value.reason is Reason.EXPERIMENT_NOT_FOUND


def test_reactions_come_with_their_sums(world: World, operations: Operations) -> None:
    world.store.record_sessions([shown("x", feature_names=("diversity", "recency"))], now=NOW)
    liked = [event("1", type_="like", session_id="x")]
    world.store.record_interactions(liked, facts(liked), now=NOW)
    once = Moments(1, 1.0, 2.0)
    assert operations.reactions(USE_CASE, NOW, NOW + timedelta(hours=1)) == (
        Reactions("", "r1", 1, 1, 2, 4.0, once, once, Moments(), 1, 0.25, 0.5),
    )
    assert operations.reactions(USE_CASE, NOW, release="r2") == ()


def test_a_service_that_is_not_there_is_unavailable() -> None:
    with (
        Operations("127.0.0.1:1", timeout=0.2) as operations,
        pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"),
    ):
        operations.acts()
