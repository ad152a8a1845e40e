"""Guards: whether a release is surely worse, for people or requests, than the one it is compared with.

Each guard is a one-sided always-valid bound (`matchloop.experiments.intervals`), so that asking every minute
does not fire it falsely: over all guards and all looks, a release that is no worse than the margins allow is
taken back with probability at most 1 - confidence, as far as what is compared was dealt by chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from rich.table import Table

from matchloop.acts import ActNumber
from matchloop.experiments.intervals import RatioSums, least_excess
from matchloop.experiments.results import dislikes, strong_positives, sums
from training_jobs.exposition import NO_REQUESTS, Requests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matchloop.experiments.reactions import Reactions
    from training_jobs.config import GuardConfig

GUARDS = 4
"""Among which the probability of a false alarm is divided."""


class Verdict(StrEnum):
    """What a guard says."""

    HELD = "held"
    LOST = "lost"
    SKIPPED = "skipped"
    """There is too little to go by."""


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard and what it found.

    Parameters
    ----------
    name
        E.g. ``dislike_rate``.
    value, other
        The rate of the release that is guarded, and of the one it is compared with.
    limit
        What the value may surely not be past: the other's rate and the margin.
    counted
        Items or lists that `value` rests on.
    """

    name: str
    verdict: Verdict
    value: float
    other: float
    limit: float
    counted: int

    def __str__(self) -> str:
        """Return a phrase for people and the log."""
        return (
            f"{self.name} {self.value:.4f} of {self.counted}, {self.verdict}: "
            f"limit {self.limit:.4f}, {self.other:.4f} before"
        )


@dataclass(frozen=True, slots=True)
class Side:
    """What is known of one of the two releases."""

    reactions: Reactions
    requests: Requests = NO_REQUESTS


def ask_guards(ours: Side, theirs: Side, config: GuardConfig) -> list[Guard]:
    """Ask every guard about one release, beside another.

    Returns
    -------
    list
        In the order dislikes, strong positives, errors, slow lists.
    """
    return [
        *_of_reactions(ours.reactions, theirs.reactions, config),
        _of_requests("error_rate", ours, theirs, config),
        _of_requests("slow_rate", ours, theirs, config),
    ]


def lost(guards: Sequence[Guard]) -> list[Guard]:
    """Return the guards that are lost."""
    return [guard for guard in guards if guard.verdict is Verdict.LOST]


def guard_numbers(guards: Sequence[Guard]) -> list[ActNumber]:
    """Return the numbers for the record, each with the limit it was held against."""
    found = []
    for guard in guards:
        found.append(ActNumber(guard.name, guard.value, guard.limit))
        found.append(ActNumber(f"{guard.name}_before", guard.other))
        found.append(ActNumber(f"{guard.name}_counted", float(guard.counted)))
    return found


def guard_table(guards: Sequence[Guard], title: str) -> Table:
    """Return name, value, limit, verdict for a terminal."""
    table = Table("guard", "value", "before", "limit", "counted", "verdict", title=title)
    colours = {Verdict.HELD: "green", Verdict.LOST: "red", Verdict.SKIPPED: "yellow"}
    for guard in guards:
        numbers = (f"{number:.4f}" for number in (guard.value, guard.other, guard.limit))
        verdict = f"[{colours[guard.verdict]}]{guard.verdict}[/]"
        table.add_row(guard.name, *numbers, f"{guard.counted:,}", verdict)
    return table


def _of_reactions(ours: Reactions, theirs: Reactions, config: GuardConfig) -> list[Guard]:
    alpha = _alpha(config)
    enough = min(ours.shown, theirs.shown) >= config.least_items
    mine, other = sums(ours, dislikes), sums(theirs, dislikes)
    more = 1.0 + config.dislike_margin
    excess = least_excess(mine, other, factor=more, alpha=alpha)
    disliked = Guard(
        "dislike_rate", _verdict(excess, enough), mine.rate, other.rate, more * other.rate, ours.shown
    )
    mine, other = sums(ours, strong_positives), sums(theirs, strong_positives)
    less = 1.0 - config.strong_positive_margin
    excess = least_excess(other, mine, factor=1.0 / less, alpha=alpha)
    liked = Guard(
        "strong_positive_rate", _verdict(excess, enough), mine.rate, other.rate, less * other.rate, ours.shown
    )
    return [disliked, liked]


def _of_requests(name: str, ours: Side, theirs: Side, config: GuardConfig) -> Guard:
    errors = name == "error_rate"
    margin = config.error_margin if errors else config.slow_margin
    allowance = config.error_allowance if errors else config.slow_allowance
    mine, other = (
        RatioSums.of_trials(side.requests.failed if errors else side.requests.slow, side.requests.made)
        for side in (ours, theirs)
    )
    enough = min(mine.shown, other.shown) >= config.least_requests
    excess = least_excess(mine, other, factor=1.0 + margin, alpha=_alpha(config)) - allowance
    limit = (1.0 + margin) * other.rate + allowance
    return Guard(name, _verdict(excess, enough), mine.rate, other.rate, limit, int(mine.shown))


def _alpha(config: GuardConfig) -> float:
    return (1.0 - config.confidence) / GUARDS


def _verdict(excess: float, enough: bool) -> Verdict:  # noqa: FBT001
    if not enough or not math.isfinite(excess):
        return Verdict.SKIPPED
    return Verdict.LOST if excess > 0.0 else Verdict.HELD
