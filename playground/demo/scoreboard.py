"""What each policy achieved, round by round: the table, `demo.json`, and the report's curves."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from pathlib import Path


class Policy(StrEnum):
    """Who made the lists."""

    LOOP = "matchloop"
    FIRST = "first release"
    POPULAR = "popularity"


@dataclass(frozen=True, slots=True)
class Row:
    """One policy in one round of one use case.

    Parameters
    ----------
    click_rate, strong_positive_rate, dislike_rate
        Per item shown.
    ndcg
        NDCG@10 of the lists against the market's hidden relevance.
    low, high
        95 % bootstrap interval of `click_rate`, over subjects.
    release
        Short name of what made the lists.
    """

    use_case: str
    policy: Policy
    round: int
    click_rate: float
    strong_positive_rate: float
    dislike_rate: float
    ndcg: float
    low: float
    high: float
    release: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the loop paid, for one use case: the last round against the first and the comparisons."""

    use_case: str
    last: Row
    beaten: tuple[Row, ...]
    unbeaten: tuple[Row, ...]

    @property
    def holds(self) -> bool:
        """True when the last round's interval lies wholly above every click rate it is compared with."""
        return not self.unbeaten

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        last = self.last
        own = f"click rate of round {last.round} is {last.click_rate:.3f} ({last.low:.3f} … {last.high:.3f})"
        against = ", ".join(
            f"{row.policy} in round {row.round} ({row.click_rate:.3f})"
            for row in self.unbeaten or self.beaten
        )
        return f"{own}: {'above' if self.holds else 'NOT clearly above'} {against}"


def verdicts(rows: list[Row]) -> list[Verdict]:
    """Judge each use case: the loop's last round must beat its own first and both others' last."""
    found = []
    for use_case in dict.fromkeys(row.use_case for row in rows):
        own = [row for row in rows if row.use_case == use_case]
        loop = [row for row in own if row.policy is Policy.LOOP]
        last = max(loop, key=lambda row: row.round)
        others = [row for row in own if row.policy is not Policy.LOOP and row.round == last.round]
        against = [min(loop, key=lambda row: row.round), *others]
        found.append(
            Verdict(
                use_case=use_case,
                last=last,
                beaten=tuple(row for row in against if last.low > row.click_rate),
                unbeaten=tuple(row for row in against if last.low <= row.click_rate),
            )
        )
    return found


def as_table(rows: list[Row], use_case: str) -> Table:
    """Return the rows of one use case as a table for the terminal."""
    table = Table(title=use_case, title_justify="left", header_style="bold")
    for name in ("round", "policy", "click rate", "95 % interval", "strong positive", "dislike", "NDCG@10"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    previous = 0
    for row in sorted((row for row in rows if row.use_case == use_case), key=lambda row: row.round):
        if row.round != previous and previous:
            table.add_section()
        previous = row.round
        style = "bold" if row.policy is Policy.LOOP else "dim"
        table.add_row(
            str(row.round),
            str(row.policy),
            f"{row.click_rate:.3f}",
            f"{row.low:.3f} … {row.high:.3f}",
            f"{row.strong_positive_rate:.3f}",
            f"{row.dislike_rate:.3f}",
            f"{row.ndcg:.3f}",
            style=style,
        )
    return table


def write_json(rows: list[Row], path: Path) -> None:
    """Write the rows as a list of objects."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
