"""What a dislike does, by reason, on the specified use cases."""

from __future__ import annotations

import pytest

from feedback_svc.dislikes import Dislike, StoredDislike, judge
from feedback_svc.retraining import Cause, NegativeNumbers, RetrainingBounds, judge_retraining
from matchloop.entities import Categorical, Entity, Multi
from tests.feedback_worlds import NOW, USE_CASE, key, startup, use_cases

MOVIE = Entity(
    key("movie", "m"),
    {"genres": Multi(("crime", "drama")), "cast": Multi(("ann",)), "series": Categorical("heist")},
)


def judged(
    reason: str, item: Entity | None, use_case: str = USE_CASE, score: float | None = None
) -> StoredDislike:
    sent = Dislike("d", use_case, "s", "i", reason, "", "", None, NOW)
    stored, factors = judge(
        sent,
        reason=use_cases()[use_case].dislikes[reason],
        item=item,
        earlier=(),
        session_score=score,
        receive_time=NOW,
    )
    assert [f.factor for f in factors] == [change.after for change in stored.changes]
    return stored


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("wrong_category", {"fintech": 0.85}),
        ("poor_quality", {"ada": 0.9, "bo": 0.9}),
        ("not_interested", {"fintech": 0.925}),
        ("already_known", {}),
        ("other", {}),
    ],
)
def test_reasons_cut_what_they_name(reason: str, expected: dict[str, float]) -> None:
    changes = judged(reason, startup("i")).changes
    assert {change.value: change.after for change in changes} == pytest.approx(expected)
    assert all(change.before == 1.0 for change in changes)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("wrong_genre", {"crime": 0.85, "drama": 0.85}),
        ("poor_quality", {"ann": 0.9}),
        ("not_interested", {"crime": 0.925, "drama": 0.925}),
        ("franchise_fatigue", {"heist": 0.88}),
        ("already_watched", {}),
        ("other", {}),
    ],
)
def test_reasons_of_films_cut_what_they_name(reason: str, expected: dict[str, float]) -> None:
    changes = judged(reason, MOVIE, "user_movie").changes
    assert {change.value: change.after for change in changes} == pytest.approx(expected)


def test_every_reason_of_every_use_case_can_be_judged() -> None:
    for use_case in use_cases().values():
        for reason, what in use_case.dislikes.items():
            assert bool(judged(reason, MOVIE, use_case.id).changes) <= bool(what.cut)


def test_an_unknown_item_is_hidden_without_a_cut() -> None:
    assert judged("wrong_category", None).changes == ()


def test_the_example_has_the_sessions_score_brought_into_range() -> None:
    assert judged("other", None).error is None
    assert judged("other", None, score=0.4).error == 0.4
    assert judged("other", None, score=7.0).error == 1.0
    assert judged("other", None, score=-7.0).dislike.predicted_score == 0.0


@pytest.mark.parametrize(
    ("unused", "with_error", "mean", "expected"),
    [
        (19, 19, 0.7, ()),
        (20, 0, 0.0, (Cause.NEGATIVES,)),
        (10, 10, 0.71, (Cause.ERROR,)),
        (10, 9, 0.99, ()),
        (20, 20, 0.9, (Cause.NEGATIVES, Cause.ERROR)),
    ],
)
def test_a_retraining_is_due_over_the_bounds(
    unused: int, with_error: int, mean: float, expected: tuple[Cause, ...]
) -> None:
    numbers = NegativeNumbers(unused, with_error, mean, None, "")
    found = judge_retraining(numbers, RetrainingBounds())
    assert (found.causes, found.due) == (expected, bool(expected))
