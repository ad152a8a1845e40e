"""Whether an upgrade from an earlier release fails a call: its services serve while the schema changes.

``python -m benchmarks.upgrade [--from COMMIT] --out FILE.json [--rows 1000000]``

Two feedback_svc of the earlier commit (from git, in a folder beside this one) on the schema of that commit,
filled with `--rows` reactions. Clients write all the time, with the retries that every client of ours has.
This release's migration brings the schema to its head under them; they serve on it; then one after the other
is stopped with SIGTERM and replaced by this release's, with a rest in between for clients to connect to the
new one, which is what ``minReadySeconds`` of a Deployment is for. A call fails when its last retry does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from sqlalchemy import create_engine, text

from benchmarks.folders import data_folder
from benchmarks.record_callers import RecordCallers
from benchmarks.report import Better, Out, Target, about, targets_table, write_report
from playground.postgres import EmbeddedPostgres
from playground.processes import ServiceProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.record_callers import Phase

ROOT = Path(__file__).parents[1]
MIGRATIONS = "feedback_svc/store/migrations/versions"
LONGEST_MS = 3000.0
"""Bound on a call: what a change of schema waits for its tables and takes, and room for the machine."""
SETTLE_SECONDS = 5.0
"""From a new service being ready to the end of the next old one: clients connect anew within 2 s or so."""

FILL = """
INSERT INTO sessions (session_id, use_case, subject_id, release, arm, tier, reranked, source, serve_time,
    receive_time, sequence, feature_names, item_ids, scores, methods, feature_values)
SELECT 'filled-' || n, 'developer_startup', 'developer-' || n % 1000, 'r1', '', 'warm', true, 'ranking',
    now(), now(), n::bigint << 9, '{model_score}', ARRAY(SELECT 'startup-' || (n * 7 + k) % 1000
    FROM generate_series(1, 10) AS k), array_fill(0.5::float8, ARRAY[10]), array_fill('als'::text, ARRAY[10]),
    array_fill(0.5::real, ARRAY[10])
FROM generate_series(1, :rows / 10) AS n;
INSERT INTO interactions (sequence, interaction_id, use_case, subject_id, item_id, event_type, event_time,
    receive_time, hides, session_id, rank, score, method, release)
SELECT (n::bigint / 500 << 9) | (n % 500), 'filled-' || n, 'developer_startup', 'developer-' || n % 1000,
    'startup-' || n % 997, 'click', now(), now(), false, 'filled-' || n / 10, 1 + n % 10, 0.5, 'als', 'r1'
FROM generate_series(1, :rows) AS n;
UPDATE change_clock SET sequence_offset = :rows;
"""
console = Console(width=120)


def before_the_newest_schema() -> str:
    """Return the last commit that lacks the newest migration."""
    added = subprocess.run(  # noqa: S603
        ["git", "log", "-1", "--diff-filter=A", "--format=%h~1", "--", f"{MIGRATIONS}/*.py"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    if not added:
        raise typer.BadParameter(f"--from: no commit here added a file to {MIGRATIONS}")
    return added


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Give a folder with the files of a commit."""
    with tempfile.TemporaryDirectory(prefix="upgrade-") as folder:
        archive = subprocess.run(  # noqa: S603
            ["git", "archive", commit],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)  # noqa: S603, S607
        yield Path(folder)


def environment_of(code: Path, url: str, port: int = 0) -> dict[str, str]:
    """Return what makes a process run the code of a folder, whatever folder it starts in."""
    return {
        "PYTHONPATH": str(code),
        "PYTHONSAFEPATH": "1",
        "FEEDBACK_DATABASE_URL": url,
        **({"FEEDBACK_PORT": str(port)} if port else {}),
    }


