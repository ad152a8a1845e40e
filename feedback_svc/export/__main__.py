"""``python -m feedback_svc.export``: a progress bar, a summary; 0 done, 1 not done, 2 faulty settings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from feedback_svc.command import run, told
from feedback_svc.export.record import Record
from feedback_svc.export.run import Exported, export
from feedback_svc.settings import DatabaseSettings
from matchloop.observe.job_metrics import told_job
from matchloop.rpc.settings import read_settings
from matchloop.rpc.validation import utc_now
from matchloop.snapshot import TableName


def main(
    out: Annotated[
        Path, typer.Option(help="Folder of the snapshot; made when missing. What it holds is continued.")
    ],
    base: Annotated[
        Path | None, typer.Option(help="Another snapshot to start from; its files are linked or copied.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Read everything, whatever is there already.")] = False,
) -> None:
    """Write a snapshot of the database named by FEEDBACK_DATABASE_URL, reading only what is new."""
    with told_job("export") as metrics, told():
        settings = read_settings(DatabaseSettings)
        started = time.monotonic()
        exported = _export_with_progress(settings.database_url, out, base, full=full)
        for table in TableName:
            metrics.snapshot_rows.labels(table).set(exported.manifest.counts[table])
            metrics.snapshot_read.labels(table).set(exported.rows_read.get(table, 0))
    _summary(exported, out, time.monotonic() - started)


def _export_with_progress(url: str, out: Path, base: Path | None, *, full: bool) -> Exported:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Record(url) as record:
        estimates = record.estimates()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks = {
            name: progress.add_task(name, total=estimates.get(name) or None, visible=False)
            for name in TableName
        }

        def advance(table: TableName, rows: int) -> None:
            progress.update(tasks[table], advance=rows, visible=True)

        exported = export(url, out, now=utc_now(), base=base, full=full, advance=advance)
        for task in progress.tasks:
            progress.update(task.id, total=task.completed)
    return exported


def _summary(exported: Exported, out: Path, seconds: float) -> None:
    if not exported.written:
        typer.echo(f"{out} holds watermark {exported.watermark} already: nothing to do")
        return
    table = Table("table", "rows", "read", "kept", "files", box=None)
    for name in TableName:
        count, read = exported.manifest.counts[name], exported.rows_read.get(name, 0)
        files = len(exported.manifest.files_of(name))
        table.add_row(name, f"{count:,}", f"{read:,}", f"{exported.rows_kept(name):,}", str(files))
    Console().print(table)
    read = sum(exported.rows_read.values())
    typer.echo(
        f"snapshot of watermark {exported.watermark} in {out}: {read:,} rows read in {seconds:.1f} s,"
        f" {read / max(seconds, 1e-9):,.0f} rows/s"
    )


if __name__ == "__main__":
    run(main, "export")
