"""``python -m training_jobs``: from a snapshot to a promoted release, step by step or all at once."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from matchloop.errors import MatchloopError, TooFewExamples
from matchloop.rpc.job import job
from training_jobs.commands.console import console
from training_jobs.commands.drift import drift
from training_jobs.commands.experiment import app as experiment
from training_jobs.commands.monitor import monitor
from training_jobs.commands.off_policy import off_policy
from training_jobs.commands.releases import app as releases
from training_jobs.commands.releases import rollback
from training_jobs.commands.retrain import retrain
from training_jobs.commands.steps import end, step, with_options
from training_jobs.dataset_tables import dataset_tables
from training_jobs.ending import end_at_once
from training_jobs.evaluate.report import evaluation_tables
from training_jobs.gates import gate_table
from training_jobs.retrain import Retraining
from training_jobs.search_job import Search
from training_jobs.search_report import best_table
from training_jobs.search_spaces import Searched

app = typer.Typer(
    help="Learn from the record: data sets, training, evaluation, releases. Every step can be run again: "
    "what was done for the same snapshot and settings is not done twice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
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


@app.command()
@step
def train(steps: Retraining) -> None:
    """Train every part and write the release's folder."""
    manifest = steps.train()
    console.print(f"release {manifest.release}: {', '.join(manifest.parts)} in {steps.release_folder}")
    for part, why in steps.skipped().items():
        console.print(f"released without {part}: {why}")


@app.command()
@step
def evaluate(steps: Retraining) -> None:
    """Measure it beside its baselines, compare it with the champion, and write the report."""
    gates = steps.evaluate()
    console.print(*evaluation_tables(steps.report()), gate_table(gates, steps.release))
    console.print(f"report  {steps.folder / 'report.html'}", soft_wrap=True)
    console.print(f"figures {steps.folder / 'evaluation.json'}", soft_wrap=True)


@app.command()
@step
def register(steps: Retraining) -> None:
    """Put the release and its run into the registry; this promotes nothing."""
    found = steps.register()
    console.print(f"release {found.release} is version {found.version} of {steps.use_case.id}")


@app.command()
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
    end(steps.release, promoted=promoted)


@app.command()
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


app.command("retrain")(with_options(retrain))
app.command("drift")(drift)
app.command("off-policy")(off_policy)
app.command()(monitor)
app.add_typer(experiment, name="experiment")
app.command("rollback")(rollback)
app.add_typer(releases, name="releases")


def _together() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _run() -> None:
    if not _together():
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
        with job("training_jobs", " ".join(sys.argv[1:2])):
            _run()
    except MatchloopError as error:
        Console(stderr=True).print(f"[red]{error.reason}[/]: {error.message}")
        sys.exit(2)


if __name__ == "__main__":
    if _together():
        end_at_once(main)
    main()
