"""Patterns: feature values that are rejected far more often than they are shown.

Within each week of the window, the dislikes that count and the sampled places on lists are two samples of
items. If rejecting had nothing to do with a value, the dislikes that have it would be a draw without
replacement from both samples together, week by week (Fisher 1935; weeks are strata, so that a value shown
much in one week and rejected much in the same week is no pattern). A sum of such draws is a sum of
independent yes/no trials (Vatutin and Mikhailov 1982), whose upper tail is at most that of a binomial with
the same mean (Hoeffding 1956, theorem 4): `tail` of that binomial is the p-value, exact in small samples.

Many values are tested at once. The expected share of false patterns among all told is kept under
`PatternRules.error_rate` by the step-up procedure of Benjamini and Yekutieli (2001), which holds under any
dependence, within each feature at an equal part of the rate; every value counts as a test, once if it was
shown and once if it was rejected.

Far more often: the lower end of the 95 % Wilson interval (1927) of the rejected share, over the share
expected above, is at least `PatternRules.lift`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum

from feedback_svc.chance import tail, wilson
from feedback_svc.evidence import Rejection, Shown, Value, Window

MOST_PATTERNS = 20


class Severity(IntEnum):
    """How much a pattern matters."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3


@dataclass(frozen=True, slots=True)
class PatternRules:
    """When a value is a pattern, and when a pattern persists.

    Parameters
    ----------
    dislikes
        Least number that have the value.
    subjects
        Least number of subjects they come from; 1 when one subject is looked at.
    per_subject
        Most dislikes of one subject that count in one week, its earliest: one angry subject makes no pattern.
    lift
        Least lower bound of how many times as often it is rejected as shown.
    error_rate
        Expected share of false patterns, at most.
    weeks
        Separate weeks it has to hold in to persist: with `weekly_dislikes` or more, and a p-value of that
        week alone of at most `weekly_rate`.
    """

    dislikes: int = 5
    subjects: int = 3
    per_subject: int = 5
    lift: float = 1.5
    error_rate: float = 0.05
    weeks: int = 2
    weekly_dislikes: int = 3
    weekly_rate: float = 0.05

    def of_one_subject(self) -> PatternRules:
        """Return the rules for the dislikes of one subject: all count."""
        return replace(self, subjects=1, per_subject=1 << 31)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A feature value rejected far more often than it is shown.

    Parameters
    ----------
    rejected_share, shown_share
        Of the dislikes that count; of the sampled places, each week weighted by its dislikes.
    lift_bound
        It is rejected at least this many times as often as shown, with 95 % confidence.
    weeks
        Separate weeks in which it held by itself.
    find_time
        Event time of the dislike with which it first held, dislikes taken by event time.
    """

    feature: str
    value: str
    rejected_share: float
    shown_share: float
    lift_bound: float
    dislikes: int
    severity: Severity
    weeks: int
    find_time: datetime

    @property
    def name(self) -> str:
        """``feature=value``."""
        return f"{self.feature}={self.value}"


@dataclass(frozen=True, slots=True)
class _Counted:
    """One dislike that counts: its week and the item's values."""

    week: int
    subject_id: str
    event_time: datetime
    values: frozenset[Value]


@dataclass(frozen=True, slots=True)
class Tally:
    """The dislikes that count, by event time; and the values that enough of them, and of subjects, have."""

    counted: tuple[_Counted, ...]
    candidates: tuple[Value, ...]


@dataclass(slots=True)
class _Strata:
    """Counts of one value by week: `dislikes` and of them `hits`; places `items` and of them `shown`."""

    dislikes: list[int]
    hits: list[int]
    items: Sequence[int]
    shown: Sequence[int]

    def expected(self, week: int) -> float:
        """Return the share of the week's dislikes that would have the value by chance."""
        items, shown = self._places(week)
        return (self.hits[week] + shown) / (self.dislikes[week] + items)

    def shown_share(self) -> float:
        """Return the share of the places that have it, weeks weighted by their dislikes."""
        places = [self._places(week) for week in range(len(self.dislikes))]
        parts = (n * shown / items for n, (items, shown) in zip(self.dislikes, places, strict=True))
        return sum(parts) / sum(self.dislikes)

    def _places(self, week: int) -> tuple[int, int]:
        """Return the week's places, those of the whole window when it has none."""
        if self.items[week]:
            return self.items[week], self.shown[week]
        return sum(self.items), sum(self.shown)

    def judged(self) -> tuple[float, float]:
        """Return the p-value and the lower bound of the lift."""
        dislikes, hits = sum(self.dislikes), sum(self.hits)
        weeks = range(len(self.dislikes))
        mean = sum(self.dislikes[week] * self.expected(week) for week in weeks if self.dislikes[week])
        if hits < mean + 1:  # the binomial bounds the tail from here on
            return 1.0, 0.0
        return tail(hits, dislikes, mean / dislikes), wilson(hits, dislikes) * dislikes / mean

    def holds_in(self, week: int, rules: PatternRules) -> bool:
        """Say whether it holds in a week by itself."""
        hits, dislikes = self.hits[week], self.dislikes[week]
        if hits < rules.weekly_dislikes:
            return False
        share = self.expected(week)
        return hits >= share * dislikes + 1 and tail(hits, dislikes, share) <= rules.weekly_rate


def severity_of(lift_bound: float, dislikes: int) -> Severity:
    """Return HIGH from a lift of 3 and 20 dislikes on, MEDIUM from 2 and 10, else LOW."""
    if lift_bound >= 3.0 and dislikes >= 20:
        return Severity.HIGH
    return Severity.MEDIUM if lift_bound >= 2.0 and dislikes >= 10 else Severity.LOW


