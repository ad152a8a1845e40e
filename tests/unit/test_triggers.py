"""What makes a retraining due, and that what it does not mend is not retrained for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from matchloop.acts import Act, ActKind, ActNumber
from matchloop.release import RegisteredRelease
from training_jobs.config import TriggerConfig
from training_jobs.drift import Drift, FeatureDrift
from training_jobs.negatives import DueStatus
from training_jobs.triggers import (
    Decision,
    History,
    Trigger,
    age_trigger,
    decide,
    dislike_triggers,
    drift_trigger,
    history_of,
    trigger_table,
    unknown,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
CONFIG = TriggerConfig(max_age_days=30.0, least_hours=20.0)
DUE = Trigger("age", 31.0, 30.0, due=True)
DRIFTED = Trigger("drift", 0.5, 0.3, due=True)


def hours(count: float) -> timedelta:
    return timedelta(hours=count)


def act(kind: ActKind, ago: float) -> Act:
    return Act(f"{kind}{ago}", "u", kind, True, "", "", (), NOW - hours(ago))


def release(promoted: float | None, rolled_back: float | None = None) -> RegisteredRelease:
    """Promoted and rolled back so many hours ago."""
    times = {"promoted": promoted, "rolled_back": rolled_back}
    tags = {name: (NOW - hours(ago)).isoformat() for name, ago in times.items() if ago is not None}
    return RegisteredRelease("u", "r", "1", "", tags=tags)


def test_dislikes_have_the_bounds_of_the_store() -> None:
    status = DueStatus(("negatives",), 20, 20, 0.4, 0.7, ("category=fintech",))
    dislikes, error, patterns = dislike_triggers(status)

    assert (dislikes.value, dislikes.bound, dislikes.due) == (20, 20, True)
    assert (error.value, error.bound, error.due) == (0.4, 0.7, False)
    assert (patterns.value, patterns.due, patterns.note) == (1, False, "category=fintech")
    assert dislikes.numbers == (ActNumber("dislikes", 20, 20),)


@pytest.mark.parametrize(("days", "due"), [(0.0, False), (30.0, False), (30.01, True)])
def test_a_champion_grows_old(days: float, due: bool) -> None:
    assert age_trigger(NOW - timedelta(days=days), NOW, CONFIG).due is due


def test_no_champion_is_due() -> None:
    found = age_trigger(None, NOW, CONFIG)

    assert (found.due, found.note, found.numbers) == (True, "no champion", ())


def test_drift_is_due_when_a_feature_drifted() -> None:
    moved = FeatureDrift("recency", 0.5, 0.05, 0.3, 1e-9, True, (1.0,), (1.0,))
    still = FeatureDrift("popularity", 0.01, 0.05, 0.3, 0.9, False, (1.0,), (1.0,))

    assert drift_trigger(Drift("r", (still, moved))) == Trigger(
        "drift", 0.5, 0.3, True, "recency drifted; recency 0.500 of 0.300"
    )
    assert not drift_trigger(Drift("r", (still,))).due
    untold = drift_trigger(Drift("r", untold="no baseline"))
    assert (untold.due, untold.value, untold.known, untold.note) == (False, None, True, "no baseline")


def test_nothing_due_runs_nothing_and_says_what_could_not_be_asked() -> None:
    quiet = Trigger("age", 3.0, 30.0, due=False)
    asked = decide([quiet], History(), NOW, CONFIG)
    half = decide([quiet, unknown("drift", "feedback_svc is away")], History(), NOW, CONFIG)

    assert (asked.runs, asked.why, asked.unknown) == (False, "nothing is due", ())
    assert (half.runs, half.why) == (False, "nothing is due; drift could not be asked")
    assert half.unknown == ("drift",)


def test_what_is_due_runs_at_once_after_a_promotion() -> None:
    decision = decide([DUE, DRIFTED], History(NOW - hours(1)), NOW, CONFIG)

    assert (decision.runs, decision.why) == (True, "age, drift due")
    assert decision.numbers == (ActNumber("age", 31.0, 30.0), ActNumber("drift", 0.5, 0.3))


def test_drift_alone_waits_after_any_run() -> None:
    early = decide([DRIFTED], History(NOW - hours(19)), NOW, CONFIG)

    assert not early.runs
    assert early.why == "drift due, but drift alone waits after a run: not before 2026-05-01 13:00 UTC"
    assert decide([DRIFTED], History(NOW - hours(20)), NOW, CONFIG).runs
    assert decide([DRIFTED], History(), NOW, CONFIG).runs


@pytest.mark.parametrize(("failed", "pause"), [(1, 20), (2, 40), (3, 80), (6, 640), (7, 720), (500, 720)])
def test_runs_that_promote_nothing_are_further_and_further_apart(failed: int, pause: int) -> None:
    early = decide([DUE], History(NOW - hours(pause - 0.1), failed), NOW, CONFIG)

    assert not early.runs
    assert "promoted nothing that lasts: not before" in early.why
    assert decide([DUE], History(NOW - hours(pause), failed), NOW, CONFIG).runs


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40), st.floats(0.5, 48.0))
def test_an_hourly_job_that_never_helps_runs_ever_more_rarely(days: int, least: float) -> None:
    """Drift that retraining does not mend, asked every hour: the runs grow as the logarithm of the time."""
    config = TriggerConfig(max_age_days=10_000.0, least_hours=least)
    last, failed = None, 0
    for hour in range(days * 24):
        now = NOW + hours(hour)
        if decide([DRIFTED], History(last, failed), now, config).runs:
            last, failed = now, failed + 1

    most = 2
    while least * (2 ** (most - 1) - 1) < days * 24:
        most += 1
    assert 1 <= failed <= most


def test_history_counts_runs_since_the_last_promotion_that_held() -> None:
    acts = [act(ActKind.RETRAINED, ago) for ago in (1, 5, 50)]

    assert history_of([], []) == History()
    assert history_of(acts, []) == History(NOW - hours(1), 3)
    assert history_of(acts, [release(49)]) == History(NOW - hours(1), 2)
    assert history_of(acts, [release(0.5), release(49)]) == History(NOW - hours(1), 0)


def test_a_promotion_that_was_rolled_back_is_a_failed_run() -> None:
    acts = [act(ActKind.RETRAINED, 6), act(ActKind.RETRAINED, 60)]
    found = history_of(acts, [release(5, rolled_back=2), release(59)])

    assert found == History(NOW - hours(2), 1)
    assert not decide([DUE], found, NOW, CONFIG).runs


def test_other_acts_are_no_runs() -> None:
    assert history_of([act(ActKind.NOT_DUE, 1), act(ActKind.PROMOTED, 2)], []) == History()


def test_the_table_says_every_number() -> None:
    decision = Decision((DUE, unknown("drift", "feedback_svc is away")), True, "age due")
    console = Console(width=120)
    with console.capture() as shown:
        console.print(trigger_table(decision, "u"))

    lines = shown.get().splitlines()
    assert "u: age due" in lines[0]
    assert any(all(word in line for word in ("age", "31", "30", "yes")) for line in lines)
    assert any(all(word in line for word in ("drift", "unknown", "away")) for line in lines)
