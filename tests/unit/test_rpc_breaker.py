"""The circuit opens after timeouts in a row, lets one call through at a time, and closes with any answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from matchloop.errors import DeadlinePassed, Overloaded, Unavailable
from matchloop.observe.metrics import Metrics
from matchloop.rpc.breaker import LEAST_WAIT, PAUSE, TIMEOUTS, CircuitBreaker

WAITED = 2 * LEAST_WAIT


class Neighbour:
    """Fails as told, after so many seconds of a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits = WAITED
        self.fault: Exception | None = DeadlinePassed("too late")
        self.calls = 0
        self.metrics = Metrics()
        self.breaker = CircuitBreaker("neighbour", self.metrics, clock=lambda: self.now)

    def answer(self) -> str:
        self.calls += 1
        self.now += self.waits
        if self.fault:
            raise self.fault
        return "here"

    def call(self) -> str:
        return self.breaker.call(self.answer)

    def fail(self, times: int) -> None:
        assert self.fault is not None
        for _ in range(times):
            with pytest.raises(type(self.fault)):
                self.call()

    @property
    def shown(self) -> float:
        return self.metrics.value("matchloop_circuit_open", upstream="neighbour")


@pytest.fixture
def neighbour() -> Neighbour:
    return Neighbour()


def held(neighbour: Neighbour, meanwhile: Callable[[], None]) -> str:
    """Do something while a call is under way."""
    entered, gate = threading.Event(), threading.Event()

    def wait() -> str:
        entered.set()
        assert gate.wait(10)
        return "here"

    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(neighbour.breaker.call, wait)
        assert entered.wait(10)
        meanwhile()
        gate.set()
        return probe.result(10)


def test_open_it_lets_one_call_through_and_closes_with_its_answer(neighbour: Neighbour) -> None:
    neighbour.fail(TIMEOUTS)
    assert (neighbour.breaker.open, neighbour.shown) == (True, 1.0)
    neighbour.fault = None
    neighbour.now += PAUSE

    def refused() -> None:
        with pytest.raises(Unavailable, match="neighbour does not answer"):
            neighbour.call()

    assert held(neighbour, refused) == "here"
    assert neighbour.calls == TIMEOUTS
    assert (neighbour.breaker.open, neighbour.shown) == (False, 0.0)
    assert held(neighbour, lambda: None) == "here"
    assert neighbour.call() == "here"


def test_a_probe_that_fails_leaves_it_open_and_the_next_is_not_made_at_once(neighbour: Neighbour) -> None:
    neighbour.fail(TIMEOUTS)
    for probes in (1, 2):
        with pytest.raises(Unavailable):
            neighbour.call()
        neighbour.now += PAUSE
        neighbour.fail(1)
        assert neighbour.calls == TIMEOUTS + probes
    assert neighbour.breaker.open


@pytest.mark.parametrize("fault", [None, Overloaded("full"), Unavailable("refused"), ValueError("a bug")])
def test_any_answer_starts_the_count_anew(neighbour: Neighbour, fault: Exception | None) -> None:
    neighbour.fail(TIMEOUTS - 1)
    neighbour.fault = fault
    if fault is None:
        neighbour.call()
    else:
        neighbour.fail(1)
    neighbour.fault = DeadlinePassed("too late")
    neighbour.fail(TIMEOUTS - 1)
    assert not neighbour.breaker.open
    neighbour.fail(1)
    assert neighbour.breaker.open


def test_callers_in_a_hurry_do_not_open_it(neighbour: Neighbour) -> None:
    neighbour.waits = LEAST_WAIT / 2
    neighbour.fail(10 * TIMEOUTS)
    assert not neighbour.breaker.open
