"""matchloop on one machine: everything running, a data set loaded, the loop demonstrated."""

from __future__ import annotations

import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import grpc
import typer
from rich.console import Console
from rich.table import Table

from matchloop.errors import MatchloopError, Reason
from matchloop.rpc.status import from_rpc_error
from matchloop.rpc.validation import utc_now
from matchloop.usecase import load_use_cases
from playground.clients import Addresses, Clients
from playground.local_security import LocalSecurity
from playground.stack import Ports, Stack, StartGivenUp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from playground.load import LoadCount

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
SECRETS_FOLDER = "secrets"
_WIDTH = 120
"""Columns where no terminal says how many there are: tables must not wrap in a log."""

console = Console() if Console().is_terminal else Console(width=_WIDTH)
errors = Console(stderr=True, style="red", highlight=False)

UseCaseFolders = Annotated[
    list[Path] | None,
    typer.Option(
        "--use-cases", help="Folder with use cases of your own (TOML); may be repeated.", exists=True
    ),
]


@app.command()
def up(
    folder: Annotated[
        Path, typer.Option(help="Database, registry, caches and logs; kept between runs.")
    ] = Path("matchloop-data"),
    use_cases: UseCaseFolders = None,
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Any free ports in place of 7300 to 7302.")
    ] = False,
    secure: Annotated[
        bool,
        typer.Option("--secure", help="With certificates of both sides, and tokens; see docs/secure.md."),
    ] = False,
) -> None:
    """Run PostgreSQL and the three services until Ctrl-C."""
    security = LocalSecurity(folder / SECRETS_FOLDER) if secure else None
    stack = Stack(
        folder,
        ports=Ports.free() if free_ports else Ports(),
        use_case_folders=tuple(use_cases or ()),
        security=security,
    )
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    with console.status("starting PostgreSQL and the services"):
        try:
            stack.start(give_up=stopping.is_set)
        except StartGivenUp:
            console.print("stopped before it was up")
            return
    try:
        _show(stack, security)
        while not stopping.wait(0.5):
            if dead := stack.dead():
                errors.print(
                    f"{', '.join(dead)} ended by itself; see {stack.folder / 'logs'}", soft_wrap=True
                )
                raise typer.Exit(1)
    finally:
        console.print("stopping: new calls are refused, those in flight are finished")
        codes = stack.stop()
    if any(codes.values()):
        errors.print(f"not all stopped cleanly: {codes}", soft_wrap=True)
        raise typer.Exit(1)
    console.print("stopped")


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Data set: dataset.toml and CSV files.", exists=True)],
    feedback: Annotated[str, typer.Option(help="Address of feedback_svc.")] = "127.0.0.1:7301",
    use_cases: UseCaseFolders = None,
) -> None:
    """Load a data set through the services; run again, it completes what is missing.

    Exit codes: 0 all is loaded; 1 all but what is broken, each named by file, line and column; 2 the data set
    as a whole is wrong; 3 feedback_svc cannot be reached.
    """
    from playground.dataset import read_dataset
    from playground.load import load_dataset

    with console.status(f"reading {folder}"):
        dataset = read_dataset(folder, load_use_cases(*(use_cases or ())), now=utc_now())
    with Clients(Addresses(feedback=feedback, candidate=feedback, ranking=feedback)) as clients:
        clients.wait_for_feedback(seconds=2.0)
        for fault in dataset.faults:
            what = "value" if fault.row_kept else "row"
            errors.print(f"{what} left out: {fault}", soft_wrap=True, markup=False)
        counts = load_dataset(clients, dataset, console)
    _show_counts(counts)
    if dataset.faults:
        errors.print(
            f"{dataset.rows_left_out} rows and {dataset.values_left_out} single values were left out;"
            " mend them and import again",
            soft_wrap=True,
        )
        raise typer.Exit(1)


