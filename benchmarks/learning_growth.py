"""How time and memory of learning grow with the record.

``python -m benchmarks.learning_growth --out FILE.json [--scale 1.0] [--only STAGE] [--folder FOLDER]``

From a record as `benchmarks.datasets` makes it, one thing at a time is made twice and four times as much:
interactions (with their lists), subjects, items. Of each stage (all three data sets; ALS with 128 factors,
two iterations; one epoch of the Two-Tower) the table has processor seconds, the most memory that it needs
beside what its process held before, and the slope of their logarithms: 1 is linear, 0 does not grow.

A run takes about ten minutes; `--scale 0.1` takes a tenth of the record.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.datasets import GIB, apart, material_of, size_of
from benchmarks.datasets_world import Size, record_of
from benchmarks.folders import Folder, data_folder
from benchmarks.report import Out, about, write_report
from training_jobs.build import als_of, build_datasets, pairs_of
from training_jobs.config import load_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from training_jobs.config import TrainingConfig
    from training_jobs.material import Material

TIMES = (1, 2, 4)
SEED = 1

console = Console()


def _datasets(material: Material, config: TrainingConfig) -> Callable[[], object]:
    return lambda: build_datasets(material, config)


def _als(material: Material, config: TrainingConfig) -> Callable[[], object]:
    from training_jobs.recipes.als import train_als

    matrix = als_of(material, config)
    settings = config.als.model_copy(update={"trials": config.als.trials[:1], "iterations": 2, "threads": 1})
    return lambda: train_als(matrix, settings, seed=SEED)


def _two_tower(material: Material, config: TrainingConfig) -> Callable[[], object]:
    from training_jobs.recipes.two_tower import train_two_tower

    pairs, encoded = pairs_of(material, config), material.encoded
    settings = config.two_tower.model_copy(update={"epochs": 1, "threads": 1})
    each = config.dataset.random_of(material.use_case)
    return lambda: train_two_tower(
        pairs, encoded.subjects, encoded.items, settings, random_negatives=each, seed=SEED,
        subject_ids=material.subject_ids, item_ids=material.item_ids,
    )  # fmt: skip


STAGES = {"data sets": (_datasets, 500_000), "als": (_als, 250_000), "two_tower": (_two_tower, 20_000)}
"""Each with the interactions of its smallest record."""


def sizes_of(interactions: int) -> dict[str, list[Size]]:
    """Return, by what grows, the records that are measured."""
    base = size_of(interactions)
    return {
        axis: [replace(base, **{name: getattr(base, name) * times for name in grown}) for times in TIMES]
        for axis, grown in {
            "interactions": ("interactions", "sessions"),
            "subjects": ("subjects",),
            "items": ("items",),
        }.items()
    }


def measure(folder: Path, stage: str) -> dict[str, float]:
    """Do one stage; return its processor seconds and memory."""
    work = STAGES[stage][0](material_of(folder), load_config("default"))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins again
    before, used = _peak_gb(), time.process_time()
    work()
    return {"processor_s": round(time.process_time() - used, 2), "gb": round(_peak_gb() - before, 3)}


def _peak_gb() -> float:
    """Return the most memory since the peak began, in 2^30 bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / GIB


def slope(sizes: list[float], costs: list[float]) -> float:
    """Return the slope of log cost over log size, by least squares."""
    logs = np.log(np.maximum(costs, 1e-3))
    return round(float(np.polyfit(np.log(sizes), logs, 1)[0]), 2)


def main(
    out: Out = None,
    scale: Annotated[float, typer.Option(min=0.001, help="Of the records.")] = 1.0,
    only: Annotated[list[str] | None, typer.Option(help="Only these stages.")] = None,
    folder: Folder = None,
) -> None:
    """Measure, print, write."""
    told = about()
    stages = {name: int(count * scale) for name, (_, count) in STAGES.items() if not only or name in only}
    table = Table("stage", "with", "records", "processor s", "GiB", "slope of time", "of memory")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    figures: list[dict[str, Any]] = []
    with ExitStack() as stack:
        at = stack.enter_context(data_folder(folder))
        progress = stack.enter_context(Progress(*columns, console=console))
        task = progress.add_task("", total=len(stages) * 3 * len(TIMES))
        for stage, interactions in stages.items():
            for axis, sizes in sizes_of(interactions).items():
                points = []
                for size in sizes:
                    progress.update(task, advance=1, description=f"{stage}: {axis}")
                    record = at / "-".join(map(str, astuple(size)))
                    record_of(record, size)
                    points.append(asdict(size) | apart(measure, record, stage))
                found = [[float(point[name]) for point in points] for name in (axis, "processor_s", "gb")]
                slopes = [slope(found[0], costs) for costs in found[1:]]
                figures.append(
                    {
                        "stage": stage,
                        "with": axis,
                        "points": points,
                        "time_slope": slopes[0],
                        "memory_slope": slopes[1],
                    }
                )
                shown = [" → ".join(f"{value:,g}" for value in values) for values in found]
                table.add_row(stage, axis, *shown, *(f"{value:.2f}" for value in slopes))
    console.print(table)
    write_report(out, told, {"growth": figures})


if __name__ == "__main__":
    typer.run(main)
