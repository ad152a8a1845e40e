"""What a backup costs the calls made meanwhile, and how long the way back is.

``python -m benchmarks.backup --out FILE.json [--rows 1000000]``

Embedded PostgreSQL with the settings it ships with, filled with `--rows` reactions and a tenth as many lists,
and feedback_svc on it, written to all the time. The backup is restored into another database of the same
server while the service goes on; what was acknowledged before the backup began must be in it.
"""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.folders import data_folder
from benchmarks.record_callers import RecordCallers
from benchmarks.report import Better, Out, Target, about, targets_table, write_report
from benchmarks.upgrade import ROOT, fill, lost, service, table_of
from feedback_svc.backup.make import back_up
from feedback_svc.backup.restore import restore
from feedback_svc.migrate import migrate
from matchloop.rpc.validation import utc_now
from playground.postgres import EmbeddedPostgres
from playground.processes import free_port

LONGEST_MS = 3000.0
console = Console(width=120)


def main(
    out: Out = None,
    rows: Annotated[int, typer.Option(min=1000, help="Reactions stored before.")] = 1_000_000,
    seconds: Annotated[float, typer.Option(min=1.0, help="How long each quiet phase lasts.")] = 15.0,
    jobs: Annotated[int, typer.Option(min=1, help="Tables dumped and restored at a time.")] = 1,
) -> None:
    """Back up and restore under load."""
    told = about()
    with data_folder(None) as folder, EmbeddedPostgres(folder / "postgres") as server:
        url, elsewhere = server.create_database("original"), server.create_database("restored")
        migrate(url)
        with console.status(f"filling with {rows:,} reactions"):
            fill(url, rows)
        process = service(ROOT, url, free_port(), folder / "service.log")
        callers = RecordCallers(process.address)
        with callers.calling():
            with callers.phase("first calls", at_least=2.0):
                pass
            with callers.phase("nothing else", at_least=seconds):
                pass
            acknowledged = list(callers.acknowledged)
            with callers.phase("backup") as during:
                at, backup = back_up(url, folder / "backups", clock=utc_now, jobs=jobs)
            with callers.phase("nothing else, after", at_least=seconds):
                pass
            began = time.monotonic()
            with callers.phase("restore of another database"):
                restore(elsewhere, at, jobs=jobs)
            restoring = time.monotonic() - began
        process.stop()
        missing = lost(elsewhere, acknowledged)
        stored = sum(path.stat().st_size for path in at.rglob("*") if path.is_file())
    failed = sum(len(phase.failures) for phase in callers.phases)
    longest = float(during.figures()["longest_ms"])
    targets = [
        Target("failed_calls", failed, 0, Better.LOWER, failed, failed),
        Target("acknowledged_before_and_missing", missing, 0, Better.LOWER, missing, missing),
        Target("longest_call_during_backup_ms", longest, LONGEST_MS, Better.LOWER, longest, longest),
    ]
    figures = {
        "rows": backup.rows,
        "jobs": jobs,
        "megabytes": round(stored / 1e6, 1),
        "backup_seconds": round(during.lasted, 1),
        "restore_seconds": round(restoring, 1),
        "acknowledged_before": len(acknowledged),
        "phases": {phase.name: phase.figures() for phase in callers.phases},
    }
    write_report(out, told, figures, targets)
    console.print(table_of(callers.phases))
    console.print(targets_table("backup", targets))
    console.print(
        f"{sum(backup.rows.values()):,} rows: {stored / 1e6:,.0f} MB in {during.lasted:.1f} s,"
        f" back in {restoring:.1f} s; {failed} calls failed;"
        f" {missing} of {len(acknowledged):,} acknowledged reactions missing"
    )


if __name__ == "__main__":
    typer.run(main)
