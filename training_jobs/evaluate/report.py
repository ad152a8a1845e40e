"""The evaluation for people: one HTML file with its plots inside, and a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from rich.table import Table

from training_jobs.evaluate.evaluation import LISTS, ROUTED, WHOLE
from training_jobs.evaluate.metrics import METRICS
from training_jobs.evaluate.tiers import ALL

if TYPE_CHECKING:
    from training_jobs.evaluate.bootstrap import Interval
    from training_jobs.evaluate.evaluation import Evaluation

ACCURACY, OTHERS = ("hit", "recall", "map"), ("precision", "f1", "mrr", *LISTS, *WHOLE)
"""Metrics of the terminal's tables."""

REFERENCES = ("popular", "random", "item_knn", "ease")


@dataclass(frozen=True, slots=True)
class Choice:
    """Something that was chosen: what it came to, and why."""

    what: str
    chosen: str
    why: str


@dataclass(frozen=True, slots=True)
class Background:
    """What the report tells beside the measurements.

    Parameters
    ----------
    created
        When the release was made, for people.
    snapshot
        Watermark, hash and counts of the snapshot.
    manifests
        The data sets' manifests, as JSON holds them.
    settings
        All settings with dotted names.
    curves
        By name, a value an epoch.
    gates
        As `Gate.to_json` gives them; empty while nobody asked.
    skipped
        By part that the release does not have: why.
    """

    created: str = ""
    snapshot: Mapping[str, Any] = field(default_factory=dict)
    manifests: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    choices: Sequence[Choice] = ()
    gates: Sequence[Mapping[str, Any]] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)


def write_report(path: Path, evaluation: Evaluation, background: Background) -> None:
    """Write the report to `path`: HTML that needs no other file and no network."""
    from training_jobs.evaluate import plots  # and matplotlib, which few commands need

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = figure
    template = environment.from_string((Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8"))
    metrics = [f"{name}@{evaluation.k}" for name in (*METRICS, *LISTS, *WHOLE)]
    drawn = {
        "parts": plots.ndcg_by_part(evaluation),
        "cuts": plots.ndcg_by_cut(evaluation),
        "exposure": plots.exposure_curves(evaluation),
        "novelty": plots.accuracy_and_novelty(evaluation),
        "training": plots.training_curves(background.curves),
    }
    text = template.render(
        evaluation=evaluation,
        background=background,
        metrics=metrics,
        best={name: _best(evaluation, name, metrics) for name in evaluation.parts},
        headline=headline(evaluation),
        plots=drawn,
        routed=ROUTED,
        all=ALL,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def headline(evaluation: Evaluation) -> list[str]:
    """Return the outcome in sentences: what is served, beside each reference, with what chance explains."""
    whole = evaluation.parts[ALL]
    metric = f"ndcg@{evaluation.k}"
    if ROUTED not in whole.methods:
        return []
    own = whole.methods[ROUTED][metric]
    reached = f"NDCG@{evaluation.k} {interval(own)}"
    said = [f"What the tiers are given reaches {reached} on {whole.subjects:,} subjects (95 % interval)."]
    for method in REFERENCES:
        if method not in whole.behind:
            continue
        gap, theirs = whole.behind[method], whole.methods[method][metric].mean
        verdict = "ahead of" if gap.low > 0 else "behind" if gap.high < 0 else "not clearly different from"
        said.append(f"It is {verdict} {method} ({theirs:.4f}): difference {interval(gap, sign=True)}.")
    return said


def interval(found: Interval, *, sign: bool = False) -> str:
    """Return a mean and its interval as text."""
    form = "+.4f" if sign else ".4f"
    return f"{found.mean:{form}} ({found.low:{form}} … {found.high:{form}})"


def figure(value: Any) -> str:
    """Return a number as short as a table wants it; text as it is."""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _best(evaluation: Evaluation, part: str, metrics: Sequence[str]) -> dict[str, float]:
    """Return the greatest mean of each metric; for the Gini index, the least."""
    methods = evaluation.parts[part].methods.values()
    choose = {metric: min if metric.startswith("gini") else max for metric in metrics}
    return {metric: choose[metric](found[metric].mean for found in methods) for metric in metrics}


def evaluation_tables(evaluation: Evaluation) -> list[Table]:
    """Return the measurements as tables for a terminal: accuracy by part, and the lists of all subjects."""
    k = evaluation.k
    accuracy = Table("part", "method", "NDCG", *ACCURACY, title=f"accuracy at {k}, 95 % intervals")
    accuracy.columns[2].no_wrap = True
    for name, part in evaluation.parts.items():
        for at, (method, found) in enumerate(part.methods.items()):
            own = found[f"ndcg@{k}"]
            cells = [f"{own.mean:.4f} {own.low:.3f}…{own.high:.3f}"]
            cells += [f"{found[f'{metric}@{k}'].mean:.3f}" for metric in ACCURACY]
            told = name if at == 0 else f"({part.subjects:,})" if at == 1 else ""
            accuracy.add_row(told, method, *cells, style="bold" if method == ROUTED else "")
        accuracy.add_section()
    lists = Table("method", *OTHERS, title=f"lists of {k} for all subjects")
    for method, found in evaluation.parts[ALL].methods.items():
        cells = [f"{found[f'{metric}@{k}'].mean:.3f}" for metric in OTHERS]
        lists.add_row(method, *cells, style="bold" if method == ROUTED else "")
    return [accuracy, lists]
