"""What is said of rejections is of the set of lists and dislikes: no order of arrival changes it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_svc.answers import judge_status, measure_improvement, report_dislikes
from feedback_svc.chance import tail, wilson
from feedback_svc.dislikes import Dislike
from feedback_svc.interactions import facts_of
from feedback_svc.retraining import RetrainingBounds
from feedback_svc.sessions import Session
from feedback_svc.store.memory import MemoryStore
from tests.feedback_worlds import NOW, USE_CASE, shown, startup, use_cases

MARKET = use_cases()[USE_CASE]
BOUNDS = RetrainingBounds()
ITEMS = tuple(f"i{n}" for n in range(6))

dislikes = st.builds(
    lambda subject, item, days, scored, session: (subject, item, days, scored, session),
    st.integers(0, 4),
    st.sampled_from([ITEMS[0], ITEMS[0], ITEMS[0], *ITEMS]),
    st.integers(-20, 0),
    st.sampled_from([None, 0.25, 0.75]),
    st.integers(0, 9),
)


def sent(number: int, drawn: tuple[int, str, int, float | None, int]) -> Dislike:
    subject, item, days, score, session = drawn
    time = NOW + timedelta(days=days)
    id_ = f"d{number:02}"
    return Dislike(
        id_, USE_CASE, f"s{subject}", item, "wrong_category", "", f"x{session}-{subject}", score, time
    )


def told(arrivals: list[Session | Dislike]) -> list[Any]:
    """Record in this order; return all that is said, but for what is about the arrival itself."""
    store = MemoryStore()
    store.upsert_entities([startup(i, "fintech" if i == "i0" else f"c{i}") for i in ITEMS], now=NOW)
    for arrival in arrivals:
        if isinstance(arrival, Session):
            store.record_sessions([arrival], now=NOW)
            continue
        store.record_dislike(
            arrival,
            reason=MARKET.dislikes[arrival.reason],
            facts=facts_of(MARKET)["dislike"],
            item_kind="startup",
            now=NOW,
        )
    status = judge_status(store, MARKET, BOUNDS, now=NOW)
    metrics = measure_improvement(store, MARKET, now=NOW)
    return [
        report_dislikes(store, MARKET, BOUNDS, subject_id="", now=NOW).patterns,
        report_dislikes(store, MARKET, BOUNDS, subject_id="s1", now=NOW).patterns,
        report_dislikes(store, MARKET, BOUNDS, subject_id="", now=NOW).reasons,
        status.causes,
        status.persistent_patterns,
        [(week.count, week.scored, round(week.mean_predicted_score, 9)) for week in metrics.weekly],
        metrics.rate_by_category,
        metrics.repeat_rate_by_reason,
        (round(metrics.scores.mean, 9), metrics.scores.least, metrics.scores.greatest),
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(dislikes, min_size=1, max_size=25), st.data())
def test_no_order_of_arrival_changes_what_is_said(drawn: list[Any], data: st.DataObject) -> None:
    lists = [
        shown(f"x{n}-{s}", ITEMS, f"s{s}", serve_time=NOW - timedelta(days=2 * n))
        for n in range(10)
        for s in range(5)
    ]
    arrivals: list[Session | Dislike] = [*lists, *(sent(n, one) for n, one in enumerate(drawn))]
    assert told(arrivals) == told(data.draw(st.permutations(arrivals)))


@given(st.integers(0, 400), st.integers(0, 400), st.floats(0, 1))
def test_chances_are_chances(one: int, other: int, share: float) -> None:
    least, trials = min(one, other), max(one, other)
    assert 0.0 <= tail(least, trials, share) <= 1.0
    assert tail(least + 1, trials + 1, share) <= tail(least, trials + 1, share) + 1e-12
    assert 0.0 <= wilson(least, trials) <= (least / trials if trials else 0.0)
