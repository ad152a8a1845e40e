"""Run the benchmarks, one after the other: ``python -m benchmarks [--full] [NAME...]``.

Each is a process of its own with a limit on its time. Small, all of them are to take under ten minutes on two
cores; they say that everything works and roughly where it stands, and their results stay out of the
repository. In full they take some hours, and their results are what the README's table is made of.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.catalogue import BENCHMARKS, Size, by_name
from benchmarks.charts import plot_report
from benchmarks.report import target_cells
from benchmarks.running import Outcome, Places, Run, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.catalogue import Benchmark

RESULTS = Path(__file__).with_name("results")
console = Console(width=None if sys.stdout.isatty() else 120)


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Only these.")] = None,
    *,
    full: Annotated[bool, typer.Option("--full", help="At the size that targets are of.")] = False,
    datasets: Annotated[
        Path | None, typer.Option(help="Folder with ml100k, crunchbase2013, obd_men and coat.", exists=True)
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Folder for what full runs keep for the next ones.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Where results go; left out: benchmarks/results, small ones in small/."),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Tell what there is, and run nothing.")] = False,
) -> None:
    """Run benchmarks; exits with 1 when one of them did not end as it should."""
    unknown = set(names or ()) - by_name().keys()
    if unknown:
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(by_name())}")
    size = Size.FULL if full else Size.SMALL
    chosen = [each for each in BENCHMARKS if not names or each.name in names]
    if listed:
        console.print(catalogue_table(chosen))
        return
    places = Places(results or (RESULTS if full else RESULTS / size), datasets, keep)
    began, runs = time.monotonic(), list[Run]()
    try:
        for number, benchmark in enumerate(chosen, 1):
            runs.append(_one(benchmark, size, places, f"{number}/{len(chosen)}"))
    finally:
        console.print(summary(runs, size))
        console.print(f"{len(runs)} of {len(chosen)} in {_clock(time.monotonic() - began)}: {places.results}")
    raise typer.Exit(int(any(each.outcome in (Outcome.FAILED, Outcome.TOO_LONG) for each in runs)))


def _one(benchmark: Benchmark, size: Size, places: Places, place: str) -> Run:
    console.print(f"{place} {benchmark.name}, at most {_clock(benchmark.limit(size))}: {benchmark.asks}")
    with console.status(benchmark.name):
        found = _drawn(run(benchmark, size, places))
    met = sum(target.met for target in found.targets)
    told = [f"{found.outcome} in {_clock(found.seconds)}"]
    told += [f"{met} of {len(found.targets)} targets met"] if found.targets else []
    told += [found.detail] if found.detail else []
    console.print("  " + "; ".join(told), markup=False)
    return found


def _drawn(found: Run) -> Run:
    """Draw what a run left; what cannot be drawn is told, and keeps no other benchmark from running."""
    if found.report is not None:
        try:
            plot_report(found.report)
        except (KeyError, TypeError, ValueError) as error:
            return replace(found, outcome=Outcome.FAILED, detail=f"no plot: {error!r}")
    return found


def summary(runs: Sequence[Run], size: Size) -> Table:
    """Return every target of the runs beside its bound, and what was not measured."""
    note = "" if size is Size.FULL else "; bounds are of the full size"
    table = Table("benchmark", "target", "measured", "repeats", "bound", "", title=f"{size} size{note}")
    for each in runs:
        if each.outcome is not Outcome.MEASURED:
            table.add_row(each.name, f"[bold]{each.outcome}[/bold]", style="red")
        for target in each.targets:
            table.add_row(each.name, *target_cells(target))
    return table


def catalogue_table(chosen: Sequence[Benchmark]) -> Table:
    """Return what there is, for people."""
    table = Table("benchmark", "asks", "small, at most", "full, at most")
    for each in chosen:
        table.add_row(each.name, each.asks, *(_clock(each.limit(size)) for size in Size))
    return table


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


if __name__ == "__main__":
    typer.run(main)
