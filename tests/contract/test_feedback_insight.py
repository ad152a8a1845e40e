"""Patterns, metrics and the retraining status over small records whose right answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from feedback_svc.answers import judge_status, measure_improvement, report_dislikes
from feedback_svc.dislikes import Dislike
from feedback_svc.evidence import LISTS_PER_DAY, Window
from feedback_svc.improvement import Rate, Scores
from feedback_svc.interactions import facts_of
from feedback_svc.patterns import Severity
from feedback_svc.retraining import Cause, RetrainingBounds
from feedback_svc.store.protocol import Store
from tests.feedback_worlds import NOW, USE_CASE, shown, startup, use_cases

MARKET = use_cases()[USE_CASE]
BOUNDS = RetrainingBounds()
MONDAY = datetime(2026, 4, 27, tzinfo=NOW.tzinfo)
"""Of the week of `NOW`, a Friday."""
WEEK = timedelta(weeks=1)
HALF_DAY = timedelta(hours=12)
CATEGORIES = ("fintech", *["health"] * 4, *["games"] * 5)


def reject(store: Store, id_: str, subject: str, item: str, **given: object) -> None:
    reason = str(given.pop("reason", "wrong_category"))
    sent = Dislike(id_, USE_CASE, subject, item, reason, "", "", None, NOW)
    store.record_dislike(
        replace(sent, **given),  # type: ignore[arg-type]
        reason=MARKET.dislikes[reason],
        facts=facts_of(MARKET)["dislike"],
        item_kind="startup",
        now=NOW,
    )


def fill(store: Store, *, weeks: Sequence[datetime] = (MONDAY,), lists: int = 10) -> None:
    """Ten items, one in ten fintech; `lists` lists of all ten over five days of each week."""
    store.upsert_entities([startup(f"i{n}", category) for n, category in enumerate(CATEGORIES)], now=NOW)
    items = tuple(f"i{n}" for n in range(10))
    for week in weeks:
        store.record_sessions(
            [
                shown(
                    f"{week:%m%d}-{n}", items, f"s{n % 10}", serve_time=week + n * timedelta(days=5) / lists
                )
                for n in range(lists)
            ],
            now=NOW,
        )


def reject_fintech(store: Store, week: datetime, count: int, *, others: int = 0) -> None:
    """Reject the fintech in the week's first lists, one a subject, and other items in the next ones."""
    for n in range(count + others):
        item = "i0" if n < count else f"i{1 + n % 9}"
        reject(
            store,
            f"d{week:%m%d}-{n}",
            f"s{n % 10}",
            item,
            session_id=f"{week:%m%d}-{n}",
            event_time=week + timedelta(days=1, minutes=n),
        )


def test_a_value_rejected_far_more_often_than_shown_is_a_pattern(store: Store) -> None:
    fill(store)
    reject_fintech(store, MONDAY, 8, others=2)
    report = report_dislikes(store, MARKET, BOUNDS, subject_id="", now=NOW)
    assert (report.total, report.lists, report.places) == (10, 10, 100)
    assert report.reasons == (("wrong_category", 10),)
    (found,) = report.patterns
    assert (found.name, found.dislikes, found.weeks) == ("category=fintech", 8, 1)
    assert found.rejected_share == pytest.approx(0.8)
    assert found.shown_share == pytest.approx(0.1)
    # Wilson's lower end of 8 of 10 is 0.4902; 18 of the 110 places and dislikes together are fintech.
    assert found.lift_bound == pytest.approx(0.4902 / (18 / 110), abs=1e-3)
    assert found.severity is Severity.LOW
    # With five of five it is one: 0.05 / 9 features / 5 tests / (1 + 1/2 + ... + 1/5) is over 2e-5.
    assert found.find_time == MONDAY + timedelta(days=1, minutes=4)
    assert [week.count for week in report.trend] == [0] * 11 + [10]
    assert report.trend[-1].start == MONDAY
    scores = [0.9] * 8 + [0.9 - 0.1 * (1 + n % 9) for n in (8, 9)]
    assert report.trend[-1].mean_predicted_score == pytest.approx(sum(scores) / 10)


def test_what_is_rejected_as_often_as_shown_is_none(store: Store) -> None:
    fill(store)
    for n in range(20):
        reject(store, f"d{n}", f"s{n % 10}", f"i{n % 10 if n < 10 else (n + 5) % 10}")
    report = report_dislikes(store, MARKET, BOUNDS, subject_id="", now=NOW)
    assert report.total == 20
    assert report.patterns == ()


