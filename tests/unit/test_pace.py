"""Rates by client against a model: a bucket that fills."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matchloop.rpc import pace
from matchloop.rpc.pace import Pace

STEPS = st.lists(st.tuples(st.integers(0, 40), st.sampled_from("ab")), max_size=80)


@given(steps=STEPS, rate=st.sampled_from([0.5, 1.0, 8.0]), burst=st.integers(1, 5))
def test_it_takes_what_a_bucket_holds(steps: list[tuple[int, str]], rate: float, burst: int) -> None:
    now = 100.0
    paced = Pace(lambda: now)
    full = float(burst)
    left, at = dict.fromkeys("ab", full), dict.fromkeys("ab", now)
    for sixteenths, client in steps:
        now += sixteenths / 16  # exact in binary: the model and the clock agree
        left[client] = min(full, left[client] + (now - at[client]) * rate)
        at[client] = now
        wait = paced.take(client, rate, burst)
        if left[client] >= 1.0 - 1e-9:
            assert wait == 0.0
            left[client] -= 1.0
        else:
            assert wait == pytest.approx((1.0 - left[client]) / rate)


def test_a_call_after_the_wait_it_was_told_is_taken() -> None:
    now = 0.0
    paced = Pace(lambda: now)
    for _ in range(200):
        wait = paced.take("client", 3.0, 2)
        if wait:
            now += wait
            assert paced.take("client", 3.0, 2) == 0.0


def test_many_clients_take_bounded_room_and_those_who_wait_are_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "MAX_CLIENTS", 100)
    now = 0.0
    paced = Pace(lambda: now)
    for _ in range(50):
        paced.take("busy", 1.0, 50)
    for number in range(1000):
        paced.take(f"address-{number}", 1.0, 1)
        assert len(paced._due) <= 100
    assert paced.take("busy", 1.0, 50) > 0.0
