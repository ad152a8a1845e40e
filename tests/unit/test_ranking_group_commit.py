"""Sessions that come while the store is busy: together, each for its own caller, none held up by another."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from matchloop.errors import Unavailable
from ranking_svc.session_log import Outcome
from tests.ranking_world import World, until
from tests.unit.test_ranking_session_log import session


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, max_records=1000) as made:
        yield made


class Busy:
    """Holds the store's calls while `held` is set; counts those under way."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._free = threading.Event()
        self._lock = threading.Lock()
        self.under_way = 0
        self.most = 0
        world.store.before_record = self._record

    def _record(self, _sessions: int) -> None:
        with self._lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        self._free.wait(60.0)
        with self._lock:
            self.under_way -= 1

    def release(self) -> None:
        """Let every call end from now on."""
        self._free.set()

    @property
    def waiting(self) -> int:
        """Sessions that wait for the next call."""
        return len(self._world.log._group._waiting)


@contextmanager
def behind_a_call(world: World, subjects: Sequence[str]) -> Iterator[tuple[Busy, list[Future[Outcome]]]]:
    """Store ``s0``, and while that is under way ``s1`` and up, a session of each of these subjects."""
    busy = Busy(world)
    with ThreadPoolExecutor(len(subjects) + 1) as pool:
        outcomes = [pool.submit(world.log.store, session(0))]
        until(lambda: busy.under_way == 1)
        for number, subject in enumerate(subjects, start=1):
            outcomes.append(pool.submit(world.log.store, session(number, subject)))
            until(lambda wanted=number: busy.waiting == wanted)  # type: ignore[misc]  # bound by default
        try:
            yield busy, outcomes
        finally:
            busy.release()


def test_one_after_the_other_each_has_a_call_of_its_own(world: World) -> None:
    assert {world.log.store(session(number)) for number in range(3)} == {Outcome.STORED}
    assert world.store.batches == [1, 1, 1]


def test_what_comes_during_a_call_goes_out_with_the_next_in_order(world: World) -> None:
    with behind_a_call(world, ["u1"] * 5) as (busy, outcomes):
        assert not any(each.done() for each in outcomes)
        busy.release()
        assert {each.result() for each in outcomes} == {Outcome.STORED}
    assert world.store.batches == [1, 5]
    assert world.store.arrivals == [f"s{number}" for number in range(6)]
    assert busy.most == 1


def test_a_call_takes_as_many_as_the_contract_allows(world: World) -> None:
    with behind_a_call(world, ["u1"] * 230) as (busy, outcomes):
        busy.release()
        assert {each.result() for each in outcomes} == {Outcome.STORED}
    assert world.store.batches == [1, 100, 100, 30]
    assert world.store.arrivals == [f"s{number}" for number in range(231)]


def test_a_bad_session_hurts_nobody_else(world: World) -> None:
    world.store.poison = "bad"
    with behind_a_call(world, ["u1", "bad", "u2", "u3"]) as (busy, outcomes):
        busy.release()
        found = [each.result() for each in outcomes]
    assert found == [Outcome.STORED, Outcome.STORED, Outcome.LOST, Outcome.STORED, Outcome.STORED]
    assert sorted(world.store.arrivals) == ["s0", "s1", "s3", "s4"]
    assert world.metrics.value("matchloop_spool_dropped_total") == 1
    assert len(world.spool) == 0
    assert world.log.store(session(9)) is Outcome.STORED  # the way is free again


def test_a_store_that_fails_sends_all_of_them_to_the_spool(world: World) -> None:
    with behind_a_call(world, ["u1"] * 4) as (busy, outcomes):
        world.store.fault = Unavailable("away")
        busy.release()
        assert {each.result() for each in outcomes} == {Outcome.SPOOLED}
    assert len(world.spool) == 5
    world.store.fault = None
    assert world.log.deliver() == 5
    assert world.log.store(session(9)) is Outcome.STORED


def test_a_bug_reaches_every_caller_and_the_next_call_is_made(world: World) -> None:
    calls: list[int] = []

    def broken(sessions: int) -> None:
        calls.append(sessions)
        if len(calls) == 2:
            raise ZeroDivisionError

    with behind_a_call(world, ["u1"] * 3) as (busy, outcomes):
        world.store.before_record = broken
        calls.append(1)
        busy.release()
        assert outcomes[0].result() is Outcome.STORED
        assert [type(each.exception()) for each in outcomes[1:]] == [ZeroDivisionError] * 3
    assert world.log.store(session(9)) is Outcome.STORED


def test_nobody_waits_longer_than_its_own_time_nor_fails_for_anothers_haste(world: World) -> None:
    with behind_a_call(world, ["u1"]) as (busy, outcomes), ThreadPoolExecutor(1) as pool:
        world.store.seconds = 0.05
        hasty = pool.submit(world.log.store, session(2))
        assert hasty.result(timeout=5.0) is Outcome.SPOOLED  # while the store is busy still
        world.store.seconds = 60.0
        assert not any(each.done() for each in outcomes)
        busy.release()
        assert {each.result() for each in outcomes} == {Outcome.STORED}
    assert world.store.arrivals == ["s0", "s1"]
    assert world.log.deliver() == 1
    assert world.store.arrivals == ["s0", "s1", "s2"]


def test_the_one_with_the_most_time_left_makes_the_call(world: World) -> None:
    given: list[float] = []
    real = world.store.record

    def record(encoded: Sequence[bytes], *, seconds: float) -> None:
        given.append(seconds)
        real(encoded, seconds=min(seconds, world.store.seconds))

    with behind_a_call(world, ["u1"]) as (busy, outcomes), ThreadPoolExecutor(2) as pool:
        world.store.record = record  # type: ignore[method-assign]
        for number, seconds in ((2, 600.0), (3, 30.0)):
            world.store.seconds = seconds
            outcomes.append(pool.submit(world.log.store, session(number)))
            until(lambda wanted=number: busy.waiting == wanted)  # type: ignore[misc]  # bound by default
        busy.release()
        assert {each.result() for each in outcomes} == {Outcome.STORED}
    assert len(given) == 1
    assert 500.0 < given[0] <= 600.0