def fill(url: str, rows: int) -> None:
    """Fill a database of any schema with so many reactions, and a tenth as many lists."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(FILL), {"rows": rows})
    engine.dispose()


def migrated(code: Path, url: str) -> None:
    """Bring a database to the schema of some code."""
    subprocess.run(
        [sys.executable, "-m", "feedback_svc.migrate"],
        env=os.environ | environment_of(code, url),
        check=True,
        capture_output=True,
    )


def service(code: Path, url: str, port: int, log: Path) -> ServiceProcess:
    """Start feedback_svc of some code; returns when it serves."""
    process = ServiceProcess("feedback_svc", port, environment_of(code, url, port), log)
    process.start()
    process.wait_serving()
    return process


def upgrade(old: Path, url: str, logs: Path, seconds: float) -> RecordCallers:
    """Do it, and return what clients saw."""
    ports = [free_port(), free_port()]
    running = [service(old, url, port, logs / f"old-{port}.log") for port in ports]
    callers = RecordCallers("ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports))
    with ExitStack() as stack:
        for process in running:
            stack.callback(process.stop)
        with callers.calling():
            with callers.phase("first calls", at_least=2.0):
                pass
            with callers.phase("old services, old schema", at_least=seconds):
                pass
            with callers.phase("schema changes under old services"):
                migrated(ROOT, url)
            with callers.phase("old services, new schema", at_least=seconds):
                pass
            with callers.phase("services replaced, one after the other"):
                for process, port in zip(running, ports, strict=True):
                    process.stop(30)
                    stack.callback(service(ROOT, url, port, logs / f"new-{port}.log").stop)
                    time.sleep(SETTLE_SECONDS)
            with callers.phase("new services, new schema", at_least=seconds):
                pass
    return callers


def lost(url: str, acknowledged: list[str]) -> int:
    """Return how many acknowledged reactions are not stored."""
    engine = create_engine(url)
    with engine.connect() as connection:
        stored = connection.exec_driver_sql(
            "SELECT count(*) FROM interactions WHERE interaction_id = ANY (%s)", (acknowledged,)
        ).scalar_one()
    engine.dispose()
    return len(acknowledged) - int(stored)


def table_of(phases: list[Phase]) -> Table:
    """Return what clients saw, for people."""
    table = Table(
        Column("while", no_wrap=True), "calls", "failed", "p50 ms", "p99 ms", "longest ms", "lasted s"
    )
    for phase in phases:
        seen = phase.figures()
        names = ("calls", "failed", "p50_ms", "p99_ms", "longest_ms", "lasted_s")
        table.add_row(phase.name, *(f"{seen[name]:,}" for name in names))
    return table


def main(
    out: Out = None,
    commit: Annotated[
        str, typer.Option("--from", help="Commit of the earlier release; left out: before the newest schema.")
    ] = "",
    rows: Annotated[int, typer.Option(min=1000, help="Reactions stored before.")] = 1_000_000,
    seconds: Annotated[float, typer.Option(min=1.0, help="How long each quiet phase lasts.")] = 15.0,
) -> None:
    """Upgrade from an earlier release under load."""
    told = about()
    commit = commit or before_the_newest_schema()
    with (
        data_folder(None) as folder,
        EmbeddedPostgres(folder / "postgres") as server,
        checked_out(commit) as old,
    ):
        url = server.create_database("upgraded")
        migrated(old, url)
        with console.status(f"filling with {rows:,} reactions"):
            fill(url, rows)
        callers = upgrade(old, url, folder, seconds)
        missing = lost(url, callers.acknowledged)
    failed = sum(len(phase.failures) for phase in callers.phases)
    longest = max(float(phase.figures()["longest_ms"]) for phase in callers.phases)
    targets = [
        Target("failed_calls", failed, 0, Better.LOWER, failed, failed),
        Target("acknowledged_reactions_lost", missing, 0, Better.LOWER, missing, missing),
        Target("longest_call_ms", longest, LONGEST_MS, Better.LOWER, longest, longest),
    ]
    figures = {
        "from": commit,
        "rows": rows,
        "acknowledged": len(callers.acknowledged),
        "phases": {phase.name: phase.figures() for phase in callers.phases},
    }
    write_report(out, told, figures, targets)
    console.print(table_of(callers.phases))
    console.print(targets_table("upgrade", targets))
    console.print(
        f"{failed} calls failed; {missing} of {len(callers.acknowledged):,} acknowledged reactions lost"
    )


if __name__ == "__main__":
    typer.run(main)