@app.command()
def market(
    feedback: Annotated[str, typer.Option(help="Address of feedback_svc.")] = "127.0.0.1:7301",
    seed: Annotated[int, typer.Option(help="Fixes the market and what happened in it.")] = 7,
    developers: Annotated[int, typer.Option(min=10, max=100_000)] = 400,
    startups: Annotated[int, typer.Option(min=10, max=100_000)] = 500,
    events: Annotated[float, typer.Option(min=0.0, help="Mean number of events of a subject.")] = 8.0,
) -> None:
    """Load the built-in market of developers and startups, and its history: something to train on."""
    import numpy as np

    from playground.load import load_market
    from playground.market import Market
    from playground.market.generated import Sizes

    sizes = Sizes(developers=developers, investors=2, startups=startups, events=events)
    made = Market.generated(load_use_cases(), seed=seed, now=utc_now(), sizes=sizes)
    with Clients(Addresses(feedback=feedback, candidate=feedback, ranking=feedback)) as clients:
        clients.wait_for_feedback(seconds=2.0)
        wanted = made.only(("developer_startup", "startup_developer"))
        _show_counts(load_market(clients, wanted, np.random.default_rng(seed), console))


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Option(help="A data set in place of the built-in market.", exists=True)
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the report and demo.json go.")] = Path("demo-report"),
    rounds: Annotated[
        int, typer.Option(min=2, max=20, help="Rounds of lists; a retraining between two.")
    ] = 4,
    subjects: Annotated[int, typer.Option(min=20, max=5000, help="Subjects who ask in each round.")] = 300,
    entities: Annotated[
        int,
        typer.Option(min=50, help="Of a data set, so many of each kind play: the busiest."),
    ] = 800,
    seed: Annotated[int, typer.Option(help="Fixes the market and every reaction.")] = 7,
) -> None:
    """Close the loop: serve, react, retrain, gate, promote, serve better; print the table."""
    from playground.demo.run import run_demo

    with tempfile.TemporaryDirectory(prefix="matchloop-demo-") as folder:
        paid = run_demo(
            data=data,
            out=out,
            folder=Path(folder),
            rounds=rounds,
            subjects=subjects,
            entities=entities,
            seed=seed,
            console=console,
        )
    raise typer.Exit(0 if paid else 1)


@app.command()
def dislikes(
    use_case: Annotated[
        list[str] | None,
        typer.Option("--use-case", help="user_movie or investor_startup; may be repeated; else both."),
    ] = None,
    reason: Annotated[
        list[str] | None, typer.Option("--reason", help="Only this reason; may be repeated.")
    ] = None,
) -> None:
    """Show what a dislike does: its receipt, the next list, and the list after the half-life.

    Each reason is played by a subject of its own on a small catalogue, through the three services and a
    PostgreSQL of their own, whose clock is then set 90 days on.
    """
    from playground.dislikes.run import run_dislikes

    with tempfile.TemporaryDirectory(prefix="matchloop-dislikes-") as folder:
        Path(folder).chmod(0o755)
        run_dislikes(use_cases=use_case or (), reasons=reason or (), folder=Path(folder), console=console)


def _show_counts(counts: Mapping[str, LoadCount]) -> None:
    table = Table("loaded", "written", "there before")
    for name, count in counts.items():
        table.add_row(name, f"{count.stored:,}", f"{count.already_there:,}")
    console.print(table)


def _show(stack: Stack, security: LocalSecurity | None) -> None:
    table = Table("service", "address", "call it")
    addresses = stack.addresses
    table.add_row("ranking_svc", addresses.ranking, "Recommend, Rank")
    table.add_row("feedback_svc", addresses.feedback, "UpsertEntities, RecordInteractions, RecordDislike")
    table.add_row("candidate_svc", addresses.candidate, "GetCandidates")
    console.print(table)
    console.print(f"database {stack.database_url}\nregistry {stack.registry_uri}", soft_wrap=True)
    console.print(f"logs     {stack.folder / 'logs'}", soft_wrap=True)
    flags, scheme = "--http2-prior-knowledge", "http"
    if security is not None:
        scheme = "https"
        flags = _show_secrets(security)
    console.print(
        f"what is there: buf curl --protocol grpc {flags} --list-services {scheme}://{addresses.ranking}",
        soft_wrap=True,
    )
    console.print("Ctrl-C stops everything")


def _show_secrets(security: LocalSecurity) -> str:
    """Print what commands need; return what `buf curl` does."""
    shown = security.calling()
    console.print("commands that call them need:")
    for name, value in shown.items():
        console.print(f"export {name}={value}", soft_wrap=True, highlight=False)
    authority, certificate, key, token = shown.values()
    bearer = f'--reflect-header "authorization: Bearer $(cat {token})"'
    return f"--cacert {authority} --cert {certificate} --key {key} {bearer}"


def main() -> None:
    """Entry point: errors of ours are told in a line, not in a traceback."""
    try:
        app()
    except MatchloopError as error:
        raise SystemExit(_tell(error)) from None
    except grpc.RpcError as error:
        raise SystemExit(_tell(from_rpc_error(error, upstream="the service"))) from None


def _tell(error: MatchloopError) -> int:
    """Print an error, a line for each violated field; return the exit code."""
    lines = [f"{violation.field}: {violation.description}" for violation in error.violations]
    errors.print("\n".join(lines) or error.message, soft_wrap=True, markup=False)
    return 3 if error.reason is Reason.UPSTREAM_UNAVAILABLE else 2


if __name__ == "__main__":
    main()
