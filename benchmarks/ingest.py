"""How fast the record takes what happens, and whether it slows down as it grows.

``python -m benchmarks.ingest --out FILE.json [--rows 5000000]``

Embedded PostgreSQL with the settings it ships with, and two feedback_svc processes on it: one on a database
that holds nothing but the two subjects asked about, one on a database that holds `--rows` reactions. Rounds
go through both in turn, so that what else the machine does falls on both alike; a figure is the median of the
rounds. Beside each stands a bare COPY of the same rows, and an empty unary call (health) of the same server.

The full database is filled by the store's own writes, on two connections: the same tables, counts and
indexes, in the shape that growing gives them, which COPY and building indexes afterwards would not give.
Requests are built before the clock starts; a call is over when its reply is decoded. One call at a time.

Targets are of the empty database, as a new installation is; ``at_5m_vs_empty`` is the worst of all ratios
between the two, and the call of each subject's state over the empty call is among them.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.folders import Folder, data_folder
from benchmarks.ingest_side import ROUND_BATCHES, Side, Timings
from benchmarks.reactions import BATCH, USE_CASE, Market
from benchmarks.report import Better, Out, Target, about, targets_table, write_report
from feedback_svc.convert.shared import Schema
from feedback_svc.migrate import migrate
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from matchloop.usecase import load_use_cases
from playground.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Sequence

FILLERS = 2
FILLED_DAYS = 180
"""The time that the rows of the full database are spread over."""

console = Console()


def fill(url: str, rows: int, progress: Progress) -> float:
    """Bring a database to `rows` reactions; return the seconds it took."""
    database = Database(url, pool_size=FILLERS)
    store, facts = PostgresStore(database), Schema.of(load_use_cases()).facts[USE_CASE]
    stored = database.run(
        lambda connection: connection.exec_driver_sql(
            "SELECT coalesce(sum(interactions), 0)::bigint FROM subject_counts"
        ).scalar_one()
    )
    task = progress.add_task("filling", total=max(rows, stored), completed=stored)
    end, begin = datetime.now(UTC), time.perf_counter()

    def write(worker: int) -> None:
        market = Market(np.random.default_rng([stored, worker]))
        for start in range(stored + worker * BATCH, rows, FILLERS * BATCH):
            now = end - timedelta(days=FILLED_DAYS * (1 - start / rows))
            batch = market.batch(now, size=min(BATCH, rows - start))
            store.record_sessions(batch.sessions, now=now)
            store.record_interactions(
                batch.interactions, [facts[i.event_type] for i in batch.interactions], now=now
            )
            progress.advance(task, len(batch.interactions))

    try:
        with ThreadPoolExecutor(FILLERS) as pool:
            for done in [pool.submit(write, worker) for worker in range(FILLERS)]:
                done.result()
    finally:
        store.close()
    return time.perf_counter() - begin


def targets_of(empty: Timings, full: Timings, exported: Sequence[float], rows: int) -> list[Target]:
    """Return the targets: medians, least and greatest over the rounds."""
    worst = max(grown(empty, full).items(), key=lambda each: float(np.median(each[1])))[1]

    def target(name: str, values: Sequence[float], bound: float, better: Better) -> Target:
        return Target(name, float(np.median(values)), bound, better, min(values), max(values))

    return [
        target("batch_interactions_per_s", empty.batch_rate, 15_000, Better.HIGHER),
        target("single_vs_noop_p50", empty.ratio("single", "noop"), 6, Better.LOWER),
        target("state_10000_vs_10_p50", empty.ratio("state_10000", "state_10"), 3, Better.LOWER),
        target("at_5m_vs_empty", worst, 1.5, Better.LOWER),
        target("export_interactions_per_s", [rows / each for each in exported], 300_000, Better.HIGHER),
    ]


def grown(empty: Timings, full: Timings) -> dict[str, list[float]]:
    """Return by figure, for each round, how much worse it is on the full database: 1 is as good."""
    pairs = {"single": "noop", "state_10": "noop", "state_10000": "noop"}
    found = {
        "batch_interactions_per_s": [e / f for e, f in zip(empty.batch_rate, full.batch_rate, strict=True)]
    }
    for name, over in (*pairs.items(), ("state_10000", "state_10")):
        each = zip(empty.ratio(name, over), full.ratio(name, over), strict=True)
        found[f"{name}_vs_{over}_p50"] = [f / e for e, f in each]
    return found


def main(
    out: Out = None,
    rows: Annotated[int, typer.Option(min=10_000, help="Reactions in the full database.")] = 5_000_000,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Repeats of every measurement.")] = 7,
    exports: Annotated[int, typer.Option(min=1, max=20, help="Repeats of the export.")] = 3,
    folder: Folder = None,
) -> None:
    """Measure batches, single reactions, subject states and export, empty and full."""
    told = about()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        at = stack.enter_context(data_folder(folder))
        server = stack.enter_context(EmbeddedPostgres(at / "postgres"))
        progress = stack.enter_context(Progress(*columns, console=console))
        urls = [server.create_database(name) for name in (f"rows_{rows}", "nothing")]
        for url in urls:
            migrate(url)
        filling = fill(urls[0], rows, progress)
        full, empty = (
            stack.enter_context(Side.opened(url, Market(np.random.default_rng(n)), at / f"side-{n}.log"))
            for n, url in enumerate(urls)
        )
        full.settle()
        rounds_task = progress.add_task("rounds", total=rounds * 2)
        for number in range(rounds):
            empty.clear()
            for side in (empty, full) if number % 2 else (full, empty):
                side.round()
                progress.advance(rounds_task)
        exports_task = progress.add_task("exports", total=exports)
        stored = full.count()
        exported, copied = full.exports(exports, lambda: progress.advance(exports_task))
    targets = targets_of(empty.timings, full.timings, exported, stored)
    figures = {
        "rows": rows,
        "batches_a_round": ROUND_BATCHES,
        "rounds": rounds,
        "load_average_at_the_end": [round(load, 2) for load in os.getloadavg()],
        "fill_seconds": round(filling, 1),
        "empty": empty.timings.figures(),
        "full": full.timings.figures(),
        "grown": {
            name: round(float(np.median(each)), 3)
            for name, each in grown(empty.timings, full.timings).items()
        },
        "export_seconds": exported,
        "bare_copy_out_seconds": copied,
    }
    write_report(out, told, figures, targets)
    console.print(figures)
    console.print(targets_table(f"{rows:,} rows, load average {os.getloadavg()[0]:.1f}", targets))


if __name__ == "__main__":
    typer.run(main)
