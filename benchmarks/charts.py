"""What the plot of each benchmark shows: figures of a report, as values by series and label."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.plots import Chart, Kind, Panel, draw
from benchmarks.report import Better

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.plots import Spread

    Figures = Mapping[str, Any]


def plot_report(report: Path) -> Path:
    """Draw a report that was written; return the file, which lies beside it."""
    whole = json.loads(report.read_text(encoding="utf-8"))
    path = report.with_suffix(".svg")
    draw(chart_of(report.stem, whole["figures"], whole["targets"]), path)
    return path


def chart_of(name: str, figures: Figures, targets: Sequence[Mapping[str, Any]]) -> Chart:
    """Return a benchmark's chart; where it has none of its own, its targets beside their bounds."""
    own = _CHARTS.get(name)
    return own(figures) if own else _targets(name, targets)


def _targets(name: str, targets: Sequence[Mapping[str, Any]]) -> Chart:
    found = {
        f"{each['name']}, {'at most' if each['better'] == Better.LOWER else 'at least'} 1": _spread(
            [each[key] / each["bound"] for key in ("low", "measured", "high")]
        )
        for each in targets
        if each["bound"]
    }
    return Chart(name, "measured over its bound", [Panel({"": found})], mark=1.0)


def _exact(value: float) -> Spread:
    return (value, value, value)


def _spread(values: Iterable[float]) -> Spread:
    found = [float(value) for value in values]
    return (min(found), float(np.median(found)), max(found))


def _each(values: Mapping[str, float]) -> dict[str, Spread]:
    return {name: _exact(value) for name, value in values.items()}


def _steps(values: Iterable[float]) -> dict[str, Spread]:
    return {str(number): _exact(value) for number, value in enumerate(values, 1)}


def _packages(figures: Figures) -> Chart:
    megabytes = {
        image: {name: size / 1e6 for name, size in sizes.items()} for image, sizes in figures["bytes"].items()
    }
    weighed = {name: max(each.get(name, 0.0) for each in megabytes.values()) for name in _names(megabytes)}
    largest = sorted(weighed, key=weighed.__getitem__, reverse=True)[:6]
    series = {name: _each({i: each.get(name, 0.0) for i, each in megabytes.items()}) for name in largest}
    rest = {i: sum(v for name, v in each.items() if name not in largest) for i, each in megabytes.items()}
    parts = [Panel({**series, "others": _each(rest)})]
    return Chart("What each image installs", "10⁶ bytes", parts, Kind.STACKED)


def _names(by_label: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for each in by_label.values() for name in each))


def _security(figures: Figures) -> Chart:
    panel = Panel({"": _each(figures["median_micros"])})
    return Chart("A call, secured in each way", "median of a call, µs", [panel])


def _ingest(figures: Figures) -> Chart:
    title = f"{figures['rows']:,} reactions stored, over none"
    return Chart(title, "how much worse, 1: as good", [Panel({"": _each(figures["grown"])})], mark=1.0)


def _growth(figures: Figures) -> Chart:
    rows = figures["per_row"]
    parts = {
        name: {t: _exact(each[f"{name}_bytes"]) for t, each in rows.items()} for name in ("table", "index")
    }
    return Chart("What a row takes", "bytes", [Panel(parts)], Kind.STACKED)


def _list_reactions(figures: Figures) -> Chart:
    spans = {span: _spread(seconds) for span, seconds in figures["seconds"].items()}
    title = f"Summing up what came of lists, {figures['lists']:,} a week"
    return Chart(title, "seconds", [Panel({"": spans})], logarithmic=True)


def _retrieval(figures: Figures) -> Chart:
    by_method = figures["by_method_ms"]
    tiers = _names(by_method)
    series = {tier: _each({method: each[tier] for method, each in by_method.items()}) for tier in tiers}
    title = f"GetCandidates, {figures['items']:,} items; an empty call takes {figures['noop_ms']:.2f} ms"
    return Chart(title, "median, ms", [Panel(series)])


def _recommend(figures: Figures) -> Chart:
    loads = {name: each for name, each in figures["loads"].items() if "p50_ms" in each}
    series = {
        q: _each({name: each[f"{q}_ms"] for name, each in loads.items()}) for q in ("p50", "p95", "p99")
    }
    title = f"A list of ten, {figures['items']:,} items, beside an empty call"
    return Chart(title, "ms", [Panel(series)], logarithmic=True)


def _datasets(figures: Figures) -> Chart:
    sides = {"ours": "built", "by_hand": "by hand"}
    series = {
        told: _each({name: figures[name][side]["s"] for name in ("als", "two_tower", "ranker")})
        for side, told in sides.items()
    }
    title = f"Data sets of {figures['size']['interactions']:,} interactions"
    return Chart(title, "seconds", [Panel(series)])


def _learning_growth(figures: Figures) -> Chart:
    slopes: dict[str, dict[str, float]] = {}
    for each in figures["growth"]:
        slopes.setdefault(f"with {each['with']}", {})[each["stage"]] = each["time_slope"]
    series = {axis: _each(by_stage) for axis, by_stage in slopes.items()}
    return Chart("How time grows", "log-log slope, 1: linear", [Panel(series)], mark=1.0)


