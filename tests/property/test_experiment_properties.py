"""Intervals and results: what holds for any record."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from matchloop.experiments.experiment import Experiment
from matchloop.experiments.intervals import RatioSums, difference_interval, least_excess, rate_interval
from matchloop.experiments.reactions import Moments, Reactions
from matchloop.experiments.results import pooled, results_of
from matchloop.experiments.sample_ratio import sample_ratio_p_value

SUBJECTS = st.lists(
    st.integers(1, 60).flatmap(lambda shown: st.tuples(st.integers(0, shown), st.just(shown))), max_size=30
)
START = datetime(2026, 1, 1, tzinfo=UTC)
EXPERIMENT = Experiment("e1", "user_movie", 0.3, "r1", "r2", START)


def reactions(subjects: list[tuple[int, int]], arm: str = "champion", release: str = "r1") -> Reactions:
    reacted = np.array([y for y, _ in subjects], dtype=float)
    shown = np.array([x for _, x in subjects], dtype=float)
    moments = Moments(int(reacted.sum()), float((reacted**2).sum()), float((reacted * shown).sum()))
    return Reactions(
        arm,
        release,
        subjects=len(subjects),
        sessions=len(subjects),
        shown=int(shown.sum()),
        shown_squares=float((shown**2).sum()),
        clicks=moments,
        strong_positives=moments,
        dislikes=moments,
        reranked_sessions=0,
        mean_diversity=0.0,
        mean_freshness=0.0,
    )


def sums(subjects: list[tuple[int, int]]) -> RatioSums:
    found = reactions(subjects)
    return RatioSums.of(found, found.clicks)


@given(SUBJECTS, st.floats(0.001, 0.5))
def test_an_interval_holds_its_rate_and_narrows_with_alpha(
    subjects: list[tuple[int, int]], alpha: float
) -> None:
    wide, narrow = rate_interval(sums(subjects), alpha=alpha), rate_interval(sums(subjects), alpha=0.6)
    assert 0.0 <= wide.low <= wide.rate <= wide.high <= 1.0
    assert wide.low <= narrow.low <= narrow.high <= wide.high


@given(SUBJECTS, SUBJECTS)
def test_a_difference_turned_round_is_its_mirror_image(
    ours: list[tuple[int, int]], theirs: list[tuple[int, int]]
) -> None:
    one, other = (
        difference_interval(sums(ours), sums(theirs)),
        difference_interval(sums(theirs), sums(ours)),
    )
    assert np.allclose([one.rate, one.low, one.high], [-other.rate, -other.high, -other.low])
    assert least_excess(sums(ours), sums(theirs)) <= one.rate


@given(SUBJECTS, st.integers(2, 20))
def test_more_of_the_same_subjects_narrow_it(subjects: list[tuple[int, int]], times: int) -> None:
    once, often = rate_interval(sums(subjects)), rate_interval(sums(subjects * times))
    assert often.high - often.low <= once.high - once.low + 1e-12


@given(SUBJECTS, st.permutations(range(30)))
def test_the_order_of_subjects_does_not_matter(subjects: list[tuple[int, int]], order: list[int]) -> None:
    shuffled = [subjects[i] for i in order if i < len(subjects)]
    assert rate_interval(sums(shuffled)) == rate_interval(sums(subjects))


@given(SUBJECTS, SUBJECTS)
def test_groups_of_other_subjects_add_up(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    assert pooled([reactions(one), reactions(other)], "champion", "r1") == reactions(one + other)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.01, 0.99))
def test_a_p_value_is_one(challengers: int, champions: int, share: float) -> None:
    p = sample_ratio_p_value(challengers, champions, share=share)
    assert 0.0 < p <= 1.0
    assert np.isclose(
        p, sample_ratio_p_value(champions, challengers, share=1.0 - share), rtol=1e-3, atol=1e-12
    )


@given(SUBJECTS, SUBJECTS)
def test_results_name_both_arms_whoever_came(
    ours: list[tuple[int, int]], theirs: list[tuple[int, int]]
) -> None:
    rows = [reactions(ours, "challenger", "r2"), reactions(theirs), reactions(ours, "", "r0")]
    found = results_of(EXPERIMENT, rows)
    champion, challenger = found.arms
    assert (champion.arm, champion.release, champion.sums.subjects) == ("champion", "r1", len(theirs))
    assert (challenger.arm, challenger.release, challenger.sums.subjects) == ("challenger", "r2", len(ours))
    assert champion.expected_share + challenger.expected_share == 1.0
    assert (found.difference is None) == (not ours or not theirs)
    if found.difference is not None:
        ahead = challenger.rates.click_rate.rate - champion.rates.click_rate.rate
        assert found.difference.click_rate.rate == ahead