def tally(rejections: Iterable[Rejection], window: Window, rules: PatternRules) -> Tally:
    """Return the dislikes that count: within the window, of items that the catalogue holds.

    A subject's second dislike of the same item does not count.
    """
    counted = _counted(rejections, window, rules)
    return Tally(tuple(counted), tuple(_candidates(counted, rules)))


def find_patterns(tallied: Tally, shown: Shown, window: Window, rules: PatternRules) -> tuple[Pattern, ...]:
    """Return the patterns, by severity, dislikes (most first) and name, at most `MOST_PATTERNS`.

    Parameters
    ----------
    shown
        With the places of all candidates.
    """
    counted = tallied.counted
    if not tallied.candidates or not sum(shown.items):
        return ()
    strata = _strata(counted, tallied.candidates, shown, window)
    judged = {value: found.judged() for value, found in strata.items()}
    tests = Counter(feature for feature, _ in {value for each in counted for value in each.values})
    tests.update(shown.distinct)
    critical = _critical({value: p for value, (p, _) in judged.items()}, tests, rules.error_rate)
    patterns = [
        _pattern(value, strata[value], bound, critical[value[0]], counted, window, rules)
        for value, (p, bound) in judged.items()
        if p <= critical[value[0]] and bound >= rules.lift
    ]
    patterns.sort(key=lambda found: (-found.severity, -found.dislikes, found.name))
    return tuple(patterns[:MOST_PATTERNS])


def persistent(patterns: Iterable[Pattern], rules: PatternRules) -> tuple[Pattern, ...]:
    """Return the patterns that held, each time by themselves, in enough separate weeks."""
    return tuple(pattern for pattern in patterns if pattern.weeks >= rules.weeks)


def _counted(rejections: Iterable[Rejection], window: Window, rules: PatternRules) -> list[_Counted]:
    seen: set[tuple[str, str]] = set()
    own: dict[tuple[str, int], int] = defaultdict(int)
    counted = []
    for rejection in sorted(rejections, key=lambda r: (r.event_time, r.dislike_id)):
        week = window.week_of(rejection.event_time)
        pair = (rejection.subject_id, rejection.item_id)
        if week is None or rejection.values is None or pair in seen:
            continue
        seen.add(pair)
        own[rejection.subject_id, week] += 1
        if own[rejection.subject_id, week] <= rules.per_subject:
            values = frozenset(rejection.values)
            counted.append(_Counted(week, rejection.subject_id, rejection.event_time, values))
    return counted


def _candidates(counted: Sequence[_Counted], rules: PatternRules) -> list[Value]:
    hits: Counter[Value] = Counter()
    for rejection in counted:
        hits.update(rejection.values)
    enough = {value for value, count in hits.items() if count >= rules.dislikes}
    subjects: dict[Value, set[str]] = defaultdict(set)
    for rejection in counted:
        for value in rejection.values & enough:
            subjects[value].add(rejection.subject_id)
    return sorted(value for value in enough if len(subjects[value]) >= rules.subjects)


def _strata(
    counted: Sequence[_Counted], values: Sequence[Value], shown: Shown, window: Window
) -> dict[Value, _Strata]:
    dislikes = [0] * window.weeks
    nothing = (0,) * window.weeks
    strata = {
        value: _Strata(dislikes, [0] * window.weeks, shown.items, shown.values.get(value, nothing))
        for value in values
    }
    for rejection in counted:
        dislikes[rejection.week] += 1
        for value in rejection.values & strata.keys():
            strata[value].hits[rejection.week] += 1
    return strata


def _critical(p_values: Mapping[Value, float], tests: Mapping[str, int], rate: float) -> dict[str, float]:
    """Return the largest p-value that is accepted, by feature; 0 where none is."""
    found: dict[str, list[float]] = {feature: [] for feature in tests}
    for (feature, _), p in p_values.items():
        found[feature].append(p)
    critical = {}
    for feature, number in tests.items():
        step = rate / len(tests) / (number * sum(1.0 / i for i in range(1, number + 1)))
        accepted = (rank * step for rank, p in enumerate(sorted(found[feature]), 1) if p <= rank * step)
        critical[feature] = max(accepted, default=0.0)
    return critical


def _pattern(
    value: Value,
    strata: _Strata,
    bound: float,
    critical: float,
    counted: Sequence[_Counted],
    window: Window,
    rules: PatternRules,
) -> Pattern:
    hits, dislikes = sum(strata.hits), sum(strata.dislikes)
    return Pattern(
        feature=value[0],
        value=value[1],
        rejected_share=hits / dislikes,
        shown_share=strata.shown_share(),
        lift_bound=bound,
        dislikes=hits,
        severity=severity_of(bound, hits),
        weeks=sum(strata.holds_in(week, rules) for week in range(window.weeks)),
        find_time=_find_time(value, strata, critical, counted, rules),
    )


def _find_time(
    value: Value, whole: _Strata, critical: float, counted: Sequence[_Counted], rules: PatternRules
) -> datetime:
    """Return the time of the first dislike with which the pattern held, by today's critical value."""
    weeks = len(whole.dislikes)
    grown = _Strata([0] * weeks, [0] * weeks, whole.items, whole.shown)
    subjects, time = set(), counted[0].event_time
    for rejection in counted:
        grown.dislikes[rejection.week] += 1
        if value not in rejection.values:
            continue
        grown.hits[rejection.week] += 1
        subjects.add(rejection.subject_id)
        time = rejection.event_time
        if sum(grown.hits) >= rules.dislikes and len(subjects) >= rules.subjects:
            p, bound = grown.judged()
            if p <= critical and bound >= rules.lift:
                break
    return time
