"""Charts, and drawing them as SVG files: bars, bars in parts, or lines, in one panel or several."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes


Spread = tuple[float, float, float]
"""Least, middle and greatest of the repeats, or an interval."""


class Kind(StrEnum):
    """How a chart is drawn."""

    BARS = "bars"
    STACKED = "stacked"
    LINES = "lines"


@dataclass(frozen=True, slots=True)
class Panel:
    """Values by series and label; labels of lines are numbers."""

    series: Mapping[str, Mapping[str, Spread]]
    title: str = ""

    @property
    def labels(self) -> list[str]:
        """Every label of any series, in the order they come."""
        return list(dict.fromkeys(label for values in self.series.values() for label in values))


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot.

    Parameters
    ----------
    axis
        What values are, with their unit.
    steps
        What the labels of lines are.
    mark
        A value that a line is drawn at.
    """

    title: str
    axis: str
    panels: Sequence[Panel]
    kind: Kind = Kind.BARS
    logarithmic: bool = False
    steps: str = ""
    mark: float | None = None


COLOURS = ("#1b6ca8", "#d17b0f", "#2a9d8f", "#7b5ea7", "#b03060", "#8a8a8a", "#a68a00", "#5f6b3a")
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "matchloop",  # a fixed salt keeps the file the same for the same figures
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ececec",
}
WIDTH, LINE, LEAST = 7.5, 0.17, 1.6
"""Inches: of the figure, of a bar, of a panel."""


def draw(chart: Chart, path: Path) -> None:
    """Draw a chart to an SVG file."""
    heights = [_height(panel, chart.kind) for panel in chart.panels]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.6 + sum(heights)), layout="constrained")
        figure.suptitle(chart.title)
        rows = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights).ravel()
        for axes, panel in zip(rows, chart.panels, strict=True):
            _DRAWN[chart.kind](axes, panel)
            axes.set_title(panel.title, loc="left", fontsize=9)
            _finish(axes, chart)
        figure.savefig(path, metadata={"Date": None})


def _height(panel: Panel, kind: Kind) -> float:
    if kind is Kind.LINES:
        return 2.4
    lines = len(panel.labels) * (1 if kind is Kind.STACKED else 0.5 + len(panel.series))
    return max(LEAST, 0.7 + LINE * lines * (1.6 if kind is Kind.STACKED else 1.0))


def _bars(axes: Axes, panel: Panel) -> None:
    """Draw a group of bars a label, a bar a series, with what the repeats spread over."""
    at, thick = np.arange(len(panel.labels)), 0.8 / len(panel.series)
    for number, (name, values) in enumerate(panel.series.items()):
        low, middle, high = np.array([values.get(label, (np.nan,) * 3) for label in panel.labels]).T
        whiskers = np.maximum(0.0, [middle - low, high - middle])
        place = at + (number - (len(panel.series) - 1) / 2) * thick
        axes.barh(place, middle, thick, color=COLOURS[number % len(COLOURS)], label=name)
        axes.errorbar(middle, place, xerr=whiskers, fmt="none", ecolor="#333333", elinewidth=0.8)
    axes.set_yticks(at, panel.labels)
    axes.invert_yaxis()


def _stacked(axes: Axes, panel: Panel) -> None:
    at, left = np.arange(len(panel.labels)), np.zeros(len(panel.labels))
    for number, (name, values) in enumerate(panel.series.items()):
        part = np.array([values[label][1] if label in values else 0.0 for label in panel.labels])
        axes.barh(at, part, 0.7, left=left, color=COLOURS[number % len(COLOURS)], label=name)
        left += part
    axes.set_yticks(at, panel.labels)
    axes.invert_yaxis()


def _lines(axes: Axes, panel: Panel) -> None:
    for number, (name, values) in enumerate(panel.series.items()):
        steps = [float(label) for label in values]
        middle = [each[1] for each in values.values()]
        axes.plot(steps, middle, "o-", ms=4, color=COLOURS[number % len(COLOURS)], label=name)


_DRAWN = {Kind.BARS: _bars, Kind.STACKED: _stacked, Kind.LINES: _lines}


def _finish(axes: Axes, chart: Chart) -> None:
    lines = chart.kind is Kind.LINES
    (axes.set_ylabel if lines else axes.set_xlabel)(chart.axis)
    if lines:
        axes.set_xlabel(chart.steps)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    elif chart.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    if chart.mark is not None:
        (axes.axhline if lines else axes.axvline)(chart.mark, color="#333333", linewidth=0.8, linestyle="--")
    if any(axes.get_legend_handles_labels()[1]):
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
