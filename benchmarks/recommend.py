"""How fast is a list, from call to answer? ``python -m benchmarks.recommend --out FILE.json``.

PostgreSQL, feedback_svc, candidate_svc and ranking_svc as processes, and beside them a server that is built
like theirs and answers with nothing (no-op). The catalogue is made up (100 000 films); the release, with
networks of the real size, untrained, and a ranker, comes from an MLflow registry. Lists of ten are asked for
500 subjects of each tier and for strangers (one in ten), in an order by chance; every list's session is
stored before it is answered.

Closed loop: 1, 4 and 16 clients, each asking again when it is answered; the real servers and the no-op take
turns, round by round. Open loop: requests at half of what the closed loop came to, sent by the clock; a
request's time counts from when it should have been sent. Then `--requests` more, to see whether memory grows;
what is compared is what is no file's and nobody else's, after a tenth of them and after all. Calls that do
more and more of a list's work say where its time goes.

`--processes 2` adds the same with two processes of each service, calls going round: 16 clients, beside one
process of each, with processor seconds. A full run takes about 25 minutes; `--requests 5000` about 4, the
first filling of the store included (a minute); `--folder` keeps store and release for more runs.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.process_usage import memory_mb, own_memory_mb, processor_seconds
from benchmarks.recommend_load import Load, Run
from benchmarks.recommend_stages import stages_ms
from benchmarks.recommend_world import prepare, requests, serving
from benchmarks.report import Better, Out, Target, about, targets_table, write_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.recommend_world import Serving

CLIENTS = (1, 4, 16)
MEMORY_CLIENTS = 4
SERVICES = ("feedback_svc", "candidate_svc", "ranking_svc")
WARM_UP = 2000
"""Lists before the first that counts: every subject's once, so that no round meets a cold start."""
PAGE_BYTES = 8192

console = Console()


class Measured:
    """Runs of one kind, with what the processes spent on them."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.spent: dict[str, float] = defaultdict(float)

    def take(self, served: Serving, load: Callable[[], Run]) -> Run:
        """Measure one more run."""
        before = processor_seconds(served.pids)
        run = load()
        for name, seconds in processor_seconds(served.pids).items():
            self.spent[name] += seconds - before[name]
        self.runs.append(run)
        return run

    def figures(self) -> dict[str, Any]:
        """Return medians over the runs, and processor seconds of a thousand answers by process."""
        answered = sum(run.requests for run in self.runs)
        seen = sum((run.seen for run in self.runs), type(self.runs[0].seen)())
        return {
            "answered": answered,
            "rate": round(median(run.rate for run in self.runs), 1),
            **{
                f"p{round(quantile * 100)}_ms": round(median(run.ms(quantile) for run in self.runs), 3)
                for quantile in (0.5, 0.95, 0.99)
            },
            "processor_s_per_1000": {
                name: round(seconds / answered * 1e3, 3) for name, seconds in self.spent.items()
            },
            "seen": dict(seen),
        }


def closed_rounds(
    served: Serving, rounds: int, seconds: float, progress: Progress
) -> dict[str, dict[int, Measured]]:
    """Measure every number of clients in each round, the no-op beside the real thing."""
    asked = requests(np.random.default_rng(1))
    loads = {"noop": Load(served.noop, asked), "recommend": Load(served.ranking, asked)}
    loads["recommend"].closed(MEMORY_CLIENTS, requests=WARM_UP)
    found = {name: {clients: Measured() for clients in CLIENTS} for name in loads}
    task = progress.add_task("closed loop", total=rounds * len(CLIENTS) * len(loads))
    for _ in range(rounds):
        for clients in CLIENTS:
            for name, load in loads.items():
                span = seconds / 2 if name == "noop" else seconds
                found[name][clients].take(served, partial(load.closed, clients, seconds=span))
                progress.advance(task)
    return found


def open_rounds(served: Serving, rate: float, rounds: int, seconds: float, progress: Progress) -> Measured:
    """Measure the open loop at a rate."""
    load, found = Load(served.ranking, requests(np.random.default_rng(2))), Measured()
    for _ in progress.track(range(rounds), description=f"open loop at {rate:.0f}/s"):
        found.take(served, lambda: load.open(rate, seconds))
    return found


def memory_over(served: Serving, number: int, progress: Progress) -> dict[str, list[float]]:
    """Return by process its own memory after each tenth of so many requests, 10^6 bytes."""
    load = Load(served.ranking, requests(np.random.default_rng(3)))
    found: dict[str, list[float]] = defaultdict(list)
    for _ in progress.track(range(10), description=f"{number:,} requests"):
        load.closed(MEMORY_CLIENTS, requests=number // 10)
        for name, size in own_memory_mb(served.pids).items():
            found[name].append(size)
    return found


def durable_write_ms(folder: Path, writes: int = 200) -> float:
    """Return the median of what a page takes to be on the disk: every list waits for one such write."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(writes * PAGE_BYTES))
        os.fsync(file.fileno())
        taken = []
        for at in range(writes):
            begin = time.perf_counter()
            os.pwrite(file.fileno(), bytes(PAGE_BYTES), at * PAGE_BYTES)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - begin)
    return round(median(taken) * 1e3, 3)