def test_nothing_shown_or_unknown_items_give_no_pattern(store: Store) -> None:
    store.upsert_entities([startup("i0")], now=NOW)
    for n in range(10):
        reject(store, f"d{n}", f"s{n}", "i0")
        reject(store, f"u{n}", f"s{n}", "unknown")
    report = report_dislikes(store, MARKET, BOUNDS, subject_id="", now=NOW)
    assert (report.total, report.patterns, report.lists) == (20, (), 0)
    empty = report_dislikes(store, MARKET, BOUNDS, subject_id="nobody", now=NOW)
    assert (empty.total, empty.reasons, empty.patterns) == (0, (), ())


def test_one_subject_makes_a_pattern_of_its_own_and_none_over_all(store: Store) -> None:
    fill(store, lists=60)
    store.upsert_entities([startup(f"f{n}") for n in range(9)], now=NOW)
    for n in range(9):
        reject(store, f"d{n}", "s1", f"f{n}", event_time=MONDAY + timedelta(hours=n))
    assert report_dislikes(store, MARKET, BOUNDS, subject_id="", now=NOW).patterns == ()
    own = report_dislikes(store, MARKET, BOUNDS, subject_id="s1", now=NOW)
    (found,) = own.patterns
    assert (found.name, found.dislikes) == ("category=fintech", 9)
    assert found.shown_share == pytest.approx(0.1)
    assert (own.lists, own.places) == (6, 60)
    assert report_dislikes(store, MARKET, BOUNDS, subject_id="s2", now=NOW).patterns == ()


def test_what_was_shown_much_in_the_week_it_was_rejected_is_no_pattern(store: Store) -> None:
    fill(store, weeks=[MONDAY - WEEK * n for n in range(1, 6)])
    only = [shown(f"f{n}", ("i0",), f"s{n}", serve_time=MONDAY + n * HALF_DAY) for n in range(10)]
    store.record_sessions(only, now=NOW)
    for n in range(10):
        reject(store, f"d{n}", f"s{n}", "i0", session_id=f"f{n}", event_time=MONDAY + timedelta(hours=n))
    report = report_dislikes(store, MARKET, BOUNDS, subject_id="", now=NOW)
    assert (report.lists, report.patterns) == (60, ())


def test_a_sample_takes_the_latest_lists_of_each_day_and_of_the_window(store: Store) -> None:
    store.upsert_entities([startup("i"), startup("j", "health")], now=NOW)
    window = Window.until(NOW)
    lists = [
        *(shown(f"a{n}", ("i",), serve_time=MONDAY + timedelta(minutes=n)) for n in range(5)),
        *(shown(f"b{n:02}", ("j",), serve_time=MONDAY + timedelta(hours=1)) for n in range(LISTS_PER_DAY)),
        shown("first", ("i", "unknown", *["j"] * 7, "unknown", "i"), serve_time=window.start),
        shown("before", ("i",), serve_time=window.start - timedelta(microseconds=1)),
        shown("after", ("i",), serve_time=window.end),
        shown("other", ("i",), use_case="developer_startup"),
    ]
    store.record_sessions(lists, now=NOW)
    found = store.sample_shown(USE_CASE, "startup", ("category",), values=None, subject_id="", window=window)
    assert (found.lists, found.items) == (LISTS_PER_DAY + 1, (8, *[0] * 10, LISTS_PER_DAY))
    assert found.values == {
        ("category", "fintech"): (1, *[0] * 11),
        ("category", "health"): (7, *[0] * 10, LISTS_PER_DAY),
    }
    assert found.distinct == {"category": 2}
    only = store.sample_shown(
        USE_CASE,
        "startup",
        ("category", "team"),
        values=[("category", "fintech"), ("team", "nobody")],
        subject_id="",
        window=window,
    )
    assert only.values == {("category", "fintech"): (1, *[0] * 11)}
    assert only.distinct == {"category": 2, "team": 2}


