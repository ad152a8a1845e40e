"""``python -m training_jobs``: from a snapshot to a promoted release, step by step or all at once."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from matchloop.errors import MatchloopError, Unavailable
from matchloop.release import MlflowRegistry
from matchloop.usecase import UseCase, load_use_cases
from training_jobs.config import load_config
from training_jobs.gates import gate_table
from training_jobs.negatives import mark_negatives_used, retraining_status
from training_jobs.retrain import Retrained, Retraining
from training_jobs.tracking import MlflowTracker

app = typer.Typer(
    help="Learn from the record: data sets, training, evaluation, releases. Every step can be run again: "
    "what was done for the same snapshot and settings is not done twice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console()

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
Preset = Annotated[str, typer.Option("--config", help="default, fast, deep, or the path of a .toml file.")]
UseCaseFolder = Annotated[
    Path | None, typer.Option("--use-cases", help="Folder of further use cases in TOML.")
]
FeedbackAddress = Annotated[
    str | None,
    typer.Option(
        "--feedback",
        envvar="MATCHLOOP_FEEDBACK_ADDRESS",
        help="host:port of feedback_svc, told which negatives were used.",
    ),
]

Resume = Annotated[
    bool,
    typer.Option(
        help="Go on from the checkpoint of a training with this data and these settings, if killed."
    ),
]

EXPORT = f"{shlex.quote(sys.executable)} -m feedback_svc.export --out"
WORK = Path("var/training")
REGISTRY = "sqlite:///var/mlflow.db"


@app.command()
def datasets(
    use_case: UseCaseId,
    snapshot: SnapshotFolder = None,
    work: WorkFolder = WORK,
    registry: RegistryUri = REGISTRY,
    config: Preset = "default",
    use_cases: UseCaseFolder = None,
    export_command: ExportCommand = EXPORT,
) -> None:
    """Build the data sets and print what is in them."""
    steps = _steps(use_case, snapshot, work, registry, config, use_cases, export_command)
    table = Table("data set", "rows", "labels", "sources", "sha256", title=f"{use_case}: {steps.folder}")
    for manifest in steps.datasets().manifests:
        labels, sources = (
            ", ".join(f"{k}: {v}" for k, v in c.items()) for c in (manifest.labels, manifest.sources)
        )
        table.add_row(manifest.name, str(manifest.rows), labels, sources, manifest.sha256[:12])
    console.print(table)


@app.command()
def train(
    use_case: UseCaseId,
    snapshot: SnapshotFolder = None,
    work: WorkFolder = WORK,
    registry: RegistryUri = REGISTRY,
    config: Preset = "default",
    use_cases: UseCaseFolder = None,
    export_command: ExportCommand = EXPORT,
    resume: Resume = True,
) -> None:
    """Train every part and write the release's folder."""
    steps = _steps(use_case, snapshot, work, registry, config, use_cases, export_command, resume=resume)
    manifest = steps.train()
    console.print(f"release {manifest.release}: {', '.join(manifest.parts)} in {steps.release_folder}")


@app.command()
def evaluate(
    use_case: UseCaseId,
    snapshot: SnapshotFolder = None,
    work: WorkFolder = WORK,
    registry: RegistryUri = REGISTRY,
    config: Preset = "default",
    use_cases: UseCaseFolder = None,
    export_command: ExportCommand = EXPORT,
) -> None:
    """Compare with the champion on the same data and print metrics and gates."""
    steps = _steps(use_case, snapshot, work, registry, config, use_cases, export_command)
    gates = steps.evaluate()
    table = Table("metric", "value", title=f"{steps.release}")
    for name, value in steps.train().metrics.items():
        table.add_row(name, f"{value:.4f}")
    console.print(table, gate_table(gates, "gates"))


@app.command()
def register(
    use_case: UseCaseId,
    snapshot: SnapshotFolder = None,
    work: WorkFolder = WORK,
    registry: RegistryUri = REGISTRY,
    config: Preset = "default",
    use_cases: UseCaseFolder = None,
    export_command: ExportCommand = EXPORT,
) -> None:
    """Put the release and its run into the registry; this promotes nothing."""
    steps = _steps(use_case, snapshot, work, registry, config, use_cases, export_command)
    found = steps.register()
    console.print(f"release {found.release} is version {found.version} of {use_case}")


