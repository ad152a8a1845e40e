"""What the record shows of rejections: what patterns, metrics and the retraining status are computed from.

All of it is bounded: the last `WEEKS` weeks, at most `REJECTIONS` dislikes, the first `PLACES` places on at
most `LISTS_PER_DAY` lists of each day. Everything goes by the clients' times (event and serve time), so the
order of arrival changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from matchloop.usecase import FeatureType, UseCase

WEEKS = 12
"""Of a window, the running one included."""
REJECTIONS = 1000
"""Dislikes looked at one by one, the latest first."""
LISTS_PER_DAY = 4
"""Lists of each day of the window that are looked at: the day's latest."""
PLACES = 10
"""Of a list, from the top, that count as shown: what stands below is seldom looked at."""
REPEAT_WITHIN = timedelta(days=28)
"""How far back a dislike can be repeated by another."""

WEEK = timedelta(weeks=1)
Value = tuple[str, str]
"""An item feature and one of its discrete values."""


@dataclass(frozen=True, slots=True)
class Window:
    """Whole weeks from Monday 00:00 UTC, numbered from 0.

    Parameters
    ----------
    start
        The first week's start.
    """

    start: datetime
    weeks: int = WEEKS

    @classmethod
    def until(cls, now: datetime) -> Window:
        """Return the `WEEKS` weeks of which the last holds `now`."""
        day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return cls(day - timedelta(days=day.weekday()) - (WEEKS - 1) * WEEK)

    @property
    def end(self) -> datetime:
        """Where the last week ends."""
        return self.start + self.weeks * WEEK

    def week_of(self, time: datetime) -> int | None:
        """Return the number of the week that holds a time; None outside the window."""
        week = (time - self.start) // WEEK
        return week if 0 <= week < self.weeks else None

    def week_start(self, week: int) -> datetime:
        """Return where a week starts."""
        return self.start + week * WEEK


@dataclass(frozen=True, slots=True)
class Rejection:
    """One dislike, as far as patterns and metrics look at it.

    Parameters
    ----------
    values
        The item's discrete values as the catalogue holds them now; None for an item it does not hold.
    cut_values
        The values whose weight the dislike changed when it arrived.
    falls
        By how much each of their factors fell, 0 to 1.
    used
        Whether a training has used it.
    """

    dislike_id: str
    subject_id: str
    item_id: str
    reason: str
    event_time: datetime
    used: bool = False
    values: tuple[Value, ...] | None = None
    cut_values: tuple[Value, ...] = ()
    falls: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """What a sample of the lists showed: places on lists whose item the catalogue holds.

    Parameters
    ----------
    lists
        How many lists the sample has.
    items
        Places by week of the window.
    values
        Places by week whose item has the value, for the values that were asked for.
    distinct
        How many different values were seen, asked for or not, by feature.
    rejected
        Places whose item has the value and was disliked from that very list.
    """

    lists: int
    items: tuple[int, ...]
    values: Mapping[Value, tuple[int, ...]] = field(default_factory=dict)
    distinct: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[Value, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DislikeCell:
    """Dislikes of one reason in one week, counted; week None: before or after the window.

    Parameters
    ----------
    scored
        Those with a predicted score; their sum, least and greatest follow. The prediction error is the
        predicted score minus the target, which is 0: the same numbers.
    """

    reason: str
    week: int | None
    count: int
    scored: int
    score_sum: float
    least: float | None
    greatest: float | None


@dataclass(frozen=True, slots=True)
class Retraining:
    """The impact record of one training run: its release, and how many negatives it was the first to use."""

    release: str
    to_sequence: int
    marked: int
    mark_time: datetime


def discrete_features(use_case: UseCase) -> tuple[str, ...]:
    """Return the item features that patterns are looked for in: all that hold discrete values, by name.

    All, and not only those that retrieval matches or dislikes cut: the towers are trained on every one of
    them, so a retraining can act on a pattern in any, and one that nobody declared is the one worth telling.
    """
    discrete = (FeatureType.CATEGORICAL, FeatureType.MULTI)
    return tuple(sorted(name for name, type_ in use_case.item_features.items() if type_ in discrete))


def category_feature(use_case: UseCase) -> str:
    """Return the item feature that stands for the category: the first diversity field, else the first match.

    Empty when the use case has neither.
    """
    matched = tuple(match.item for match in use_case.match)
    return next(iter((*use_case.ranking.diversity_fields, *matched)), "")
