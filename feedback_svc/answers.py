"""The three questions about learning, answered from a store: what the servicer and the gauges ask."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from feedback_svc.evidence import (
    REPEAT_WITHIN,
    DislikeCell,
    Window,
    category_feature,
    discrete_features,
)
from feedback_svc.improvement import (
    Improvement,
    Week,
    category_rates,
    days_between,
    mean_adjustment,
    reason_counts,
    repeat_rates,
    score_numbers,
    weekly_trend,
)
from feedback_svc.patterns import Pattern, find_patterns, persistent, tally
from feedback_svc.retraining import RetrainingBounds, RetrainingStatus, judge_retraining

if TYPE_CHECKING:
    from feedback_svc.store.protocol import Store
    from matchloop.usecase import UseCase

RETRAININGS = 20
"""Told with the metrics, the latest first."""


@dataclass(frozen=True, slots=True)
class DislikeReport:
    """What is rejected and why, by one subject or by all.

    Parameters
    ----------
    total
        All dislikes on record, which the reasons add up to.
    lists, places
        How large the sample of shown items is.
    """

    total: int
    reasons: tuple[tuple[str, int], ...]
    trend: tuple[Week, ...]
    patterns: tuple[Pattern, ...]
    lists: int
    places: int


def report_dislikes(
    store: Store, use_case: UseCase, bounds: RetrainingBounds, *, subject_id: str, now: datetime
) -> DislikeReport:
    """Return reasons, trend and patterns; `subject_id` empty: over all subjects."""
    window = Window.until(now)
    cells = store.count_dislikes(use_case.id, subject_id=subject_id, window=window)
    features = discrete_features(use_case)
    rejections = store.list_rejections(
        use_case.id, use_case.item, features, subject_id=subject_id, since=window.start, unused_only=False
    )
    rules = bounds.patterns.of_one_subject() if subject_id else bounds.patterns
    tallied = tally(rejections, window, rules)
    shown = store.sample_shown(
        use_case.id,
        use_case.item,
        features,
        values=tallied.candidates,
        subject_id=subject_id,
        window=window,
    )
    return DislikeReport(
        total=_total(cells),
        reasons=reason_counts(cells),
        trend=weekly_trend(cells, window),
        patterns=find_patterns(tallied, shown, window, rules),
        lists=shown.lists,
        places=sum(shown.items),
    )


def measure_improvement(store: Store, use_case: UseCase, *, now: datetime) -> Improvement:
    """Return the improvement metrics of a use case."""
    window = Window.until(now)
    cells = store.count_dislikes(use_case.id, subject_id="", window=window)
    rejections = store.list_rejections(
        use_case.id, use_case.item, (), subject_id="", since=window.start - REPEAT_WITHIN, unused_only=False
    )
    category = category_feature(use_case)
    shown = store.sample_shown(
        use_case.id, use_case.item, (category,), values=None, subject_id="", window=window
    )
    retrainings = store.list_retrainings(use_case.id, limit=RETRAININGS)
    return Improvement(
        negatives=_total(cells),
        unused=store.negative_numbers(use_case.id).unused,
        scores=score_numbers(cells),
        weekly=weekly_trend(cells, window),
        rate_by_category=category_rates(shown, category),
        mean_adjustment=mean_adjustment(rejections, window),
        days_between_retrainings=days_between(retrainings),
        repeat_rate_by_reason=repeat_rates(rejections, window),
        retrainings=retrainings,
    )


def judge_status(
    store: Store, use_case: UseCase, bounds: RetrainingBounds, *, now: datetime
) -> RetrainingStatus:
    """Say whether a retraining is due; patterns are looked for among the unused negatives alone."""
    numbers = store.negative_numbers(use_case.id)
    return judge_retraining(numbers, bounds, _persistent(store, use_case, bounds, numbers.unused, now))


def _persistent(
    store: Store, use_case: UseCase, bounds: RetrainingBounds, unused: int, now: datetime
) -> tuple[Pattern, ...]:
    rules = bounds.patterns
    if unused < max(rules.dislikes, rules.weeks * rules.weekly_dislikes):
        return ()  # too few for any, so the lists need not be read
    window, features = Window.until(now), discrete_features(use_case)
    rejections = store.list_rejections(
        use_case.id, use_case.item, features, subject_id="", since=window.start, unused_only=True
    )
    tallied = tally(rejections, window, rules)
    if not tallied.candidates:
        return ()
    shown = store.sample_shown(
        use_case.id, use_case.item, features, values=tallied.candidates, subject_id="", window=window
    )
    return persistent(find_patterns(tallied, shown, window, rules), rules)


def _total(cells: tuple[DislikeCell, ...]) -> int:
    return sum(cell.count for cell in cells)
