"""Nobody has to start first; `benchmarks.start_orders` tries every order."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from benchmarks.start_orders import USE_CASE, start_in, until_whole
from matchloop.usecase import load_use_cases
from playground.load import load_entities
from playground.market import Market
from playground.market.generated import Sizes
from playground.stack import Ports, Stack
from tests.feedback_worlds import open_folder

pytestmark = pytest.mark.processes

SERVICES = ("ranking_svc", "candidate_svc", "feedback_svc")


def test_services_may_start_before_each_other_and_before_the_database() -> None:
    sizes = Sizes(developers=5, investors=2, startups=20)
    market = Market.generated(load_use_cases(), seed=3, now=datetime.now(UTC), sizes=sizes)
    with open_folder() as folder:
        stack = Stack(folder, ports=Ports.free(), poll_seconds=0.2)
        try:
            start_in(stack, SERVICES, ["PostgreSQL"])
            with stack.clients() as clients:
                for entities in market.only((USE_CASE,)).entities.values():
                    load_entities(clients, entities)
                until_whole(clients, market.direction(USE_CASE).subject_ids[0])
        finally:
            assert set(stack.stop().values()) == {0}
