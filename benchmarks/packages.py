"""What each deployable installs, how large it is, and whether torch is where none may be.

``python -m benchmarks.packages [--out FILE.json]`` follows what pyproject.toml asks for through the metadata
of the packages that are installed here, which is what pip goes by, and adds up their files.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

from benchmarks.report import Better, Out, Target, about, targets_table, write_report

if TYPE_CHECKING:
    from collections.abc import Iterable

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
SERVING = ("feedback", "candidate", "ranking")
IMAGES = {
    **{name: (name, "tracing") for name in SERVING},
    "training": ("training", "feedback", "tracing"),
    "training-spark": ("training", "feedback", "tracing", "spark"),
    "registry": ("registry",),
}
"""The extras in each image: as deploy/docker/Dockerfile installs them."""
BARRED = ("torch", "implicit", "pandas", "scikit-learn")
"""What serving does without."""
MEGABYTE = 1_000_000


def asked_for(image: str) -> list[str]:
    """Return what pyproject.toml asks for, as requirements."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = (need for extra in IMAGES[image] for need in project["optional-dependencies"][extra])
    return [*project["dependencies"], *extras]


def closure(requirements: Iterable[str]) -> dict[str, Distribution]:
    """Return the packages that pip installs for requirements, by name.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        If this environment lacks one of them.
    """
    found: dict[str, Distribution] = {}
    asked: set[tuple[str, str]] = set()
    waiting = [pair for each in requirements for pair in _named(Requirement(each))]
    while waiting:
        name, extra = pair = waiting.pop()
        if pair in asked:
            continue
        asked.add(pair)
        found[name] = distribution(name)
        for need in map(Requirement, found[name].requires or ()):
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                waiting += _named(need)
    return found


def _named(need: Requirement) -> list[tuple[str, str]]:
    """Return a requirement's package, as pip compares names, without an extra and with each it asks for."""
    name = re.sub(r"[-_.]+", "-", need.name).lower()
    return [(name, extra) for extra in ("", *need.extras)]


def sizes(image: str) -> dict[str, int]:
    """Return the bytes of every package in an image, the largest first."""
    counted = {name: _bytes(each) for name, each in closure(asked_for(image)).items()}
    return dict(sorted(counted.items(), key=lambda one: -one[1]))


def _bytes(found: Distribution) -> int:
    paths = (Path(str(file.locate())) for file in found.files or () if file.suffix != ".pyc")
    return sum(path.stat().st_size for path in paths if path.is_file())


def table(measured: dict[str, dict[str, int]]) -> Table:
    """Return the sums for a terminal."""
    shown = Table("image", "packages", "MB", "torch", "largest, MB", box=None)
    for image, packages in measured.items():
        largest = ", ".join(f"{name} {size / MEGABYTE:.0f}" for name, size in list(packages.items())[:3])
        total = f"{sum(packages.values()) / MEGABYTE:.0f}"
        shown.add_row(image, str(len(packages)), total, "yes" if "torch" in packages else "no", largest)
    return shown


def main(out: Out = None) -> None:
    """Print what each image installs."""
    told = about()
    measured = {image: sizes(image) for image in IMAGES}
    console = Console(width=110)
    console.print(table(measured))
    barred = [(image, sum(name in measured[image] for name in BARRED)) for image in SERVING]
    targets = [Target(f"barred_in_{i}", n, 0, Better.LOWER, n, n) for i, n in barred]
    write_report(out, told, {"bytes": measured}, targets)
    console.print(targets_table("packages", targets))


if __name__ == "__main__":
    typer.run(main)
