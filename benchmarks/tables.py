"""Write the pages' tables from the committed results: ``python -m benchmarks.tables``.

A table stands between two comments of its page, and is nobody's to edit: results of full runs are all it is
made of. The README has the targets that `SAID` has words for (``speed``); docs/benchmarks.md has all of them
(``all``), what ran (``runs``), and where a list's time goes (``stages``).
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from benchmarks.catalogue import BENCHMARKS, Benchmark, Size
from benchmarks.report import Better, Target
from benchmarks.running import targets_of

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results")
BLOCK = re.compile(
    r"(<!-- results: (?P<which>speed|all|runs|stages) -->\n).*?(<!-- end of results -->)", re.DOTALL
)
PAGES = ("README.md", "docs/benchmarks.md")
SAID = {
    "p50_vs_noop": "`Recommend`, one client, over an empty call",
    "p99_vs_p50_at_half": "`Recommend` at half of saturation: p99 over p50",
    "saturation_vs_noop": "lists a second at saturation, over empty calls",
    "memory_growth": "memory after 100 000 lists, over before",
    "batch_interactions_per_s": "interactions stored a second, one caller, batches of 500",
    "single_vs_noop_p50": "one interaction stored, over an empty call",
    "state_10000_vs_10_p50": "a subject's state with 10 000 events, over one with 10",
    "at_5m_vs_empty": "the worst of these with 5 million stored, over none",
    "export_interactions_per_s": "interactions exported a second",
    "search_vs_faiss": "vector search among a million without what was seen, over faiss alone",
    "recall_at_20": "recall of the true 20 nearest",
    "rpc_vs_noop_p50": "`GetCandidates` among a million, over an empty call",
    "memory_gb": "memory of a candidate_svc with a million items, 10⁹ bytes",
    "start_s": "its start from what it kept, seconds",
    "als_vs_duckdb": "ALS data set of 10 million interactions: time over hand-written SQL",
    "two_tower_vs_duckdb": "Two-Tower data set of the same: time over hand-written SQL",
    "ranker_vs_duckdb": "ranker data set of their million lists: time over hand-written SQL",
    "peak_gb": "memory of the job that builds and writes all three, 2³⁰ bytes",
    "two_tower_vs_bare": "Two-Tower: examples a second, over a bare PyTorch loop",
    "als_vs_bare": "ALS: time over `implicit` alone",
    "rerank_20_p50_ms": "ranking 20 candidates, ms",
    "ranker_1m_minutes": "a ranker from a million impressions, minutes",
    "reload_p99_ratio": "p99 of lists while a release is swapped in, over without",
    "spark_als_vs_implicit": "ALS on Spark: NDCG@10 over `implicit`'s",
    "added_micros": "TLS, client certificates, tokens and rates, on a call: µs",
    "processor_share_1_vs_off": "processor time of a list with every trace kept, over none",
    "processor_share_0.01_vs_off": "the same with one in a hundred",
}
"""What targets of speed measure, in words."""

STAGES = {
    "empty": "nothing",
    "state": "the subject's state, by feedback_svc",
    "candidates": "that, and candidates, by candidate_svc",
    "list": "that, and their order, by ranking_svc: a preview",
    "stored": "that, and the session stored: a list",
}
"""What calls of `benchmarks.recommend` do, one more than the other, in words."""


@dataclass(frozen=True, slots=True)
class Result:
    """A benchmark's committed result."""

    benchmark: Benchmark
    whole: dict[str, Any]

    @property
    def targets(self) -> tuple[Target, ...]:
        """Its targets."""
        return targets_of(self.whole)


def results(folder: Path = RESULTS) -> list[Result]:
    """Return the results of full runs, in the catalogue's order."""
    found = []
    for benchmark in BENCHMARKS:
        path = folder / f"{benchmark.name}.json"
        if path.is_file():
            whole = json.loads(path.read_text(encoding="utf-8"))
            if whole["size"] == Size.FULL:
                found.append(Result(benchmark, whole))
    return found


