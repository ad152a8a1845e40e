"""``python -m training_jobs``: from a snapshot to a promoted release, step by step or all at once."""

from __future__ import annotations

import inspect
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Concatenate

import typer
from rich.console import Console

from matchloop.errors import MatchloopError, TooFewExamples, Unavailable
from matchloop.release import MlflowRegistry
from matchloop.usecase import UseCase, load_use_cases
from training_jobs.commands.experiment import app as experiment
from training_jobs.commands.monitor import monitor
from training_jobs.commands.off_policy import off_policy
from training_jobs.commands.releases import app as releases
from training_jobs.commands.releases import rollback
from training_jobs.config import load_config
from training_jobs.dataset_tables import dataset_tables
from training_jobs.evaluate.report import evaluation_tables
from training_jobs.gates import gate_table
from training_jobs.negatives import mark_negatives_used, retraining_status
from training_jobs.retrain import Retrained, Retraining
from training_jobs.search_job import Search
from training_jobs.search_report import best_table
from training_jobs.search_spaces import Searched
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


def step(command: Callable[Concatenate[Retraining, ...], None]) -> Callable[..., None]:
    """Make a command of a function of `Retraining`: the options of `_steps`, then those of its own."""
    shared = inspect.signature(_steps, eval_str=True)
    _, *own = inspect.signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def run(**given: Any) -> None:
        mine = {option.name: given.pop(option.name) for option in own}
        command(_steps(**given), **mine)

    options = [o.replace(kind=o.KEYWORD_ONLY) for o in (*shared.parameters.values(), *own)]
    run.__annotations__ = {option.name: option.annotation for option in options}
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return app.command()(run)


def _steps(
    use_case: UseCaseId,
    snapshot: SnapshotFolder = None,
    work: WorkFolder = Path("var/training"),
    registry: RegistryUri = "sqlite:///var/mlflow.db",
    config: Preset = "default",
    use_cases: UseCaseFolder = None,
    export_command: ExportCommand = EXPORT,
    resume: Resume = True,
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


@step
def datasets(steps: Retraining) -> None:
    """Build the data sets, write them as Parquet and print what is in them.

    Exit code 2 when none of them has enough to train on.
    """
    data = steps.datasets()
    few = data.too_few(steps.config)
    console.print(*dataset_tables(data.manifests, few, title=f"{steps.use_case.id}: {steps.snapshot.folder}"))
    if len(few) == len(data.manifests):
        raise TooFewExamples("; ".join(few.values()))
    console.print(f"written to {steps.write_datasets()}")


@step
def train(steps: Retraining) -> None:
    """Train every part and write the release's folder."""
    manifest = steps.train()
    console.print(f"release {manifest.release}: {', '.join(manifest.parts)} in {steps.release_folder}")
    for part, why in steps.skipped().items():
        console.print(f"released without {part}: {why}")


@step
def evaluate(steps: Retraining) -> None:
    """Measure it beside its baselines, compare it with the champion, and write the report."""
    gates = steps.evaluate()
    console.print(*evaluation_tables(steps.report()), gate_table(gates, steps.release))
    console.print(f"report  {steps.folder / 'report.html'}", soft_wrap=True)
    console.print(f"figures {steps.folder / 'evaluation.json'}", soft_wrap=True)


@step
def register(steps: Retraining) -> None:
    """Put the release and its run into the registry; this promotes nothing."""
    found = steps.register()
    console.print(f"release {found.release} is version {found.version} of {steps.use_case.id}")


@step
def promote(
    steps: Retraining,
    force: Annotated[
        bool, typer.Option("--force", help="Promote it whatever the gates say; this is noted with it.")
    ] = False,
) -> None:
    """Make the release champion if it passes every gate; exit code 3 if it does not."""
    promoted = steps.promote(force=force)
    console.print(gate_table(steps.evaluate(), steps.release))
    _end(steps.release, promoted=promoted)


@step
def retrain(steps: Retraining, feedback: FeedbackAddress = None) -> None:
    """Do all of it: data sets, training, evaluation, registration, gates, promotion."""
    _say_due("before", feedback, steps.use_case.id)

    def mark_used(release: str, watermark: int) -> int:
        return mark_negatives_used(str(feedback), steps.use_case.id, release, watermark)

    done = steps.run(mark_used if feedback else None)
    console.print(gate_table(done.gates, done.release))
    _say(done)
    _say_due("now", feedback, steps.use_case.id)
    _end(done.release, promoted=done.promoted)


@step
def search(
    steps: Retraining,
    part: Annotated[Searched, typer.Option(help="What to find settings for.")],
    minutes: Annotated[float, typer.Option(help="Bound on the time; asked again, it goes on.")] = 10.0,
    out: Annotated[
        Path | None, typer.Option(help="Where the best settings go, as .toml for --config.")
    ] = None,
) -> None:
    """Search for the settings of a part that are best on the validation part."""
    found = Search(steps, part).run(minutes, began=time.monotonic())
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(found.config.read_bytes())
    console.print(best_table(found.found, f"{steps.use_case.id} {part}"))
    console.print(f"settings: {out or found.config}", soft_wrap=True)


app.command("off-policy")(off_policy)
app.command()(monitor)
app.add_typer(experiment, name="experiment")
app.command("rollback")(rollback)
app.add_typer(releases, name="releases")


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
