"""Delivery of what waits: in order, in batches, past what is refused, after any fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from matchloop.errors import Unavailable
from ranking_svc.domain import ListItem, Session
from ranking_svc.session_log import Outcome
from tests.ranking_world import MOVIE, NOW, World, until


def session(number: int, subject: str = "u1") -> Session:
    return Session(
        f"s{number}",
        MOVIE.id,
        subject,
        release="",
        arm="",
        tier=None,
        reranked=False,
        serve_time=NOW,
        feature_names=(),
        items=(ListItem("m1", 0.5, None),),
    )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, max_records=1000) as made:
        yield made


def test_batches_are_bounded_and_in_order(world: World) -> None:
    world.store.fault = Unavailable("away")
    outcomes = {world.log.store(session(i)) for i in range(250)}
    assert outcomes == {Outcome.SPOOLED}
    world.store.fault = None
    while world.log.deliver():
        pass
    assert world.store.batches == [100, 100, 50]
    assert world.store.arrivals == [f"s{i}" for i in range(250)]


def test_a_refused_session_does_not_hold_up_the_others(world: World) -> None:
    world.store.fault = Unavailable("away")
    for i in range(5):
        world.log.store(session(i, "bad" if i == 2 else "u1"))
    world.store.fault, world.store.poison = None, "bad"
    assert world.log.deliver() == 5
    assert world.store.arrivals == ["s0", "s1", "s3", "s4"]
    assert len(world.spool) == 0
    assert world.metrics.value("matchloop_spool_dropped_total") == 1


def test_the_thread_delivers_once_the_store_is_back(world: World) -> None:
    world.store.fault = Unavailable("away")
    world.log.start()
    for i in range(10):
        assert world.log.store(session(i)) is Outcome.SPOOLED
    world.store.fault = None
    until(lambda: len(world.store.arrivals) == 10)
    assert world.store.arrivals == [f"s{i}" for i in range(10)]
    until(lambda: len(world.spool) == 0)
    assert world.log.store(session(10)) is Outcome.STORED
    world.log.close()


def test_the_thread_outlives_a_bug(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.store.fault = Unavailable("away")
    world.log.store(session(1))
    world.store.fault = None
    real = world.store.record
    calls: list[int] = []

    def record(encoded: list[bytes], *, seconds: float) -> None:
        calls.append(len(encoded))
        if len(calls) < 3:
            raise ZeroDivisionError
        real(encoded, seconds=seconds)

    monkeypatch.setattr(world.store, "record", record)
    world.log.start()
    until(lambda: world.store.arrivals == ["s1"])
    world.log.close()


def test_close_tries_once_more_and_keeps_the_rest(world: World) -> None:
    world.store.fault = Unavailable("away")
    world.log.start()
    world.log.store(session(1))
    world.log.close()
    with World(world.folder, store=world.store) as again:
        world.store.fault = None
        assert again.log.deliver() == 1
        assert world.store.arrivals == ["s1"]


def test_a_disk_that_fails_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def append(payload: bytes) -> bool:
        raise OSError(28, "No space left on device")

    world.store.fault = Unavailable("away")
    monkeypatch.setattr(world.spool, "append", append)
    assert world.log.store(session(1)) is Outcome.LOST
    assert world.metrics.value("matchloop_spool_dropped_total") == 1
