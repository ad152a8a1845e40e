"""Options that the steps of a retraining share, and what they come to."""

from __future__ import annotations

import inspect
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Concatenate

import typer

from matchloop.release import MlflowRegistry
from matchloop.usecase import UseCase, load_use_cases
from training_jobs.commands.console import console
from training_jobs.config import Device, Engine, TrainingConfig, load_config
from training_jobs.retrain import Retraining
from training_jobs.tracking import MlflowTracker

REGISTRY = "sqlite:///var/mlflow.db"
WORK = Path("var/training")
NOT_PROMOTED = 3
"""Exit code when a gate refused the release."""
EXPORT = f"{shlex.quote(sys.executable)} -m feedback_svc.export --out"

UseCaseId = Annotated[str, typer.Argument(help="Id of a use case, e.g. investor_startup.")]
SnapshotFolder = Annotated[
    Path | None, typer.Option("--snapshot", help="Folder of a snapshot. Left out: one is exported first.")
]
ExportCommand = Annotated[
    str,
    typer.Option(
        help="Command that exports a snapshot; the folder is added to its end. Used without --snapshot.",
    ),
]
WorkFolder = Annotated[Path, typer.Option("--work", help="Folder for data sets, releases and reports.")]
RegistryUri = Annotated[
    str,
    typer.Option(
        "--registry", envvar="MATCHLOOP_REGISTRY_URI", help="MLflow: sqlite:///FILE or http(s)://SERVER."
    ),
]
OnEngine = Annotated[
    Engine | None,
    typer.Option(envvar="MATCHLOOP_ENGINE", help="What builds data sets, in place of the configuration's."),
]
OnDevice = Annotated[
    Device | None,
    typer.Option(envvar="MATCHLOOP_DEVICE", help="What trains networks, in place of the configuration's."),
]
Preset = Annotated[str, typer.Option("--config", help="default, fast, deep, or the path of a .toml file.")]
UseCaseFolder = Annotated[
    Path | None, typer.Option("--use-cases", help="Folder of further use cases in TOML.")
]
Resume = Annotated[
    bool,
    typer.Option(
        help="Go on from the checkpoint of a training with this data and these settings, if killed."
    ),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for; nothing is exported or read before `retraining`."""

    use_case: UseCase
    registry: MlflowRegistry
    config: TrainingConfig
    work: Path
    snapshot: Path | None
    export_command: str
    resume: bool

    def retraining(self, may_promote: Callable[[], None] | None = None) -> Retraining:
        """Export a snapshot unless there is one, and open it."""
        return Retraining(
            self.use_case,
            self.snapshot or exported(self.export_command, self.work / "snapshot"),
            self.registry,
            self.config,
            work=self.work,
            tracker=MlflowTracker(self.registry),
            console=console,
            resume=self.resume,
            may_promote=may_promote,
        )


def asked(
    use_case: UseCaseId,
    snapshot: SnapshotFolder = None,
    work: WorkFolder = WORK,
    registry: RegistryUri = REGISTRY,
    config: Preset = "default",
    use_cases: UseCaseFolder = None,
    export_command: ExportCommand = EXPORT,
    resume: Resume = True,
    engine: OnEngine = None,
    device: OnDevice = None,
) -> Asked:
    """Return what these options ask for."""
    declared = load_use_cases(*([use_cases] if use_cases else []))[use_case]
    settings = load_config(config).on(engine, device)
    return Asked(declared, MlflowRegistry(registry), settings, work, snapshot, export_command, resume)


def with_options(command: Callable[Concatenate[Asked, ...], None]) -> Callable[..., None]:
    """Make a command of a function of `Asked`: the options of `asked`, then those of its own."""
    shared = inspect.signature(asked, eval_str=True)
    _, *own = inspect.signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def run(**given: Any) -> None:
        mine = {option.name: given.pop(option.name) for option in own}
        command(asked(**given), **mine)

    options = [o.replace(kind=o.KEYWORD_ONLY) for o in (*shared.parameters.values(), *own)]
    run.__annotations__ = {option.name: option.annotation for option in options}
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return run


def step(command: Callable[Concatenate[Retraining, ...], None]) -> Callable[..., None]:
    """Make a command of a function of `Retraining`."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def run(asked: Asked, **mine: Any) -> None:
        command(asked.retraining(), **mine)

    first = inspect.Parameter("asked", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Asked)
    run.__signature__ = inspect.Signature([first, *own])  # type: ignore[attr-defined]
    return with_options(run)


def exported(command: str, folder: Path) -> Path:
    """Run the export; its output goes where ours goes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([*shlex.split(command), str(folder)], check=False)  # noqa: S603 - the operator's command
    if done.returncode != 0:
        console.print(f"[red]the export failed with exit code {done.returncode}: {command}[/]")
        raise typer.Exit(done.returncode)
    return folder


def end(release: str, *, promoted: bool) -> None:
    """Say what became of a release; exit code 3 if it was not promoted."""
    if promoted:
        console.print(f"[green]{release} is champion[/]")
        return
    console.print(f"[red]{release} is registered, but not promoted[/]")
    raise typer.Exit(NOT_PROMOTED)
