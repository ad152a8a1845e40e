"""Plots that go with a run, as PNG files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from training_jobs.search import TrialTold

COLUMNS = 2


def plot_curves(curves: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw each curve by step in a panel of its own; no curves, no file."""
    from matplotlib.figure import Figure

    shown = {name: curve for name, curve in curves.items() if len(curve)}
    if not shown:
        return
    rows = math.ceil(len(shown) / COLUMNS)
    figure = Figure(figsize=(5.0 * COLUMNS, 3.0 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for panel, (name, curve) in zip(panels, shown.items(), strict=False):
        panel.plot(range(1, len(curve) + 1), curve, marker="o", markersize=3)
        panel.set_title(name.replace("_", " "))
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    figure.savefig(path, dpi=100)


def plot_history(trials: Sequence[TrialTold], title: str, path: Path) -> None:
    """Draw what trials reached, pruned ones where they were when they ended, and the best so far."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.5), layout="constrained")
    panel = figure.subplots()
    complete = [(trial.number, trial.quality) for trial in trials if trial.quality is not None]
    panel.plot(*zip(*complete, strict=True), "o", markersize=4, label="complete")
    pruned = [(t.number, t.steps[max(t.steps)]) for t in trials if t.quality is None and t.steps]
    if pruned:
        panel.plot(*zip(*pruned, strict=True), "x", color="grey", label="pruned")
    panel.step([n for n, _ in complete], best_so_far([q for _, q in complete]), where="post", label="best")
    panel.set(title=title, xlabel="trial", ylabel="NDCG on validation")
    panel.grid(alpha=0.3)
    panel.legend()
    figure.savefig(path, dpi=100)


def best_so_far(values: Sequence[float]) -> list[float]:
    """Return the greatest of the values up to each."""
    return [max(values[: at + 1]) for at in range(len(values))]