@app.command()
def promote(
    use_case: UseCaseId,
    snapshot: SnapshotFolder = None,
    work: WorkFolder = WORK,
    registry: RegistryUri = REGISTRY,
    config: Preset = "default",
    use_cases: UseCaseFolder = None,
    export_command: ExportCommand = EXPORT,
) -> None:
    """Make the release champion if it passes every gate; exit code 3 if it does not."""
    steps = _steps(use_case, snapshot, work, registry, config, use_cases, export_command)
    promoted = steps.promote()
    console.print(gate_table(steps.evaluate(), steps.release))
    _end(steps.release, promoted=promoted)


@app.command()
def retrain(
    use_case: UseCaseId,
    snapshot: SnapshotFolder = None,
    work: WorkFolder = WORK,
    registry: RegistryUri = REGISTRY,
    config: Preset = "default",
    use_cases: UseCaseFolder = None,
    export_command: ExportCommand = EXPORT,
    feedback: FeedbackAddress = None,
    resume: Resume = True,
) -> None:
    """Do all of it: data sets, training, evaluation, registration, gates, promotion."""
    _say_due("before", feedback, use_case)
    steps = _steps(use_case, snapshot, work, registry, config, use_cases, export_command, resume=resume)

    def mark_used(release: str, watermark: int) -> int:
        return mark_negatives_used(str(feedback), use_case, release, watermark)

    done = steps.run(mark_used if feedback else None)
    console.print(gate_table(done.gates, done.release))
    _say(done)
    _say_due("now", feedback, use_case)
    _end(done.release, promoted=done.promoted)


def _say_due(when: str, feedback: str | None, use_case: str) -> None:
    """Print whether feedback_svc holds a retraining for due; nothing when there is none to ask."""
    if not feedback:
        return
    try:
        console.print(f"due {when}: {retraining_status(feedback, use_case)}", highlight=False)
    except Unavailable as error:  # the training itself does not need it
        console.print(f"due {when}: unknown, {error.message}", highlight=False)


def _say(done: Retrained) -> None:
    for part, why in done.skipped.items():
        console.print(f"released without {part}: {why}")
    if done.seconds:
        console.print("seconds: " + ", ".join(f"{step} {taken:.1f}" for step, taken in done.seconds.items()))
    if done.marked is not None:
        console.print(f"{done.marked} negatives are marked as used by this release")


def _end(release: str, *, promoted: bool) -> None:
    if promoted:
        console.print(f"[green]{release} is champion[/]")
        return
    console.print(f"[red]{release} is registered, but not promoted[/]")
    raise typer.Exit(3)


def _steps(
    use_case: str,
    snapshot: Path | None,
    work: Path,
    registry: str,
    config: str,
    use_cases: Path | None,
    export_command: str,
    *,
    resume: bool = True,
) -> Retraining:
    declared: UseCase = load_use_cases(*([use_cases] if use_cases else []))[use_case]
    mlflow = MlflowRegistry(registry)
    return Retraining(
        declared,
        snapshot or _exported(export_command, work / "snapshot"),
        mlflow,
        load_config(config),
        work=work,
        tracker=MlflowTracker(mlflow),
        console=console,
        resume=resume,
    )


def _exported(command: str, folder: Path) -> Path:
    """Run the export; its output goes where ours goes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([*shlex.split(command), str(folder)], check=False)  # noqa: S603 - the operator's command
    if done.returncode != 0:
        console.print(f"[red]the export failed with exit code {done.returncode}: {command}[/]")
        raise typer.Exit(done.returncode)
    return folder


def _run() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        app()
        return
    from training_jobs.recipes.processes import joined
    from training_jobs.recipes.two_tower import follow_leader

    with joined() as group:
        if group.leads:
            app()
        else:
            follow_leader()


def main() -> None:
    """Run the commands; what matchloop raises on purpose is a message and exit code 2, not a traceback.

    Under torchrun the first process runs the command and the others train with it.
    """
    try:
        _run()
    except MatchloopError as error:
        Console(stderr=True).print(f"[red]{error.reason}[/]: {error.message}")
        sys.exit(2)


if __name__ == "__main__":
    main()
