"""One whole stack for these tests: PostgreSQL and the three services as processes, with a small catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.fault_world import fault_environment
from matchloop.usecase import load_use_cases
from playground.clients import Clients
from playground.load import load_entities
from playground.market import Market
from playground.market.generated import Sizes
from playground.stack import Ports, Stack
from tests.e2e.waiting import until_recommended
from tests.feedback_worlds import open_folder

USE_CASE = "developer_startup"


@pytest.fixture(scope="session")
def market() -> Market:
    return Market.generated(
        load_use_cases(),
        seed=3,
        now=datetime.now(UTC),
        sizes=Sizes(developers=40, investors=5, startups=60),
    )


@pytest.fixture(scope="session")
def shared_folder() -> Iterator[Path]:
    """Of the stack that tests share; who uses it has its turn last (tests/conftest.py)."""
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def stack(market: Market, shared_folder: Path) -> Iterator[Stack]:
    with fault_environment(), Stack(shared_folder, ports=Ports.free(), poll_seconds=0.5) as running:
        with running.clients() as clients:
            for entities in market.only((USE_CASE,)).entities.values():
                load_entities(clients, entities)
            until_recommended(clients, USE_CASE, market.direction(USE_CASE).subject_ids[0])
        yield running


@pytest.fixture(scope="session")
def clients(stack: Stack) -> Iterator[Clients]:
    with stack.clients() as open_clients:
        yield open_clients
