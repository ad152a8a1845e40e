"""``releases``: what is registered, what one is, how two differ; ``rollback``: back to the one before."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from matchloop.acts import ActKind
from matchloop.release import CHAMPION, MlflowRegistry
from matchloop.usecase import load_use_cases
from training_jobs.commands.console import console
from training_jobs.commands.registry_backup import backup, restore
from training_jobs.gates import Gate, Verdict, gate_table
from training_jobs.operations import Operations
from training_jobs.promotion import find_release, gates_of, roll_back
from training_jobs.release_diff import Described, Difference, difference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matchloop.release import RegisteredRelease

app = typer.Typer(help="What is registered: list, show, diff; backup, restore.", no_args_is_help=True)
app.command()(backup)
app.command()(restore)


UseCaseId = Annotated[str, typer.Argument(help="Id of a use case, e.g. investor_startup.")]
Named = Annotated[str, typer.Argument(help="A release's id, its version, or an alias.")]
RegistryUri = Annotated[
    str,
    typer.Option(
        "--registry", envvar="MATCHLOOP_REGISTRY_URI", help="MLflow: sqlite:///FILE or http(s)://SERVER."
    ),
]
WorkFolder = Annotated[Path, typer.Option("--work", help="Folder for fetched releases.")]
UseCaseFolder = Annotated[
    Path | None, typer.Option("--use-cases", help="Folder of further use cases in TOML.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON in place of tables.")]

_WORK, _REGISTRY = Path("var/training"), "sqlite:///var/mlflow.db"


@app.command("list")
def list_(use_case: UseCaseId, registry: RegistryUri = _REGISTRY, as_json: AsJson = False) -> None:
    """Print every release of a use case, the newest first, with what became of it."""
    known = MlflowRegistry(registry).list(use_case)
    if as_json:
        _print_json([told_of(each) for each in known])
        return
    console.print(list_table(known, use_case))


@app.command()
def show(
    use_case: UseCaseId,
    release: Named = CHAMPION,
    registry: RegistryUri = _REGISTRY,
    work: WorkFolder = _WORK,
    as_json: AsJson = False,
) -> None:
    """Print what a release is, what its gates said, and what became of it."""
    known = MlflowRegistry(registry)
    found = find_release(known, use_case, release)
    described = Described.of(known.fetch(found, work / use_case / "fetched"))
    if as_json:
        _print_json({**described.to_json(), **told_of(found)})
        return
    console.print(*show_tables(found, described))


@app.command()
def diff(
    use_case: UseCaseId,
    second: Named,
    first: Annotated[
        str, typer.Argument(help="What it is compared with; left out: the champion.")
    ] = CHAMPION,
    registry: RegistryUri = _REGISTRY,
    work: WorkFolder = _WORK,
    use_cases: UseCaseFolder = None,
    as_json: AsJson = False,
) -> None:
    """Print how a release differs from another one."""
    declared = load_use_cases(*([use_cases] if use_cases else []))[use_case]
    known, folder = MlflowRegistry(registry), work / use_case / "fetched"
    both = [
        Described.of(known.fetch(find_release(known, use_case, name), folder)) for name in (first, second)
    ]
    found = difference(both[0], both[1], declared)
    if as_json:
        _print_json(found.to_json())
        return
    console.print(*diff_tables(found))


def rollback(
    use_case: UseCaseId,
    reason: Annotated[str, typer.Option(help="Kept with the release that is taken back.")] = "by hand",
    registry: RegistryUri = _REGISTRY,
    feedback: Annotated[
        str | None,
        typer.Option(
            envvar="MATCHLOOP_FEEDBACK_ADDRESS", help="host:port of feedback_svc, which records it."
        ),
    ] = None,
) -> None:
    """Make the release champion again that was it before; services pick it up by themselves."""
    known = MlflowRegistry(registry)
    taken = known.resolve(use_case, CHAMPION)
    now = roll_back(known, use_case, reason=reason, clock=lambda: datetime.now(UTC), automatic=False)
    console.print(f"[green]{now.release} (version {now.version}) is champion of {use_case} again[/]")
    if feedback and taken is not None:
        with Operations(feedback) as record:
            record.record_act(
                use_case, ActKind.ROLLED_BACK, automatic=False, release=taken.release, reason=reason
            )


def state_of(known: RegisteredRelease) -> str:
    """Return what became of a release, in a word or two."""
    if known.aliases:
        return ", ".join(known.aliases)
    if known.rolled_back is not None:
        return "rolled back"
    if known.promoted is not None:
        return "was champion"
    refused = any(gate.verdict is Verdict.REFUSED for gate in gates_of(known))
    return "refused" if refused else "registered"


def told_of(known: RegisteredRelease) -> dict[str, Any]:
    """Return what the registry tells about a release, as JSON can hold it."""
    return {
        "release": known.release,
        "version": known.version,
        "state": state_of(known),
        "aliases": list(known.aliases),
        "run_id": known.run_id,
        "promoted": _time(known.promoted) or None,
        "forced": known.forced,
        "rolled_back": _time(known.rolled_back) or None,
        "rollback_reason": known.rollback_reason,
        "gates": [gate.to_json() for gate in gates_of(known)],
    }


def list_table(known: Sequence[RegisteredRelease], use_case: str) -> Table:
    """Return releases as a table."""
    columns = ("version", "release", "state", "promoted", "gates that refused it", "noted")
    table = Table(*columns, title=f"releases of {use_case}")
    for each in known:
        refused = ", ".join(_refusal(gate) for gate in gates_of(each) if gate.verdict is Verdict.REFUSED)
        noted = [f"forced over {each.forced}"] if each.forced else []
        if each.rolled_back is not None:
            noted.append(f"rolled back {_time(each.rolled_back)}: {each.rollback_reason}")
        colour = "green" if CHAMPION in each.aliases else "red" if each.rolled_back or refused else ""
        state = f"[{colour}]{state_of(each)}[/]" if colour else state_of(each)
        table.add_row(each.version, each.release, state, _time(each.promoted), refused, "; ".join(noted))
    return table


def show_tables(known: RegisteredRelease, described: Described) -> list[Table]:
    """Return one release as tables."""
    manifest = described.manifest
    facts = Table(show_header=False, title=known.release)
    rows = {
        "version": known.version,
        "state": state_of(known),
        "run": known.run_id or "",
        "created": _time(manifest.created),
        "promoted": _time(known.promoted),
        "forced over": known.forced,
        "rolled back": f"{_time(known.rolled_back)} {known.rollback_reason}".strip(),
        "schema": manifest.schema_fingerprint,
        "snapshot": f"watermark {manifest.snapshot.watermark}, {manifest.snapshot.manifest_sha256[:12]}",
    }
    for name, value in rows.items():
        if value:
            facts.add_row(name, value)
    parts = Table("part", "size", title="parts")
    for name, size in described.bytes_by_part.items():
        parts.add_row(name, _size(size))
    data = Table("data set", "rows", "labels", "sources", "from", "to", title="data")
    for name, told in described.provenance["data"].items():
        counts = (", ".join(f"{k} {v}" for k, v in told[field].items()) for field in ("labels", "sources"))
        span = ((told[field] or "")[:16] for field in ("first_time", "last_time"))
        data.add_row(name, f"{told['rows']:,}", *counts, *span)
    metrics = Table("metric", "value", title="metrics")
    for name, reached in manifest.metrics.items():
        metrics.add_row(name, f"{reached:.4f}")
    gates = gates_of(known)
    return [facts, parts, data, metrics, *([gate_table(gates, "gates")] if gates else [])]


def diff_tables(found: Difference) -> list[Table]:
    """Return a difference as tables: what is alike in both is left out, but for metrics and sizes."""
    names = [str(name) for name in found.facts["release"]]
    tables = []
    sections: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("release", {name: pair for name, pair in found.facts.items() if name != "release"}),
        ("part", {name: tuple("yes" if has else "no" for has in pair) for name, pair in found.parts.items()}),
        ("size", {name: tuple(_size(n) for n in pair) for name, pair in found.bytes.items()}),
        ("setting", found.settings),
        ("data", found.data),
    )
    for title, pairs in sections:
        if pairs:
            table = Table(title, *names)
            for name, pair in pairs.items():
                table.add_row(name, *("" if value is None else str(value) for value in pair))
            tables.append(table)
    metrics = Table("metric", *names, "difference")
    for name, (one, other) in found.metrics.items():
        told = ("" if value is None else f"{value:.4f}" for value in (one, other))
        apart = "" if one is None or other is None else f"{other - one:+.4f}"
        metrics.add_row(name, *told, apart)
    golden = Table("answer to the first's golden requests", "change")
    for name, change in found.golden.items():
        golden.add_row(name, ", ".join(f"{k} {_figure(v)}" for k, v in change.items()))
    return [*tables, metrics, golden]


def _refusal(gate: Gate) -> str:
    return f"{gate.name} {gate.value:.4g} (bound {gate.threshold:.4g})"


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _size(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.2f} MB"


def _time(when: datetime | None) -> str:
    return "" if when is None else when.isoformat(timespec="seconds")


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1))
