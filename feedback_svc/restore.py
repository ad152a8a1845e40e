"""Restore a backup into an empty database: ``python -m feedback_svc.restore BACKUP``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from feedback_svc.backup.contents import Backup
from feedback_svc.backup.erasures import erase_again
from feedback_svc.backup.restore import restore
from feedback_svc.command import run, told
from feedback_svc.settings import DatabaseSettings
from matchloop.rpc.settings import read_settings
from matchloop.snapshot import read_snapshot

TIME = "%Y-%m-%d %H:%M:%S"


def main(
    backup: Annotated[Path, typer.Argument(help="Folder of one backup, called by its time.")],
    jobs: Annotated[
        int, typer.Option(min=1, max=64, help="Tables restored at a time; with 1, all or nothing.")
    ] = 1,
    erased: Annotated[
        Path | None,
        typer.Option(
            help="A snapshot made since: whom it knows as erased is erased again, once all is back."
        ),
    ] = None,
    check: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--check", help="Only tell whether the backup is whole; needs no database.")
    ] = False,
) -> None:
    """Restore a backup into the empty database named by FEEDBACK_DATABASE_URL.

    Exit codes: 0 done, 1 refused or not done, 2 faulty settings.
    """
    started = time.monotonic()
    with told(), Console(stderr=True).status(f"reading {backup}"):
        if check:
            found = Backup.read(backup)
        else:
            settings = read_settings(DatabaseSettings)
            later = read_snapshot(erased) if erased else None
            found = restore(settings.database_url, backup, jobs=jobs)
            again = erase_again(settings.database_url, later) if later else 0
    told_rows = f"{backup}: {sum(found.rows.values()):,} rows, whole"
    if check:
        typer.echo(told_rows)
        return
    typer.echo(f"{told_rows} and restored in {time.monotonic() - started:.1f} s")
    if later:
        typer.echo(f"erased again: {again}, as {erased} of {later.manifest.created:{TIME}} UTC knows")
    else:
        typer.echo(f"erasures since {found.moment:{TIME}} UTC are not in it: ask for them again")


if __name__ == "__main__":
    run(main, "restore")
