"""What do traces cost? ``python -m benchmarks.tracing --out FILE.json``.

A stack of real processes serves `Recommend` to one caller after the other: not traced, traced to a collector
that takes everything in, and with one trace in a hundred kept. What is held against each other is the
processor time that the three services spend on a list: waiting for a busy machine is no part of it. Rounds
alternate, so that whatever else the machine does falls on all alike; a figure is the median over rounds.
What a list costs each service is a figure too ("off"); the catalogue is small, and there is no release.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import grpc
import numpy as np
import psutil
import typer
from rich.console import Console

from benchmarks.report import Better, Out, Target, about, targets_table, write_report
from matchloop.ranking.v1.ranking_service_pb2 import RecommendRequest
from matchloop.usecase import load_use_cases
from playground.load import load_market
from playground.market import Market
from playground.market.generated import Sizes
from playground.stack import Ports, Stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

USE_CASE = "developer_startup"
SETTINGS = {"off": None, "share 1": "1.0", "share 0.01": "0.01"}
BOUNDS = {"share 1": 1.6, "share 0.01": 1.25}
"""Processor time of a list, traced over not traced."""
WARM_UP = 100
ENDPOINT, SHARE = "MATCHLOOP_TRACING_ENDPOINT", "MATCHLOOP_TRACING_SHARE"

console = Console()


@dataclass(frozen=True, slots=True)
class Round:
    """One round: milliseconds of processor time a list, by service too, and of the caller's waiting."""

    processor: float
    feedback: float
    candidate: float
    ranking: float
    p50: float
    p95: float


class _Sink(grpc.GenericRpcHandler):
    """Answers every call with an empty message: a collector that loses everything."""

    def service(self, _details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")


def _collect(told: Connection) -> None:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[_Sink()])
    told.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()


@contextmanager
def collector() -> Iterator[str]:
    """Run a sink as a process of its own; gives its endpoint."""
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=_collect, args=(its,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{mine.recv()}"
    finally:
        process.terminate()
        process.join()


def spent(stack: Stack) -> NDArray[np.float64]:
    """Return the seconds of processor time that each service has used: (3,), as `Round` has them."""
    services = (stack.feedback, stack.candidate, stack.ranking)
    times = [psutil.Process(service.pid).cpu_times() for service in services if service is not None]
    return np.array([each.user + each.system for each in times])


def measure(stack: Stack, subjects: list[str], lists: int) -> Round:
    """Ask for lists, one after the other."""
    waited = []
    with stack.clients() as clients:

        def ask(number: int) -> float:
            request = RecommendRequest(
                use_case=USE_CASE, subject_id=subjects[number % len(subjects)], count=10
            )
            began = time.perf_counter()
            clients.ranking.Recommend(request, timeout=10)
            return time.perf_counter() - began

        for number in range(WARM_UP):
            ask(number)
        before = spent(stack)
        waited = [ask(number) for number in range(lists)]
        each = (spent(stack) - before) * 1000.0 / lists
    p50, p95 = np.quantile(waited, (0.5, 0.95)) * 1000.0
    feedback, candidate, ranking = map(float, each)
    return Round(float(each.sum()), feedback, candidate, ranking, float(p50), float(p95))


def round_of(folder: Path, market: Market, share: str | None, endpoint: str, lists: int) -> Round:
    """Start a stack with these settings, fill it, measure it."""
    for name in (ENDPOINT, SHARE):
        os.environ.pop(name, None)
    if share is not None:
        os.environ |= {ENDPOINT: endpoint, SHARE: share}
    with Stack(folder, ports=Ports.free()) as stack:
        with stack.clients() as clients:
            load_market(clients, market, np.random.default_rng(5), Console(quiet=True))
        return measure(stack, list(market.direction(USE_CASE).subject_ids), lists)


def targets_of(rounds: dict[str, list[Round]]) -> list[Target]:
    """Hold each setting against the round of "off" that it alternated with."""
    found = []
    for name, bound in BOUNDS.items():
        ratios = [
            traced.processor / off.processor
            for traced, off in zip(rounds.get(name, ()), rounds["off"], strict=False)
        ]
        if ratios:
            label = f"processor_{name.replace(' ', '_')}_vs_off"
            middle = float(np.median(ratios))
            found.append(Target(label, middle, bound, Better.LOWER, min(ratios), max(ratios)))
    return found


def main(
    out: Out = None,
    lists: Annotated[int, typer.Option(min=50, help="Lists a round.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only these of: {', '.join(SETTINGS)}; may be repeated.")
    ] = None,
) -> None:
    """Measure lists with and without traces."""
    told = about()
    found: dict[str, list[Round]] = {name: [] for name in only or SETTINGS}
    sizes = Sizes(developers=200, investors=5, startups=400)
    market = Market.generated(load_use_cases(), seed=5, now=datetime.now(UTC), sizes=sizes).only((USE_CASE,))
    with collector() as endpoint:
        for number in range(rounds):
            for name in (*found, *found)[number % len(found) :][: len(found)]:  # each is first at times
                with tempfile.TemporaryDirectory() as folder:
                    made = round_of(Path(folder), market, SETTINGS[name], endpoint, lists)
                found[name].append(made)
                console.print(
                    f"round {number + 1}, {name}: {made.processor:.2f} ms of processor time a list, "
                    f"answered in {made.p50:.1f} ms (p50), {made.p95:.1f} ms (p95)"
                )
    figures = {
        name: {
            field: round(float(np.median([getattr(each, field) for each in of])), 3)
            for field in Round.__slots__
        }
        for name, of in found.items()
    }
    targets = targets_of(found) if "off" in found else []
    write_report(out, told, figures, targets)
    console.print(json.dumps(figures))
    if targets:
        console.print(targets_table("what traces cost", targets))


if __name__ == "__main__":
    typer.run(main)