def test_patterns_make_a_retraining_due_when_they_persist_until_it_is_done(store: Store) -> None:
    fill(store, weeks=[MONDAY - WEEK, MONDAY])
    reject_fintech(store, MONDAY, 6)
    status = judge_status(store, MARKET, BOUNDS, now=NOW)
    assert (status.due, status.numbers.unused) == (False, 6)
    assert report_dislikes(store, MARKET, BOUNDS, subject_id="", now=NOW).patterns[0].weeks == 1
    for n in range(3):
        reject(
            store, f"e{n}", f"t{n}", "i0", event_time=MONDAY - WEEK + timedelta(days=2), predicted_score=0.5
        )
    status = judge_status(store, MARKET, BOUNDS, now=NOW)
    assert (status.causes, status.numbers.unused) == ((Cause.PATTERN,), 9)
    (found,) = status.persistent_patterns
    assert (found.name, found.weeks) == ("category=fintech", 2)
    assert store.mark_negatives_used(USE_CASE, release="r", to_sequence=2**60, now=NOW) == 9
    status = judge_status(store, MARKET, BOUNDS, now=NOW)
    assert (status.due, status.persistent_patterns, status.numbers.last_release) == (False, (), "r")
    # Used ones are patterns still, for people to see; new ones of one week alone do not persist.
    assert report_dislikes(store, MARKET, BOUNDS, subject_id="", now=NOW).patterns
    for n in range(6):
        reject(store, f"f{n}", f"u{n}", "i0", predicted_score=0.1)
    assert not judge_status(store, MARKET, BOUNDS, now=NOW).due


def test_negatives_and_their_error_make_it_due_by_themselves(store: Store) -> None:
    for n in range(10):
        reject(store, f"d{n}", f"s{n}", f"i{n}", predicted_score=0.7)
    assert not judge_status(store, MARKET, BOUNDS, now=NOW).due
    reject(store, "d10", "s", "i", predicted_score=0.9)
    assert judge_status(store, MARKET, BOUNDS, now=NOW).causes == (Cause.ERROR,)
    for n in range(11, 20):
        reject(store, f"d{n}", f"s{n}", f"i{n}", predicted_score=0.1)
    assert judge_status(store, MARKET, BOUNDS, now=NOW).causes == (Cause.NEGATIVES,)


def test_metrics_of_a_record_that_is_known(store: Store) -> None:
    fill(store)
    assert measure_improvement(store, MARKET, now=NOW).scores == Scores(0, 0.0, 0.0, 0.0)
    place = {"session_id": f"{MONDAY:%m%d}-0", "event_time": MONDAY + timedelta(hours=1)}
    reject(store, "a", "s0", "i0", **place)  # on that list: score 0.9
    reject(store, "b", "s0", "i1", **place)  # score 0.8
    reject(store, "c", "s0", "i2", event_time=MONDAY + timedelta(hours=2), predicted_score=0.1)  # repeats b
    reject(store, "d", "s1", "i3", event_time=MONDAY)
    reject(store, "e", "s1", "i3", reason="other", event_time=MONDAY)
    reject(store, "f", "s1", "i4", reason="other", event_time=MONDAY + timedelta(hours=1))  # repeats e
    reject(store, "g", "s9", "i9", event_time=MONDAY - timedelta(weeks=20), predicted_score=0.6)  # outside
    for release, days in (("r1", 0), ("r2", 5), ("r3", 20)):
        upto = {"r1": 0, "r2": 2**60, "r3": 2**60}[release]
        store.mark_negatives_used(USE_CASE, release=release, to_sequence=upto, now=NOW + timedelta(days=days))
    found = measure_improvement(store, MARKET, now=NOW)
    assert (found.negatives, found.unused) == (7, 0)
    assert found.scores.scored == 4
    assert found.scores.mean == pytest.approx((0.9 + 0.8 + 0.1 + 0.6) / 4)
    assert found.scores.least == 0.1
    assert found.scores.greatest == pytest.approx(0.9)
    assert [(week.count, week.scored) for week in found.weekly[-2:]] == [(0, 0), (6, 3)]
    assert found.rate_by_category == (
        Rate("category=fintech", 1, 10),
        Rate("category=health", 1, 40),
        Rate("category=games", 0, 50),
    )
    # a, b and d cut 15 % of 1; c cuts 15 % of the 0.85 that b left, an hour of decay later.
    assert found.mean_adjustment == pytest.approx((3 * 0.15 + 0.85 * 0.15) / 4, abs=1e-4)
    assert found.repeat_rate_by_reason == (Rate("other", 1, 2), Rate("wrong_category", 1, 4))
    assert found.days_between_retrainings == pytest.approx(10.0)
    assert [(r.release, r.marked) for r in found.retrainings] == [("r3", 0), ("r2", 7), ("r1", 0)]
