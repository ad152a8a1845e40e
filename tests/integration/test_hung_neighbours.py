"""Neighbours that hang: an answer within the caller's time, and soon without waiting for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from matchloop.rpc.breaker import TIMEOUTS
from tests.integration.ranking_rig import Rig
from tests.ranking_world import until

IN_A_HURRY = 1.0
"""Seconds that a caller has."""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path, candidate_timeout_seconds=2.0, session_timeout_seconds=1.0) as rig:
        until(rig.popular.exists)
        yield rig


def test_with_every_neighbour_hung_callers_get_lists_in_time(rig: Rig) -> None:
    rig.candidates.gate.clear()
    rig.feedback.gate.clear()
    first = rig.recommend(most=IN_A_HURRY)
    assert set(first.degraded) == {"candidates", "feedback", "session_store"}
    assert first.session_id
    for _ in range(TIMEOUTS):
        assert rig.recommend(most=IN_A_HURRY).items
    rig.candidates.gate.set()
    rig.feedback.gate.set()
    until(lambda: not rig.recommend().degraded)
    assert first.session_id in rig.feedback.sessions


def test_a_store_that_hangs_leaves_time_to_spool(rig: Rig) -> None:
    rig.feedback.gate.clear()
    shown = rig.recommend(most=IN_A_HURRY)
    assert list(shown.degraded) == ["session_store"]
    assert shown.session_id
    rig.feedback.gate.set()
    until(lambda: shown.session_id in rig.feedback.sessions)


def test_a_neighbour_that_hangs_is_soon_not_waited_for(rig: Rig) -> None:
    rig.candidates.gate.clear()
    for _ in range(TIMEOUTS):
        assert list(rig.recommend(most=IN_A_HURRY).degraded) == ["candidates"]
    assert rig.value("circuit_open", upstream="candidate_svc") == 1.0
    began = time.monotonic()
    for _ in range(20):
        assert list(rig.recommend(most=IN_A_HURRY).degraded) == ["candidates"]
    assert time.monotonic() - began < 20 * IN_A_HURRY / 4
    rig.candidates.gate.set()
    until(lambda: not rig.recommend().degraded)
    assert rig.value("circuit_open", upstream="candidate_svc") == 0.0
