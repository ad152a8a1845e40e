"""How rejections develop: reasons, weekly trend, and metrics that say whether the loop learns from them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean

from feedback_svc.evidence import REPEAT_WITHIN, DislikeCell, Rejection, Retraining, Shown, Value, Window

DAY = timedelta(days=1)
MOST_RATES = 50


@dataclass(frozen=True, slots=True)
class Week:
    """Dislikes of one week; `mean_predicted_score` over the `scored` of them, 0 for none."""

    start: datetime
    count: int
    scored: int
    mean_predicted_score: float


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` out of `of`, under a name."""

    name: str
    count: int
    of: int

    @property
    def rate(self) -> float:
        """The share; 0 of nothing."""
        return self.count / self.of if self.of else 0.0


@dataclass(frozen=True, slots=True)
class Scores:
    """How many disliked items have a predicted score; their mean, least and greatest, 0 for none."""

    scored: int
    mean: float
    least: float
    greatest: float


@dataclass(frozen=True, slots=True)
class Improvement:
    """The improvement metrics of a use case; see `FeedbackMetrics` in the contract for each."""

    negatives: int
    unused: int
    scores: Scores
    weekly: tuple[Week, ...]
    rate_by_category: tuple[Rate, ...]
    mean_adjustment: float
    days_between_retrainings: float
    repeat_rate_by_reason: tuple[Rate, ...]
    retrainings: tuple[Retraining, ...]


def reason_counts(cells: Iterable[DislikeCell]) -> tuple[tuple[str, int], ...]:
    """Return how often each reason was given, the most frequent first, then by name."""
    counts: Counter[str] = Counter()
    for cell in cells:
        counts[cell.reason] += cell.count
    return tuple(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def weekly_trend(cells: Sequence[DislikeCell], window: Window) -> tuple[Week, ...]:
    """Return every week of the window, the latest last."""
    weeks = []
    for number in range(window.weeks):
        own = [cell for cell in cells if cell.week == number]
        scored = sum(cell.scored for cell in own)
        mean = sum(cell.score_sum for cell in own) / scored if scored else 0.0
        weeks.append(Week(window.week_start(number), sum(cell.count for cell in own), scored, mean))
    return tuple(weeks)


def score_numbers(cells: Sequence[DislikeCell]) -> Scores:
    """Return mean, least and greatest predicted score over all cells."""
    scored = sum(cell.scored for cell in cells)
    return Scores(
        scored,
        sum(cell.score_sum for cell in cells) / scored if scored else 0.0,
        min((cell.least for cell in cells if cell.least is not None), default=0.0),
        max((cell.greatest for cell in cells if cell.greatest is not None), default=0.0),
    )


def category_rates(shown: Shown, feature: str) -> tuple[Rate, ...]:
    """Return, by value of a feature, how many of its places were disliked from the list they stand on.

    The most disliked first, then by name; at most `MOST_RATES`.
    """
    rates = [
        Rate(f"{name}={value}", shown.rejected.get((name, value), 0), sum(places))
        for (name, value), places in shown.values.items()
        if name == feature
    ]
    return tuple(sorted(rates, key=lambda each: (-each.count, each.name))[:MOST_RATES])


def mean_adjustment(rejections: Iterable[Rejection], window: Window) -> float:
    """Return the mean of what the window's dislikes took from a factor, 0 to 1, each change counted once."""
    falls = [
        fall
        for rejection in rejections
        if window.week_of(rejection.event_time) is not None
        for fall in rejection.falls
    ]
    return fmean(falls) if falls else 0.0


def days_between(retrainings: Sequence[Retraining]) -> float:
    """Return the mean days between one retraining and the next; 0 for fewer than two."""
    if len(retrainings) < 2:
        return 0.0
    times = [retraining.mark_time for retraining in retrainings]
    return (max(times) - min(times)) / DAY / (len(times) - 1)


def repeat_rates(rejections: Sequence[Rejection], window: Window) -> tuple[Rate, ...]:
    """Return, by reason, the share of the window's dislikes that repeat one, by name.

    A dislike repeats when the same subject gave the same reason for another item within `REPEAT_WITHIN`
    before, and both dislikes cut a common feature value; for a reason that cuts nothing, any other item
    will do. Repeats mean that what the first dislike taught was not enough.
    """
    earlier: dict[tuple[str, str, Value | None], list[tuple[datetime, str]]] = defaultdict(list)
    given: Counter[str] = Counter()
    repeated: Counter[str] = Counter()
    cutting = {rejection.reason for rejection in rejections if rejection.cut_values}
    for rejection in sorted(rejections, key=lambda r: (r.event_time, r.dislike_id)):
        values: tuple[Value | None, ...] = rejection.cut_values if rejection.reason in cutting else (None,)
        found = [earlier[rejection.subject_id, rejection.reason, value] for value in values]
        if window.week_of(rejection.event_time) is not None:
            given[rejection.reason] += 1
            repeated[rejection.reason] += any(_repeats(rejection, before) for before in found)
        for before in found:
            before.append((rejection.event_time, rejection.item_id))
    return tuple(Rate(reason, repeated[reason], count) for reason, count in sorted(given.items()))


def _repeats(rejection: Rejection, before: Sequence[tuple[datetime, str]]) -> bool:
    first = bisect_left(before, (rejection.event_time - REPEAT_WITHIN, ""))
    return any(item_id != rejection.item_id for _, item_id in before[first:])
