"""``releases backup`` and ``releases restore``: the registry, kept elsewhere and brought back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from matchloop.observe.job_metrics import told_job
from matchloop.release import CHAMPION, MlflowRegistry
from training_jobs import registry_backup
from training_jobs.commands.console import console

if TYPE_CHECKING:
    from training_jobs.registry_backup import RegistryBackup

LEFT_OUT = 1
"""Exit code of a backup without the releases that are damaged in the registry itself."""

RegistryUri = Annotated[
    str,
    typer.Option(
        "--registry", envvar="MATCHLOOP_REGISTRY_URI", help="MLflow: sqlite:///FILE or http(s)://SERVER."
    ),
]
REGISTRY = "sqlite:///var/mlflow.db"


def backup(
    folder: Annotated[
        Path, typer.Option("--into", help="Where backups are kept: an index of each moment, and releases.")
    ],
    registry: RegistryUri = REGISTRY,
) -> None:
    """Back up the registry of every use case; take it after the record's, and it has what that names.

    Exit codes: 0 all is in it; 1 all but releases that are damaged in the registry; 2 not done.
    """
    with told_job("registry-backup"):
        written = registry_backup.back_up(MlflowRegistry(registry), folder, clock=lambda: datetime.now(UTC))
        console.print(f"{written.index}: {_summary(written.backup)}", soft_wrap=True, highlight=False)
        for release, why in written.left_out.items():
            console.print(f"[red]left out {release}[/]: {why}", soft_wrap=True)
        if written.left_out:
            raise typer.Exit(LEFT_OUT)


def restore(
    index: Annotated[Path, typer.Argument(help="Index of one backup, called by its time.")],
    registry: RegistryUri = REGISTRY,
    check: Annotated[
        bool, typer.Option("--check", help="Only tell whether the backup is whole; needs no registry.")
    ] = False,
) -> None:
    """Restore the registry from a backup; it has to be empty. Services pick champions up by themselves."""
    if check:
        found = registry_backup.RegistryBackup.read(index)
    else:
        found = registry_backup.restore(MlflowRegistry(registry), index)
    what = "whole" if check else "restored"
    console.print(f"{index}: {_summary(found)}, {what}", soft_wrap=True, highlight=False)


def _summary(backup: RegistryBackup) -> str:
    champions = [kept for kept in backup.releases if CHAMPION in kept.aliases]
    told = ", ".join(f"{kept.release} is champion of {kept.use_case}" for kept in champions)
    return f"releases: {len(backup.releases)}; {told or 'no champion'}"
