"""What a population stability index promises, whatever the samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from training_jobs.drift import Bins, psi

Counts = NDArray[np.float64]
VALUES = arrays.arrays(
    np.float64,
    st.integers(1, 60),
    elements=st.floats(-1e6, 1e6, allow_nan=False) | st.sampled_from([0.0, 1.0, 0.5]),
)


@st.composite
def two_counts(draw: st.DrawFn) -> tuple[Counts, Counts]:
    bins = draw(st.integers(1, 12))
    counts = arrays.arrays(np.int64, bins, elements=st.integers(0, 1000))
    return draw(counts).astype(float), draw(counts).astype(float)


@given(two_counts())
def test_it_is_never_negative_nor_without_end(both: tuple[Counts, Counts]) -> None:
    found = psi(*both)

    assert found >= 0.0
    assert np.isfinite(found)


@given(two_counts())
def test_it_is_the_same_from_either_side(both: tuple[Counts, Counts]) -> None:
    assert psi(*both) == pytest.approx(psi(both[1], both[0]), abs=1e-12)


@given(two_counts(), st.integers(1, 50))
def test_equal_shares_have_not_drifted(both: tuple[Counts, Counts], times: int) -> None:
    assert psi(both[0], both[0] * times) == pytest.approx(0.0, abs=1e-12)


@given(two_counts(), st.randoms(use_true_random=False))
def test_the_order_of_bins_says_nothing(both: tuple[Counts, Counts], random: np.random.Generator) -> None:
    order = list(range(len(both[0])))
    random.shuffle(order)

    assert psi(both[0][order], both[1][order]) == pytest.approx(psi(*both), abs=1e-12)


@given(two_counts())
def test_bins_joined_tell_less(both: tuple[Counts, Counts]) -> None:
    """What is not told apart cannot differ; with bins this full smoothing is next to nothing."""
    expected, actual = both[0] + 1000.0, both[1] + 1000.0
    if len(expected) < 2:
        return
    joined = [np.concatenate([counts[:-2], [counts[-2:].sum()]]) for counts in (expected, actual)]

    assert psi(joined[0], joined[1]) <= 1.01 * psi(expected, actual) + 1e-9


@given(VALUES, st.integers(1, 12))
def test_every_value_is_in_one_bin_and_bins_rise(values: Counts, count: int) -> None:
    bins = Bins.quantiles(values, count)
    tally = bins.tally(values, np.arange(len(values)))

    assert (np.diff(bins.edges) > 0).all()
    assert tally.total == len(values)
    assert min(tally.chance.mean, tally.chance.norm) >= 0.0
    assert bins.count <= 3 * count + 1


@given(VALUES, st.integers(2, 12), st.randoms(use_true_random=False))
def test_the_order_of_values_says_nothing(values: Counts, count: int, random: np.random.Generator) -> None:
    shuffled = values.tolist()
    random.shuffle(shuffled)

    assert (
        Bins.quantiles(np.array(shuffled), count).edges.tolist()
        == Bins.quantiles(values, count).edges.tolist()
    )


@given(VALUES, st.integers(2, 12))
def test_a_value_that_is_a_bin_s_worth_is_alone(values: Counts, count: int) -> None:
    bins = Bins.quantiles(values, count)
    place = bins.place(values)
    for value, times in zip(*np.unique(values, return_counts=True), strict=True):
        if times > len(values) / count:
            together = values[place == bins.place(np.array([value]))[0]]
            assert np.allclose(together, value, rtol=2e-6, atol=0.0)
