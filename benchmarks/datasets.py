"""How long data sets take to build, over the same queries written by hand, and how much memory.

``python -m benchmarks.datasets --out FILE.json [--interactions 10000000] [--turns 3] [--folder FOLDER]``

A made-up record of developers and startups is written into a snapshot: a list for every ten interactions, a
subject for every fifty, an item for every hundred. From it each data set is built with the default preset as
``python -m training_jobs datasets`` does, from the Parquet files to the arrays that are trained on, their
counts and their hash: `*_vs_duckdb` is its time over that of the SQL in `benchmarks.datasets_sql`, which
gives the same rows as an Arrow table, DuckDB having two threads in both. They take turns, each in a process
of its own that has opened the snapshot. `peak_gb` is the most memory of a process that opens the snapshot,
builds all three and writes them as files.

A full run takes about fifteen minutes, two of them for the record; `--folder` keeps that for more runs.
"""

from __future__ import annotations

import resource
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.datasets_sql import ByHand
from benchmarks.datasets_world import USE_CASE, Size, record_of
from benchmarks.folders import Folder, data_folder
from benchmarks.report import Better, Out, Target, about, targets_table, write_report
from matchloop.snapshot import read_snapshot
from matchloop.usecase import load_use_cases
from training_jobs.build import als_of, build_datasets, pairs_of, ranker_of
from training_jobs.config import load_config
from training_jobs.material import Material

if TYPE_CHECKING:
    from collections.abc import Callable

FULL = 10_000_000
VS_DUCKDB, PEAK_GB = 1.5, 6.0
BUILDS: dict[str, Callable[..., Any]] = {"als": als_of, "two_tower": pairs_of, "ranker": ranker_of}
GIB = 2**30

console = Console()


def size_of(interactions: int) -> Size:
    """Return a record's size by its interactions."""
    return Size(
        interactions, max(interactions // 10, 1), max(interactions // 50, 100), max(interactions // 100, 100)
    )


def ours(folder: Path, name: str) -> dict[str, float]:
    """Build one data set."""
    material = material_of(folder)
    config = load_config("default")
    return _timed(lambda: BUILDS[name](material, config))


def by_hand(folder: Path, name: str) -> dict[str, float]:
    """Run the query that was written by hand."""
    return _timed(getattr(ByHand.of(read_snapshot(folder)), name))


def job(folder: Path, name: str) -> dict[str, float]:
    """Do all that the command does, into a folder of this name beside the snapshot."""
    out = folder.with_name(name)

    def whole() -> None:
        material = material_of(folder)
        build_datasets(material, load_config("default")).write(out, material)

    try:
        return _timed(whole)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def material_of(folder: Path) -> Material:
    """Open a record as training does."""
    share = load_config("default").dataset.validation_share
    return Material(read_snapshot(folder), load_use_cases()[USE_CASE], validation_share=share)


def _timed(work: Callable[[], object]) -> dict[str, float]:
    begin, used = time.perf_counter(), time.process_time()
    result = work()
    seconds, processor = time.perf_counter() - begin, time.process_time() - used
    del result
    return {"s": round(seconds, 2), "processor_s": round(processor, 2), "peak_gb": round(peak_gb(), 2)}


def peak_gb() -> float:
    """Return the most memory this process ever held, in 2^30 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def apart(work: Callable[..., dict[str, float]], *args: object) -> dict[str, float]:
    """Run in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *args).result()


def measure(
    folder: Path, turns: int, advance: Callable[[str], object]
) -> tuple[dict[str, Any], list[Target]]:
    """Let both sides take turns, who begins too; return figures and targets."""
    figures: dict[str, Any] = {}
    targets = []
    for name in BUILDS:
        sides: dict[str, list[dict[str, float]]] = {"ours": [], "by_hand": []}
        for turn in range(turns):
            order: list[Callable[..., dict[str, float]]] = [ours, by_hand]
            for side in order if turn % 2 == 0 else reversed(order):
                advance(f"{name} {side.__name__}")
                sides[side.__name__].append(apart(side, folder, name))
        figures[name] = {
            side: {key: round(median(turn[key] for turn in found), 2) for key in found[0]}
            for side, found in sides.items()
        }
        pairs = list(zip(sides["ours"], sides["by_hand"], strict=True))
        figures[name]["processor_ratio"] = round(
            median(o["processor_s"] / h["processor_s"] for o, h in pairs), 2
        )
        ratios = [own["s"] / hand["s"] for own, hand in pairs]
        targets.append(
            Target(f"{name}_vs_duckdb", median(ratios), VS_DUCKDB, Better.LOWER, min(ratios), max(ratios))
        )
    advance("job")
    figures["job"] = found = apart(job, folder, "built")
    peak = found["peak_gb"]
    return figures, [*targets, Target("peak_gb", peak, PEAK_GB, Better.LOWER, peak, peak)]


def main(
    out: Out = None,
    interactions: Annotated[int, typer.Option(min=1000, help="Size of the record.")] = FULL,
    turns: Annotated[int, typer.Option(min=1, max=20, help="Repeats of every build.")] = 3,
    folder: Folder = None,
) -> None:
    """Measure, print, write."""
    told = about()
    size = size_of(interactions)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        at = stack.enter_context(data_folder(folder))
        progress = stack.enter_context(Progress(*columns, console=console))
        drawing = progress.add_task("record", total=interactions)
        record = at / f"record-{interactions}"
        record_of(record, size, lambda more: progress.advance(drawing, more))
        progress.update(drawing, completed=interactions)
        building = progress.add_task("", total=len(BUILDS) * 2 * turns + 1)

        def advance(what: str) -> None:
            progress.update(building, advance=1, description=what)

        figures, targets = measure(record, turns, advance)
    console.print(targets_table(f"data sets, {interactions:,} interactions", targets))
    console.print_json(data=figures)
    write_report(out, told, {"size": asdict(size), **figures}, targets)


if __name__ == "__main__":
    typer.run(main)
