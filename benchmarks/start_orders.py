"""Does it matter who starts first? ``python -m benchmarks.start_orders --out FILE.json``.

PostgreSQL and the three services are started in every order, each as soon as the one before listens, whether
or not what it needs is there. The figure is the time from the last start to the first whole list.
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import grpc
import numpy as np
import typer
from rich.console import Console

from benchmarks.fault_world import until
from benchmarks.report import Better, Out, Target, about, targets_table, write_report
from matchloop.ranking.v1.ranking_service_pb2 import RecommendRequest
from matchloop.usecase import load_use_cases
from playground.load import load_market
from playground.market import Market
from playground.processes import port_in_use
from playground.stack import PARTS, Ports, Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playground.clients import Clients

USE_CASE = "developer_startup"
ORDERS = tuple(permutations(PARTS))
BOUND = 30.0
"""Seconds from the last start to a whole list; a process takes some of them to import."""

console = Console()


def start_in(stack: Stack, *groups: Sequence[str]) -> None:
    """Start the parts of a stack group by group, the next as soon as all of the one before listen."""
    for group in groups:
        for part in group:
            stack.start_part(part)
            if part == "PostgreSQL":
                stack.migrate()
        services = [part for part in group if part != "PostgreSQL"]
        for port in map(stack.port_of, services):
            until(lambda port=port: port_in_use(port), f"{services} listen")  # type: ignore[misc]


def until_whole(clients: Clients, subject: str) -> None:
    """Wait for a list of ten that nothing is missing from, and that was stored."""
    request = RecommendRequest(use_case=USE_CASE, subject_id=subject, count=10)

    def whole() -> bool:
        try:
            reply = clients.ranking.Recommend(request, timeout=5.0)
        except grpc.RpcError:
            return False
        return len(reply.items) == 10 and not reply.degraded

    until(whole, "a whole list")


def main(
    out: Out = None,
    orders: Annotated[int, typer.Option(min=1, help="So many, spread over all of them.")] = len(ORDERS),
) -> None:
    """Measure, print, write."""
    told = about()
    market = Market.generated(load_use_cases(), seed=7, now=datetime.now(UTC)).only((USE_CASE,))
    subject = market.direction(USE_CASE).subject_ids[0]
    took: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="orders-") as scratch:
        Path(scratch).chmod(0o755)
        stack = Stack(Path(scratch) / "stack", ports=Ports.free(), poll_seconds=0.5)
        with stack, stack.clients() as clients:
            load_market(clients, market, np.random.default_rng(7), console)
        for order in ORDERS[:: max(1, len(ORDERS) // orders)]:
            try:
                start_in(stack, *([part] for part in order))
                began = time.monotonic()
                with stack.clients() as clients:
                    until_whole(clients, subject)
                took[", ".join(order)] = time.monotonic() - began
                console.print(f"{took[', '.join(order)]:.1f} s: {', '.join(order)}")
            finally:
                stack.stop()
    seconds = list(took.values())
    target = Target(
        "whole_after_last_start_seconds", max(seconds), BOUND, Better.LOWER, min(seconds), max(seconds)
    )
    console.print(targets_table("start orders", [target]))
    write_report(out, told, {"seconds": took}, [target])


if __name__ == "__main__":
    typer.run(main)
