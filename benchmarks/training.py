"""How fast the recipes are, beside the bare library.

``python -m benchmarks.training --out FILE.json [--only NAME] [--quick]``

Each target is a function in a module of its own that returns its figures and a `Target`. A full run takes
some minutes; `--quick` takes less data and fewer repeats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.report import Out, Target, about, targets_table, write_report
from benchmarks.training_als import als_vs_bare
from benchmarks.two_tower_speed import two_tower_vs_bare

TARGETS: dict[str, Callable[..., tuple[dict[str, Any], Target]]] = {
    "two_tower_vs_bare": two_tower_vs_bare,
    "als_vs_bare": als_vs_bare,
}

QUICK: dict[str, dict[str, int]] = {
    "two_tower_vs_bare": {"repeats": 3},
    "als_vs_bare": {"subjects": 8000, "items": 4000, "pairs": 200_000, "turns": 3},
}

console = Console()


def main(
    out: Out = None,
    only: Annotated[list[str] | None, typer.Option(help="Only these targets.")] = None,
    *,
    quick: Annotated[bool, typer.Option(help="Less data, fewer repeats.")] = False,
) -> None:
    """Measure every target and print the table."""
    unknown = set(only or ()) - set(TARGETS)
    if unknown:
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(TARGETS)}")
    told = about()
    figures: dict[str, Any] = {}
    targets: list[Target] = []
    for name, measure in TARGETS.items():
        if only and name not in only:
            continue
        console.print(f"{name} …")
        figures[name], target = measure(say=console.print, **(QUICK[name] if quick else {}))
        targets.append(target)
    console.print(targets_table("training", targets))
    write_report(out, told, figures, targets)


if __name__ == "__main__":
    typer.run(main)
