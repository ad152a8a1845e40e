"""Do off-policy estimates hold on real logs? ``python -m benchmarks.off_policy --obd … --coat … --out FILE``.

Open Bandit: intervals of IPS, SNIPS and DR for the Thompson policy's click rate from uniform logs, which have
to cover its own rate; and the other way round, where the effective sample is small and has to be
warned of. Coat: how far inverse-propensity weights lower the error on ratings given by chance.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import coat as coats
from benchmarks import open_bandit as bandits
from benchmarks.report import Out, Target, about, targets_table, write_report
from matchloop.errors import MatchloopError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

console = Console()


def main(
    obd: Annotated[Path, typer.Option(help="Folder with random_men.csv.gz and bts_men.csv.gz.")],
    coat: Annotated[Path, typer.Option(help="Folder with train, test and propensities as .ascii.gz.")],
    out: Out = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeats.")] = 5,
) -> None:
    """Measure, print the tables and write the report; exit code 2 where a data set is missing."""
    needed = {obd: (bandits.UNIFORM, bandits.THOMPSON), coat: coats.FILES}
    missing = [str(folder / name) for folder, names in needed.items() for name in names]
    missing = [path for path in missing if not Path(path).is_file()]
    if missing:
        print(f"missing: {', '.join(missing)}; docs/off-policy.md says where they come from", file=sys.stderr)
        raise typer.Exit(2)
    told = about()
    figures: dict[str, Any] = {}
    targets: list[Target] = []
    try:
        for name, (found, reached) in {
            "open_bandit": bandits.open_bandit(obd, seeds=range(seeds)),
            "coat": coats.coat(coat, seeds=range(seeds)),
        }.items():
            figures[name] = found
            targets += reached
    except MatchloopError as error:
        print(error.message, file=sys.stderr)
        raise typer.Exit(2) from error
    console.print(bandit_table(figures["open_bandit"]), coat_table(figures["coat"]["runs"]))
    console.print(targets_table("off-policy", targets))
    write_report(out, told, figures, targets)


def bandit_table(figures: Mapping[str, Any]) -> Table:
    """Return each direction's estimates beside the policy's own rate."""
    table = Table("policy, log", "", "clicks in 1 000", "effective", "warnings", title="Open Bandit")
    for name, found in figures.items():
        size = f"{found['effective']:,.0f} of {found['rows']:,}"
        warnings = "; ".join(found["warnings"]) or "none"
        for which in ("on_policy", "ips", "snips", "dr"):
            rate, low, high = (1000.0 * found[which][key] for key in ("rate", "low", "high"))
            last = (size, warnings) if which == "ips" else ("", "")
            first = name.replace("_", " ") if which == "on_policy" else ""
            table.add_row(first, which.replace("_", " "), f"{rate:.2f} [{low:.2f}, {high:.2f}]", *last)
    return table


def coat_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    """Return each seed's test errors and the settings chosen for them."""
    table = Table("seed", "", "test MSE", "chosen on the training half", title="Coat")
    for run in runs:
        for name in ("unweighted", "weighted"):
            told = run[name]
            first = str(run["seed"]) if name == "unweighted" else ""
            table.add_row(first, name, f"{told['test_mse']:.3f}", told["setting"])
    return table


if __name__ == "__main__":
    typer.run(main)
