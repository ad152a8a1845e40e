"""The demo's HTML report: one file, its plots inside."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import matplotlib as mpl
from matplotlib.figure import Figure

from playground.demo.scoreboard import Policy, Row, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from playground.demo.examples import Example
    from training_jobs.gates import Gate

_COLOURS = {Policy.LOOP: "#1b6ca8", Policy.FIRST: "#d17b0f", Policy.POPULAR: "#8a8a8a"}
_MEASURES: tuple[tuple[str, Callable[[Row], float]], ...] = (
    ("click rate", lambda row: row.click_rate),
    ("strong-positive rate", lambda row: row.strong_positive_rate),
    ("dislike rate", lambda row: row.dislike_rate),
    ("NDCG@10 against the hidden truth", lambda row: row.ndcg),
)


@dataclass(frozen=True, slots=True)
class Retraining:
    """One retraining of the demo: what the gates said and how long it took."""

    use_case: str
    round: int
    release: str
    promoted: bool
    seconds: float
    gates: tuple[Gate, ...]


def write_report(
    path: Path,
    *,
    market: str,
    rows: Sequence[Row],
    judged: Sequence[Verdict],
    examples: Sequence[Example],
    retrainings: Sequence[Retraining],
) -> None:
    """Write the report to `path`."""
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8")
    )
    parts = [
        {
            "use_case": verdict.use_case,
            "verdict": verdict,
            "plot": _curves([row for row in rows if row.use_case == verdict.use_case]),
            "rows": [row for row in rows if row.use_case == verdict.use_case],
            "examples": [example for example in examples if example.use_case == verdict.use_case],
            "retrainings": [entry for entry in retrainings if entry.use_case == verdict.use_case],
        }
        for verdict in judged
    ]
    path.write_text(template.render(market=market, parts=parts, loop=Policy.LOOP), encoding="utf-8")


def _curves(rows: Sequence[Row]) -> str:
    """Draw every measure by round, a line a policy, as inline SVG."""
    # A fixed salt keeps the SVG's ids, and so the report, the same from run to run.
    with mpl.rc_context({"svg.hashsalt": "matchloop", "font.size": 9, "axes.spines.top": False}):
        figure = Figure(figsize=(11, 2.9), layout="constrained")
        for axes, (title, measure) in zip(figure.subplots(1, len(_MEASURES)), _MEASURES, strict=True):
            for policy, colour in _COLOURS.items():
                own = sorted((row for row in rows if row.policy is policy), key=lambda row: row.round)
                rounds = [row.round for row in own]
                axes.plot(rounds, [measure(row) for row in own], "o-", color=colour, label=str(policy), ms=4)
                if title == "click rate":
                    axes.fill_between(
                        rounds, [r.low for r in own], [r.high for r in own], color=colour, alpha=0.15, lw=0
                    )
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("round")
            axes.set_xticks(sorted({row.round for row in rows}))
            axes.spines["right"].set_visible(False)
        figure.axes[0].legend(frameon=False, fontsize=8)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
