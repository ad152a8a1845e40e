"""The failure table, row by row, on real processes under load; `benchmarks.faults` takes longer looks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fault_kinds import hung
from benchmarks.fault_rows import ROWS, Row
from benchmarks.fault_world import World, fault_world
from benchmarks.faults import measure
from matchloop.ranking.v1.ranking_service_pb2 import RecommendRequest
from matchloop.usecase import load_use_cases
from playground.load import event_message, record_in_batches
from playground.market import Market
from playground.stack import Stack
from tests.e2e.conftest import USE_CASE

pytestmark = pytest.mark.processes

SECONDS = 1.0
RATE = 15.0
MOST_HEAPS = 3
"""A process shares two among its threads; one it may have had before. Left alone it has a dozen."""
IN_A_HURRY = 1.0


@pytest.fixture(scope="module")
def world(stack: Stack, market: Market) -> Iterator[World]:
    direction = market.direction(USE_CASE)
    history = market.only((USE_CASE,)).history(np.random.default_rng(3))
    with stack.clients() as clients:
        record_in_batches(clients, [event_message(each) for each in history], lambda _: None)
    with fault_world(
        stack, load_use_cases()[USE_CASE], subjects=direction.subject_ids, items=direction.item_ids
    ) as made:
        yield made


@pytest.mark.parametrize("row", [row for row in ROWS if not row.long], ids=lambda row: row.fails)
def test_the_failure_table(world: World, row: Row) -> None:
    figures = measure(world, row, seconds=SECONDS, rate=RATE)
    assert figures.faults(row) == []
    assert figures.sessions > 0
    assert figures.reactions > 0


@pytest.mark.parametrize("service", ["candidate", "feedback"])
def test_callers_in_a_hurry_are_answered_while_a_service_hangs(world: World, service: str) -> None:
    request = RecommendRequest(use_case=USE_CASE, subject_id=world.subjects[1], count=10)
    with world.clients() as clients:
        assert not clients.ranking.Recommend(request, timeout=5.0).degraded
        with hung(getattr(world, service).pid):
            for _ in range(3):
                assert clients.ranking.Recommend(request, timeout=IN_A_HURRY).degraded


@pytest.mark.skipif(sys.platform != "linux", reason="heaps are told by /proc")
@pytest.mark.parametrize("service", ["candidate", "feedback", "ranking"])
def test_threads_share_heaps_in_every_service(world: World, service: str) -> None:
    maps = Path(f"/proc/{getattr(world, service).pid}/maps").read_text(encoding="utf-8").splitlines()
    starts = [int(line.split("-")[0], 16) for line in maps if " rw-p 00000000 00:00 0" in line]
    assert sum(start % 2**26 == 0 for start in starts) <= MOST_HEAPS
