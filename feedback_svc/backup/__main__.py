"""``python -m feedback_svc.backup``: one line of what was written; 0 done, 1 not done, 2 faulty settings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from feedback_svc.backup.make import back_up
from feedback_svc.command import run, told
from feedback_svc.settings import DatabaseSettings
from matchloop.observe.job_metrics import told_job
from matchloop.rpc.settings import read_settings
from matchloop.rpc.validation import utc_now


def main(
    folder: Annotated[
        Path, typer.Option("--into", help="Where backups are kept; each in a folder called by its time.")
    ],
    keep: Annotated[
        int | None, typer.Option(min=1, help="Backups that stay, the newest; left out: all.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Tables dumped at a time.")] = 1,
) -> None:
    """Back up the database named by FEEDBACK_DATABASE_URL, while the service serves.

    What was acknowledged before the command began is in the backup. `python -m feedback_svc.restore` brings
    it back.
    """
    with told_job("backup"), told(), Console(stderr=True).status("writing the backup"):
        settings = read_settings(DatabaseSettings)
        started = time.monotonic()
        written, backup = back_up(settings.database_url, folder, clock=utc_now, jobs=jobs, keep=keep)
    typer.echo(
        f"{written}: {sum(backup.rows.values()):,} rows of schema {backup.revision},"
        f" {backup.bytes / 1e6:,.1f} MB, in {time.monotonic() - started:.1f} s"
    )


if __name__ == "__main__":
    run(main, "backup")