def page_with(page: str, text: str, found: Sequence[Result]) -> str:
    """Return a page's text with its tables as results have them; `page` is its path from the root."""
    to_results = os.path.relpath(RESULTS, (ROOT / page).parent)

    def table(block: re.Match[str]) -> str:
        if block["which"] == "runs":
            return f"{block[1]}\n{runs_table(found, to_results)}\n{block[3]}"
        if block["which"] == "stages":
            return f"{block[1]}\n{stages_table(found)}\n{block[3]}"
        chosen = [
            (each, target)
            for each in found
            for target in each.targets
            if target.name in SAID or block["which"] == "all"
        ]
        return f"{block[1]}\n{table_of(chosen, to_results)}\n{block[3]}"

    return BLOCK.sub(table, text)


def table_of(chosen: Sequence[tuple[Result, Target]], to_results: str) -> str:
    """Return targets as a Markdown table that links to results, with what they were measured on."""
    if not chosen:
        return "Nothing is measured yet: `make bench FULL=1`.\n"
    lines = ["| what | measured | repeats | target | | by |", "|---|---|---|---|---|---|"]
    lines += [_line(result, target, to_results) for result, target in chosen]
    machines = dict.fromkeys(_machine(result.whole) for result, _ in chosen)
    commits = dict.fromkeys(str(result.whole["commit"]) for result, _ in chosen)
    return "\n".join([*lines, "", f"On {'; '.join(machines)}; commit {', '.join(commits)}.", ""])


def runs_table(found: Sequence[Result], to_results: str) -> str:
    """Return every benchmark as a Markdown table: what it asks, how long it took or may take, its plot."""
    ran = {result.benchmark.name: result.whole for result in found}
    lines = ["| benchmark | asks | in full | commit | plot |", "|---|---|---|---|---|"]
    for each in BENCHMARKS:
        told = (f"at most {each.minutes:g} min", "", "")
        if whole := ran.get(each.name):
            plot = f"[plot]({to_results}/{each.name}.svg)"
            told = (f"{whole['seconds'] / 60:.1f} min", str(whole["commit"]), plot)
        lines.append(f"| `{each.name}` | {each.asks} | {' | '.join(told)} |")
    return "\n".join([*lines, ""])


def stages_table(found: Sequence[Result]) -> str:
    """Return what calls take that do more and more of a list's work, as a Markdown table."""
    whole = next((each.whole for each in found if each.benchmark.name == "recommend"), None)
    taken = whole["figures"].get("stages_ms") if whole else None
    if not taken:
        return "Nothing is measured yet: `make bench FULL=1 ONLY=recommend`.\n"
    lines = ["| one call for | ms | over an empty one |", "|---|---|---|"]
    for name, said in STAGES.items():
        lines.append(f"| {said} | {_number(taken[name])} | {_number(taken[name] / taken['empty'])} |")
    return "\n".join([*lines, ""])


def _line(result: Result, target: Target, to_results: str) -> str:
    sign = "≤" if target.better is Better.LOWER else "≥"
    name = result.benchmark.name
    cells = (
        SAID.get(target.name, target.name.replace("_", " ")),
        _number(target.measured),
        f"{_number(target.low)} to {_number(target.high)}",
        f"{sign} {_number(target.bound)}",
        "met" if target.met else "**missed**",
        f"[{name}]({to_results}/{name}.json)",
    )
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    """Return a number with three digits that count, and all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _machine(whole: dict[str, Any]) -> str:
    machine = whole["machine"]
    python = whole["versions"]["python"]
    memory = f"{machine['memory_gb']:.0f} GB"
    return f"{machine['cpu']}, {machine['cpus']} cores, {memory}, {machine['os']}, Python {python}"


def main() -> None:
    """Bring the pages' tables up to date."""
    found = results()
    for page in PAGES:
        path = ROOT / page
        old = path.read_text(encoding="utf-8")
        new = page_with(page, old, found)
        path.write_text(new, encoding="utf-8")
        print(f"{page}: {'as it was' if new == old else 'brought up to date'}")


if __name__ == "__main__":
    typer.run(main)