def _training(figures: Figures) -> Chart:
    series = {}
    if tower := figures.get("two_tower_vs_bare"):
        series["two_tower: speed over the bare loop's"] = _steps(tower["ratios"])
    if als := figures.get("als_vs_bare"):
        turns = zip(als["als_recipe_s"], als["als_bare_s"], strict=True)
        series["als: time over implicit's"] = _steps(own / bare for own, bare in turns)
    title = "Recipes beside the bare library"
    return Chart(title, "ratio", [Panel(series)], Kind.LINES, steps="repeat", mark=1.0)


def _spark_als(figures: Figures) -> Chart:
    quality = {library: _spread(run["ndcg"] for run in runs) for library, runs in figures.items()}
    return Chart("ALS by two libraries", "NDCG@10, by seed", [Panel({"": quality})])


def _ranking(figures: Figures) -> Chart:
    series = {
        market: {order: _interval(each["ndcg"]) for order, each in orders.items()}
        for market, orders in figures["orders"].items()
    }
    return Chart("Orders of the same candidates", "NDCG@10 on the hidden preference", [Panel(series)])


def _interval(told: Mapping[str, float], middle: str = "mean") -> Spread:
    return (told["low"], told[middle], told["high"])


def _reload(figures: Figures) -> Chart:
    found = figures["reload"]
    series = {
        side: {
            q: (
                min(group[f"{q}_{side}"] for group in found["groups"]),
                found["whole"][f"{q}_{side}"],
                max(group[f"{q}_{side}"] for group in found["groups"]),
            )
            for q in ("p50", "p99")
        }
        for side in ("before", "during")
    }
    return Chart("Lists while nothing is swapped, and during a swap", "ms", [Panel(series)])


def _tracing(figures: Figures) -> Chart:
    parts = ("feedback", "candidate", "ranking")
    series = {part: _each({name: each[part] for name, each in figures.items()}) for part in parts}
    return Chart("What a list costs, by traces kept", "processor time, ms", [Panel(series)], Kind.STACKED)


def _faults(figures: Figures) -> Chart:
    series = {q: _each({row["fails"]: row[q] for row in figures["rows"]}) for q in ("p50", "p99")}
    return Chart("Lists while it fails", "ms", [Panel(series)], logarithmic=True)


def _start_orders(figures: Figures) -> Chart:
    title = "From the last start to a whole list"
    return Chart(title, "seconds", [Panel({"": _each(figures["seconds"])})])


def _phases(title: str) -> Callable[[Figures], Chart]:
    def chart(figures: Figures) -> Chart:
        phases = figures["phases"]
        series = {
            name: _each({phase: each[f"{name}_ms"] for phase, each in phases.items()})
            for name in ("p50", "p99", "longest")
        }
        return Chart(title, "ms of a call", [Panel(series)], logarithmic=True)

    return chart


def _market(figures: Figures) -> Chart:
    panels = [
        Panel(
            {policy: _steps(each["ndcg"] for each in rounds) for policy, rounds in policies.items()},
            title=name,
        )
        for name, policies in figures.items()
    ]
    return Chart("Policies that learn, or not", "NDCG@10", panels, Kind.LINES, steps="round")


def _gates(figures: Figures) -> Chart:
    series = {
        rule: _each({name: value for name, value in rates.items() if name != "last_champion_ndcg"})
        for rule, rates in figures.items()
    }
    return Chart("How often a rule is wrong", "share of such candidates", [Panel(series)])


def _quality(figures: Figures) -> Chart:
    panels = [
        Panel(
            {
                tier: _each({method: each["ndcg@10"] for method, each in by_method.items()})
                for tier, by_method in tiers.items()
                if any(each["subjects"] for each in by_method.values())
            },
            title=use_case,
        )
        for use_case, tiers in figures.items()
    ]
    return Chart("Candidates, by tier", "NDCG@10", panels)


def _off_policy(figures: Figures) -> Chart:
    panels = [
        Panel(
            {"": {w: _interval(each[w], "rate") for w in ("on_policy", "ips", "snips", "dr")}},
            title=name.replace("_", " "),
        )
        for name, each in figures["open_bandit"].items()
    ]
    return Chart("Open Bandit: a policy's click rate from the other's log", "clicks a list", panels)


_CHARTS: dict[str, Callable[[Figures], Chart]] = {
    "packages": _packages,
    "security": _security,
    "ingest": _ingest,
    "growth": _growth,
    "list_reactions": _list_reactions,
    "retrieval": _retrieval,
    "recommend": _recommend,
    "datasets": _datasets,
    "learning_growth": _learning_growth,
    "training": _training,
    "ranking": _ranking,
    "reload": _reload,
    "tracing": _tracing,
    "faults": _faults,
    "start_orders": _start_orders,
    "backup": _phases("Calls while a backup is made"),
    "upgrade": _phases("Calls while the release is replaced"),
    "market": _market,
    "gates": _gates,
    "quality": _quality,
    "spark_als": _spark_als,
    "off_policy": _off_policy,
}
