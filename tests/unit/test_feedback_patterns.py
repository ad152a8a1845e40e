"""The statistics of patterns against worked numbers, and what chance alone makes of them."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from feedback_svc.chance import tail, wilson
from feedback_svc.evidence import Rejection, Shown, Window, category_feature, discrete_features
from feedback_svc.patterns import PatternRules, Severity, find_patterns, severity_of, tally
from tests.feedback_worlds import NOW, use_cases

WINDOW = Window.until(NOW)
RULES = PatternRules()


@pytest.mark.parametrize(("least", "trials", "share"), [(1, 1, 0.3), (3, 7, 0.2), (9, 9, 0.9), (40, 60, 0.5)])
def test_a_tail_is_the_sum_of_the_binomial(least: int, trials: int, share: float) -> None:
    expected = sum(
        math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(least, trials + 1)
    )
    assert tail(least, trials, share) == pytest.approx(expected, rel=1e-9)


def test_a_tail_at_its_ends() -> None:
    assert (tail(0, 5, 0.2), tail(1, 5, 0.0), tail(5, 5, 1.0)) == (1.0, 0.0, 1.0)
    assert tail(4000, 4000, 1e-9) == 0.0


def test_wilson_is_what_the_books_say() -> None:
    assert wilson(8, 10) == pytest.approx(0.49016, abs=1e-5)
    assert wilson(0, 10) == 0.0
    assert wilson(0, 0) == 0.0
    assert wilson(10, 10) == pytest.approx(0.72247, abs=1e-5)


@pytest.mark.parametrize(
    ("lift", "dislikes", "expected"),
    [
        (3.0, 20, Severity.HIGH),
        (3.0, 19, Severity.MEDIUM),
        (2.99, 20, Severity.MEDIUM),
        (2.0, 10, Severity.MEDIUM),
        (9.0, 9, Severity.LOW),
        (1.99, 99, Severity.LOW),
    ],
)
def test_severity_needs_lift_and_count(lift: float, dislikes: int, expected: Severity) -> None:
    assert severity_of(lift, dislikes) is expected


def test_weeks_start_on_monday_in_utc() -> None:
    assert WINDOW.start == datetime(2026, 2, 9, tzinfo=UTC)
    assert WINDOW.end == datetime(2026, 5, 4, tzinfo=UTC)
    assert WINDOW.week_of(WINDOW.start) == 0
    assert WINDOW.week_of(WINDOW.end - timedelta(microseconds=1)) == 11
    assert WINDOW.week_of(WINDOW.end) is None
    assert WINDOW.week_of(WINDOW.start - timedelta(microseconds=1)) is None
    assert Window.until(datetime(2026, 5, 4, tzinfo=UTC)).week_start(11) == WINDOW.end


def test_discrete_features_and_the_category_of_the_shipped_use_cases() -> None:
    assert discrete_features(use_cases()["user_movie"]) == ("cast", "genres", "language", "series")
    assert category_feature(use_cases()["user_movie"]) == "genres"
    assert category_feature(use_cases()["investor_startup"]) == "category"


def test_rejecting_at_random_seldom_makes_a_pattern() -> None:
    """Items with values of uneven frequency, rejected as they are shown: the false patterns stay few."""
    rng = np.random.default_rng(3)
    kinds, people = rng.zipf(1.5, 400) % 12, rng.integers(0, 60, (400, 3))
    values = [
        tuple({("category", f"c{kind}"), *(("team", f"p{person}") for person in team)})
        for kind, team in zip(kinds, people, strict=True)
    ]
    told = 0
    for _ in range(60):
        shown = rng.integers(0, 400, 3000)
        counts: dict[tuple[str, str], int] = {}
        for item in shown:
            for value in values[item]:
                counts[value] = counts.get(value, 0) + 1
        places = Shown(
            300,
            (*[0] * 11, 3000),
            {value: (*[0] * 11, n) for value, n in counts.items()},
            Counter(v[0] for v in counts),
        )
        rejections = [
            Rejection(str(n), f"s{n}", f"i{item}", "other", NOW + timedelta(seconds=n), values=values[item])
            for n, item in enumerate(rng.integers(0, 400, 300))
        ]
        told += bool(find_patterns(tally(rejections, WINDOW, RULES), places, WINDOW, RULES))
    assert told <= 3


def test_a_lasting_dislike_is_told_from_many_values() -> None:
    """One person in sixty is rejected eight times as often as shown."""
    rng = np.random.default_rng(4)
    teams = [(("team", f"p{person}"),) for person in range(60)]
    places = Shown(300, (*[0] * 11, 3000), {team[0]: (*[0] * 11, 50) for team in teams}, {"team": 60})
    people = [*[0] * 12, *rng.integers(0, 60, 78)]
    rejections = [
        Rejection(str(n), f"s{n}", f"i{n}", "other", NOW + timedelta(seconds=n), values=teams[person])
        for n, person in enumerate(people)
    ]
    (found,) = find_patterns(tally(rejections, WINDOW, RULES), places, WINDOW, RULES)
    assert found.name == "team=p0"
    assert found.shown_share == pytest.approx(1 / 60)
    assert found.lift_bound > 2.0