def two_processes(folder: Path, registry: str, processes: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Return rate and processor seconds with more processes of each service; the busiest load."""
    with serving(folder, registry, processes) as served:
        load, found = Load(served.ranking, requests(np.random.default_rng(1))), Measured()
        load.closed(MEMORY_CLIENTS, requests=WARM_UP)
        for _ in range(rounds):
            found.take(served, lambda: load.closed(CLIENTS[-1], seconds=seconds))
    return found.figures()


def best(measured: dict[int, Measured], clients: Sequence[int], of: Callable[[Run], float]) -> list[float]:
    """Return each round's greatest figure over numbers of clients."""
    rounds = zip(*(measured[each].runs for each in clients), strict=True)
    return [max(map(of, runs)) for runs in rounds]


def targets_of(
    closed: dict[str, dict[int, Measured]], opened: Measured, memory: dict[str, list[float]]
) -> list[Target]:
    """Return the targets: medians, least and greatest over the rounds."""

    def target(name: str, values: Sequence[float], bound: float, better: Better) -> Target:
        return Target(name, median(values), bound, better, min(values), max(values))

    def ratios(clients: Sequence[int], of: Callable[[Run], float]) -> list[float]:
        own, other = (best(closed[name], clients, of) for name in ("recommend", "noop"))
        return [a / b for a, b in zip(own, other, strict=True)]

    grown = [memory[name][-1] / memory[name][0] for name in SERVICES]
    return [
        target("p50_vs_noop", ratios(CLIENTS[:1], lambda run: run.ms(0.5)), 8, Better.LOWER),
        target("p99_vs_p50_at_half", [run.ms(0.99) / run.ms(0.5) for run in opened.runs], 4, Better.LOWER),
        target("saturation_vs_noop", ratios(CLIENTS, lambda run: run.rate), 0.1, Better.HIGHER),
        Target("memory_growth", max(grown), 1.05, Better.LOWER, min(grown), max(grown)),
    ]


def loads_table(figures: dict[str, Any]) -> Table:
    """Return what each load came to, for people."""
    names = ("postgres", *SERVICES)
    short = (name.removesuffix("_svc") for name in names)
    table = Table(
        "load", "a second", "p50 ms", "p95", "p99", *short, title="and processor seconds of 1000 lists"
    )
    for name, each in figures.items():
        quantiles = (f"{each[f'p{q}_ms']:.2f}" for q in (50, 95, 99))
        spent = (f"{each['processor_s_per_1000'][process]:.2f}" for process in names)
        table.add_row(name, f"{each['rate']:,.0f}", *quantiles, *spent)
    return table


def main(
    out: Out = None,
    items: Annotated[int, typer.Option(min=1000)] = 100_000,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of a closed loop in a round.")] = 4.0,
    requests_: Annotated[int, typer.Option("--requests", min=1000, help="For memory's growth.")] = 100_000,
    processes: Annotated[int, typer.Option(min=1, help="Of each service, besides one.")] = 1,
    folder: Annotated[Path | None, typer.Option(help="Folder that stays; a new one, which goes.")] = None,
) -> None:
    """Measure, print, write."""
    told = about()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        at = folder or Path(tempfile.mkdtemp(prefix="recommend-"))
        at.mkdir(parents=True, exist_ok=True)
        at.chmod(0o755)  # PostgreSQL may run as another user
        if folder is None:
            stack.callback(shutil.rmtree, at, ignore_errors=True)
        progress = stack.enter_context(Progress(*columns, console=console))
        registry = prepare(at, items, progress)
        with serving(at, registry) as served:
            closed = closed_rounds(served, rounds, seconds, progress)
            rates = [
                max(each[n].runs[r].rate for n in CLIENTS)
                for r in range(rounds)
                for each in (closed["recommend"],)
            ]
            opened = open_rounds(served, median(rates) / 2, rounds, 2 * seconds, progress)
            stages = stages_ms(served, requests(np.random.default_rng(5)), 2 * rounds, progress)
            durable = durable_write_ms(at)
            memory = memory_over(served, requests_, progress)
            shares = memory_mb(served.pids)
        more = two_processes(at, registry, processes, rounds, seconds) if processes > 1 else None
    loads = {
        f"{name}, {clients}": each.figures()
        for name, by_clients in closed.items()
        for clients, each in by_clients.items()
    }
    loads["open loop at half"] = opened.figures()
    if more is not None:
        loads[f"{processes} processes each, {CLIENTS[-1]}"] = more
    targets = targets_of(closed, opened, memory)
    figures = {
        "items": items,
        "loads": loads,
        "stages_ms": stages,
        "durable_write_ms": durable,
        "memory_mb": shares,
        "own_memory_mb_by_tenth": {name: memory[name] for name in memory},
        "requests_for_memory": requests_,
    }
    write_report(out, told, figures, targets)
    console.print(loads_table(loads))
    console.print(f"ms of a call that does so much of a list's work: {stages}")
    console.print(f"memory, 10^6 bytes: {shares}; a page is on the disk after {durable} ms")
    console.print(targets_table(f"recommend, {items:,} items", targets))


if __name__ == "__main__":
    typer.run(main)
