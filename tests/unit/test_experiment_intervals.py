"""Always-valid intervals: their error over a whole history of looks, beside that of a fixed-size interval."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from matchloop.experiments.intervals import (
    RatioSums,
    difference_interval,
    least_excess,
    rate_interval,
)
from matchloop.experiments.sample_ratio import sample_ratio_p_value

Counts = NDArray[np.int64]
ALPHA = 0.05
LOOKS = np.unique(np.geomspace(100, 4000, 60).astype(int))
"""Subjects, or lists, at which somebody looks."""
HISTORIES = 400
MOST_WRONG = ALPHA + 2.3 * math.sqrt(ALPHA * (1 - ALPHA) / HISTORIES)
"""What a method that errs in 5 % of histories exceeds in 1 % of runs; the seed is fixed all the same."""


def sums_of(reacted: Counts, shown: Counts) -> RatioSums:
    return RatioSums(
        int(reacted.sum()),
        int(shown.sum()),
        float((reacted**2).sum()),
        float((reacted * shown).sum()),
        float((shown**2).sum()),
    )


def arrivals(rng: np.random.Generator, rate: float, n: int) -> tuple[Counts, Counts]:
    """Subjects who come once: so many items each, a rate of their own about the common one."""
    shown = 10 * rng.integers(1, 6, n)
    own = rng.beta(2.0, 2.0 * (1 - rate) / rate, n)
    return rng.binomial(shown, own), shown


def fixed(sums: RatioSums) -> float:
    """Half the width of the 95 % interval for one look."""
    return 1.96 * math.sqrt((sums.spread - 1.0) / sums.shown**2)


def wrong_ever(history: Callable[[np.random.Generator], bool], seed: int) -> float:
    rngs = np.random.default_rng(seed).spawn(HISTORIES)
    return sum(map(history, rngs)) / HISTORIES


@pytest.mark.parametrize("rate", [0.3, 0.02])
def test_a_rate_is_hardly_ever_outside_over_all_looks(rate: float) -> None:
    def history(rng: np.random.Generator) -> bool:
        reacted, shown = arrivals(rng, rate, LOOKS[-1])
        intervals = [rate_interval(sums_of(reacted[:n], shown[:n])) for n in LOOKS]
        return any(not found.low <= rate <= found.high for found in intervals)

    assert wrong_ever(history, 1) <= MOST_WRONG


def test_a_difference_is_hardly_ever_outside_where_the_fixed_one_often_is() -> None:
    fooled = []

    def history(rng: np.random.Generator) -> bool:
        reacted, shown = arrivals(rng, 0.1, LOOKS[-1])
        challenged = rng.random(LOOKS[-1]) < 0.3
        outside = naive = False
        for n in LOOKS:
            arm = challenged[:n]
            ours = sums_of(reacted[:n][arm], shown[:n][arm])
            theirs = sums_of(reacted[:n][~arm], shown[:n][~arm])
            found = difference_interval(ours, theirs)
            outside |= not found.low <= 0.0 <= found.high
            naive |= abs(ours.rate - theirs.rate) > math.hypot(fixed(ours), fixed(theirs))
        fooled.append(naive)
        return outside

    assert wrong_ever(history, 2) <= MOST_WRONG
    assert np.mean(fooled) > 2 * ALPHA


def test_subjects_that_come_again_do_not_break_the_promise() -> None:
    # 300 subjects who are all there from the start; each look adds a list for each of them.
    def history(rng: np.random.Generator) -> bool:
        own = rng.beta(4.0, 36.0, 300)
        reacted, shown = np.zeros(300, dtype=np.int64), np.zeros(300, dtype=np.int64)
        for _ in range(80):
            reacted += rng.binomial(10, own)
            shown += 10
            found = rate_interval(sums_of(reacted, shown))
            if not found.low <= 0.1 <= found.high:
                return True
        return False

    assert wrong_ever(history, 3) <= MOST_WRONG


def test_a_guard_is_hardly_ever_lost_against_a_past_that_is_no_worse() -> None:
    # As after a promotion: one side stands still, the other grows from nothing.
    def history(rng: np.random.Generator) -> bool:
        before = sums_of(*arrivals(rng, 0.05, 1000))
        reacted, shown = arrivals(rng, 0.05, LOOKS[-1])
        return any(
            least_excess(sums_of(reacted[:n], shown[:n]), before, alpha=ALPHA) > 0.0
            or least_excess(before, sums_of(reacted[:n], shown[:n]), alpha=ALPHA) > 0.0
            for n in LOOKS
        )

    rate = wrong_ever(history, 4)  # either side
    assert rate <= 2 * ALPHA
    assert rate > 0.0


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(5)
    worse, better = sums_of(*arrivals(rng, 0.10, 1500)), sums_of(*arrivals(rng, 0.16, 1500))
    found = difference_interval(better, worse)
    assert 0.0 < found.low < 0.06 < found.high
    assert least_excess(better, worse) > found.low  # one side costs less than two
    assert least_excess(better, worse, factor=1.8) < 0.0


def test_what_nothing_is_known_of_may_be_anything() -> None:
    nothing, something = RatioSums(0, 0, 0.0, 0.0, 0.0), RatioSums.of_trials(5, 50)
    unknown = rate_interval(nothing)
    assert (unknown.low, unknown.high) == (0.0, 1.0)
    difference = difference_interval(something, nothing)
    assert (difference.low, difference.high) == (-1.0, 1.0)
    assert least_excess(something, nothing) == -math.inf


def test_no_reactions_are_no_certainty() -> None:
    found = rate_interval(RatioSums.of_trials(0, 1000))
    assert (found.rate, found.low) == (0.0, 0.0)
    assert 0.003 < found.high < 0.02


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_alpha_is_a_probability(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        rate_interval(RatioSums.of_trials(1, 10), alpha=alpha)


def test_a_fair_dealing_is_hardly_ever_doubted_and_an_unfair_one_is() -> None:
    def doubted(dealt: float) -> Callable[[np.random.Generator], bool]:
        def history(rng: np.random.Generator) -> bool:
            challengers = np.cumsum(rng.random(8000) < dealt)
            looks = range(50, 8001, 50)
            return any(
                sample_ratio_p_value(int(challengers[n - 1]), n - int(challengers[n - 1]), share=0.3) <= ALPHA
                for n in looks
            )

        return history

    assert wrong_ever(doubted(0.3), 6) <= MOST_WRONG
    assert wrong_ever(doubted(0.34), 7) > 0.95


def test_the_split_has_to_be_one() -> None:
    assert sample_ratio_p_value(0, 0, share=0.3) == 1.0
    assert sample_ratio_p_value(0, 100_000, share=0.3) > 0.0
    for wrong in ({"share": 0.0}, {"share": 1.0}):
        with pytest.raises(ValueError, match="share"):
            sample_ratio_p_value(1, 1, **wrong)
