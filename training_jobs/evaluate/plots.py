"""The report's plots, as inline SVG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from training_jobs.evaluate.evaluation import ROUTED
from training_jobs.evaluate.tiers import ALL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from training_jobs.evaluate.evaluation import Evaluation

COLOURS = {
    ROUTED: "#1b6ca8",
    "als": "#2a9d8f",
    "two_tower": "#d17b0f",
    "content": "#7b5ea7",
    "ensemble": "#b03060",
    "popular": "#8a8a8a",
    "item_knn": "#5f6b3a",
    "ease": "#a68a00",
    "random": "#c4c4c4",
}
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "matchloop",  # a fixed salt keeps ids, and so the report, the same from run to run
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#ececec",
    "axes.axisbelow": True,
}


def ndcg_by_part(evaluation: Evaluation) -> str:
    """Draw NDCG@k with intervals: a panel a part, a row a method, the best on top."""
    names = list(evaluation.parts)
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(11, 0.7 + lines * (0.5 + 0.22 * len(evaluation.methods))), layout="constrained"
        )
        grid = figure.subplots(lines, columns, squeeze=False).reshape(-1)
        for axes, name in zip(grid, names, strict=False):
            _intervals(axes, evaluation, name)
        for axes in grid[len(names) :]:
            axes.set_visible(False)
        return _svg(figure)


def _intervals(axes: Axes, evaluation: Evaluation, name: str) -> None:
    part = evaluation.parts[name]
    metric = f"ndcg@{evaluation.k}"
    order = sorted(part.methods, key=lambda method: part.methods[method][metric].mean)
    for at, method in enumerate(order):
        found, colour = part.methods[method][metric], _colour(method)
        axes.plot([found.low, found.high], [at, at], color=colour, lw=2.2, solid_capstyle="butt", alpha=0.55)
        axes.plot([found.mean], [at], "o", color=colour, ms=7 if method == ROUTED else 5)
    axes.set_yticks(range(len(order)), order)
    axes.set_xlim(left=0.0)
    axes.grid(visible=False, axis="y")
    title = "all pairs" if name == ALL else name.replace("_", " ")
    axes.set_title(f"{title}  ({part.subjects:,} subjects)", fontsize=9, loc="left")


def ndcg_by_cut(evaluation: Evaluation) -> str:
    """Draw NDCG at each cut-off, a line a method, with the interval of `routed` shaded."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for method in evaluation.methods:
            found = evaluation.ndcg[method]
            colour, wide = _colour(method), method == ROUTED
            axes.plot(
                evaluation.cuts,
                [i.mean for i in found],
                "o-",
                color=colour,
                label=method,
                ms=3.5,
                lw=2.2 if wide else 1.3,
                zorder=3 if wide else 2,
            )
            if wide:  # the others' would hide one another
                low, high = [i.low for i in found], [i.high for i in found]
                axes.fill_between(evaluation.cuts, low, high, color=colour, alpha=0.12, lw=0)
        axes.set_xscale("log")
        axes.set_xticks(evaluation.cuts, [str(cut) for cut in evaluation.cuts])
        axes.minorticks_off()
        axes.set_xlabel("K")
        axes.set_ylim(bottom=0.0)
        axes.set_ylabel("NDCG@K")
        axes.legend(frameon=False, fontsize=8, ncols=2)
        return _svg(figure)


def exposure_curves(evaluation: Evaluation) -> str:
    """Draw the Lorenz curves of exposure; the diagonal is a catalogue that is shown evenly."""
    metric = f"gini@{evaluation.k}"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="#222222", lw=0.8, ls=":")
        for method, curve in evaluation.lorenz.items():
            share = [at / (len(curve) - 1) for at in range(len(curve))]
            value = evaluation.parts[ALL].methods[method][metric].mean
            axes.plot(
                share,
                curve,
                color=_colour(method),
                lw=2.2 if method == ROUTED else 1.3,
                label=f"{method}  {value:.2f}",
            )
        axes.set_xlabel("share of the catalogue, least shown first")
        axes.set_ylabel("share of exposure")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.legend(frameon=False, fontsize=8, title="Gini index", title_fontsize=8, loc="upper left")
        return _svg(figure)


def accuracy_and_novelty(evaluation: Evaluation) -> str:
    """Draw each method's NDCG against the novelty of its lists, with both intervals."""
    metrics = evaluation.parts[ALL].methods
    k = evaluation.k
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for method, found in metrics.items():
            x, y = found[f"novelty@{k}"], found[f"ndcg@{k}"]
            axes.errorbar(
                [x.mean],
                [y.mean],
                xerr=[[x.mean - x.low], [x.high - x.mean]],
                yerr=[[y.mean - y.low], [y.high - y.mean]],
                fmt="o",
                color=_colour(method),
                ms=7 if method == ROUTED else 5,
                elinewidth=1.0,
                alpha=0.9,
                label=method,
            )
        axes.set_xlabel(f"novelty@{k}: mean self-information, bits")
        axes.set_ylabel(f"NDCG@{k}")
        axes.set_ylim(bottom=0.0)
        axes.legend(frameon=False, fontsize=8)
        return _svg(figure)


def training_curves(curves: Mapping[str, Sequence[float]]) -> str:
    """Draw what training recorded by epoch, a panel a curve; nothing for none."""
    drawn = {name: values for name, values in curves.items() if len(values)}
    if not drawn:
        return ""
    columns = min(4, len(drawn))
    lines = -(-len(drawn) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 0.3 + 1.9 * lines), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False).reshape(-1)
        for axes, (name, values) in zip(grid, drawn.items(), strict=False):
            axes.plot(range(1, len(values) + 1), values, "o-", color=COLOURS[ROUTED], ms=3, lw=1.4)
            axes.set_title(name.replace("_", " "), fontsize=9, loc="left")
            axes.set_xlabel("epoch", fontsize=8)
        for axes in grid[len(drawn) :]:
            axes.set_visible(False)
        return _svg(figure)


def _colour(method: str) -> str:
    return COLOURS.get(method, "#444444")


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
