"""The population stability index: known answers, bins with ties, and what chance makes of it."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from training_jobs.drift import Bins, Chance, Tally, psi
from training_jobs.drift.psi import pearson


def test_a_known_index() -> None:
    """Shares .5 .5 against .25 .75; with this many values the half that every bin gets changes nothing."""
    expected, actual = np.array([5e8, 5e8]), np.array([2.5e8, 7.5e8])

    assert psi(expected, actual) == pytest.approx(-0.25 * log(0.5) + 0.25 * log(1.5), rel=1e-6)
    assert psi(expected, actual) == pytest.approx(0.274653, abs=1e-6)


def test_an_empty_bin_weighs_what_the_samples_can_tell() -> None:
    def gone(n: float) -> float:
        return psi(np.array([0.5 * n, 0.5 * n]), np.array([n, 0.0]))

    expected = [0.5 + 0.5 / 10, 0.5 + 0.5 / 10], [1 + 0.5 / 10, 0.5 / 10]
    e, a = (np.array(shares) / (1 + 2 * 0.5 / 10) for shares in expected)
    assert gone(10) == pytest.approx(float(((a - e) * np.log(a / e)).sum()))
    assert gone(10) < gone(100) < gone(1000)


def test_nothing_has_drifted_from_nothing() -> None:
    assert psi(np.zeros(3), np.array([1.0, 2.0, 3.0])) == 0.0
    assert psi(np.array([1.0, 2.0, 3.0]), np.zeros(3)) == 0.0


def test_a_constant_is_a_bin_of_its_own_and_leaving_it_is_seen() -> None:
    values = np.full(500, 0.3, dtype=np.float32).astype(np.float64)
    subject = np.arange(500)
    bins = Bins.quantiles(values, 10)
    before = bins.tally(values, subject)

    assert bins.count == 3
    assert before.counts.tolist() == [0, 500, 0]
    assert before.chance == Chance()
    again = bins.tally(values * (1 + 1e-7), subject)
    assert psi(before.counts, again.counts) == 0.0
    gone = bins.tally(values + 0.01, subject)
    assert psi(before.counts, gone.counts) > 5.0


def test_few_discrete_values_each_have_a_bin() -> None:
    values = np.repeat([0.0, 0.5, 1.0], [300, 100, 600])
    bins = Bins.quantiles(values, 10)
    place = bins.place(np.array([0.0, 0.2, 0.5, 0.7, 1.0]))

    assert len(set(place.tolist())) == 5
    counts = bins.tally(values, np.arange(1000)).counts
    assert sorted(counts[counts > 0].tolist()) == [100, 300, 600]


def test_half_at_nought_leaves_bins_for_the_others() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([np.zeros(500), rng.random(500)])
    counts = Bins.quantiles(values, 10).tally(values, np.arange(1000)).counts

    assert max(counts) == 500
    assert ((counts == 0) | (counts >= 99)).all()


def test_chance_is_that_of_independent_values() -> None:
    """(B − 1)/n in each sample; the mean of a thousand indexes of nothing agrees."""
    rng = np.random.default_rng(1)
    bins = Bins(np.linspace(0.1, 0.9, 9))
    found, told = [], []
    for _ in range(1000):
        one, two = (bins.tally(rng.random(n), np.arange(n)) for n in (400, 300))
        found.append(psi(one.counts, two.counts))
        told.append((one.chance + two.chance).mean)

    assert np.mean(told) == pytest.approx(9 * (1 / 400 + 1 / 300), rel=0.02)
    assert np.mean(found) == pytest.approx(np.mean(told), rel=0.05)


def test_chance_counts_subjects_that_are_all_alike_within_themselves() -> None:
    """Every subject has one value, ten times: that tells what n/10 values tell."""
    rng = np.random.default_rng(2)
    bins = Bins(np.linspace(0.1, 0.9, 9))
    subject = np.repeat(np.arange(200), 10)
    found, told = [], []
    for _ in range(500):
        one, two = (bins.tally(np.repeat(rng.random(200), 10), subject) for _ in range(2))
        found.append(psi(one.counts, two.counts))
        told.append((one.chance + two.chance).mean)

    assert np.mean(told) == pytest.approx(9 * (2 / 200), rel=0.05)
    assert np.mean(found) == pytest.approx(np.mean(told), rel=0.15)


def test_one_subject_tells_no_more_than_one_value() -> None:
    assert Tally.of(np.array([[3.0, 5.0, 0.0]])).chance == Chance(1.0, 1.0)
    assert Tally.of(np.zeros((0, 3))).chance == Chance()


def test_chance_has_the_tail_it_says() -> None:
    """Of two thousand indexes of nothing, subjects all alike within themselves, one in a hundred is over."""
    rng = np.random.default_rng(11)
    bins, over = Bins(np.linspace(0.1, 0.9, 9)), 0
    subject = np.repeat(np.arange(150), 4)
    for _ in range(2000):
        one, two = (bins.tally(np.repeat(rng.random(150), 4), subject) for _ in range(2))
        over += (one.chance + two.chance).tail(pearson(one.counts, two.counts)) < 0.01

    assert 2 <= over <= 40
    assert Chance(9.0, 3.0).tail(16.919) == pytest.approx(0.05, abs=1e-5)  # χ² of 9 degrees of freedom
    assert (Chance().tail(0.1), Chance().tail(0.0)) == (0.0, 1.0)
