"""Examination by rank is found again in simulated lists whose order was varied by chance."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchloop.errors import InvalidInput, TooFewExamples
from matchloop.position import ExaminationCurve, Weighting, examination, exposure_weight
from matchloop.usecase import Exploration
from ranking_svc.exploration import arrange
from tests.unit.training_worlds import INVESTORS, TAKEN, interaction, named, session, snapshot_of
from training_jobs.config import DatasetConfig
from training_jobs.datasets import examination_of, open_tables
from training_jobs.datasets.examination import Placements, estimate_examination

RANKS = 6
TRUE = np.arange(1.0, RANKS + 1.0) ** -0.7
LISTS = 30_000


def _log(order: np.ndarray[Any, Any], chance: np.ndarray[Any, Any], rng: np.random.Generator) -> Placements:
    """Play reactions to items, by their worth, in this order (lists, ranks); a chance of 1 is no chance."""
    worth = np.linspace(0.9, 0.2, RANKS)
    reacted = rng.random(order.shape) < TRUE * worth[order]
    group = np.repeat(np.arange(len(order)), RANKS)
    rank = np.tile(np.arange(1, RANKS + 1), len(order))
    left = chance.ravel() < 1.0
    return Placements(group[left], rank[left], chance.ravel()[left], reacted.ravel()[left])


def shuffled(rng: np.random.Generator) -> Placements:
    order = rng.permuted(np.tile(np.arange(RANKS), (LISTS, 1)), axis=1)
    return _log(order, np.full(order.shape, 1.0 / RANKS), rng)


def neighbours_swapped(rng: np.random.Generator) -> Placements:
    """One pair of neighbours, each time another, changes places with a chance of 0.3."""
    order = np.tile(np.arange(RANKS), (LISTS, 1))
    chance = np.ones(order.shape)
    rows, at = np.arange(LISTS), rng.integers(0, RANKS - 1, LISTS)
    swap = rng.random(LISTS) < 0.3
    order[rows[swap], at[swap]], order[rows[swap], at[swap] + 1] = at[swap] + 1, at[swap]
    for place in (at, at + 1):
        chance[rows, place] = np.where(swap, 0.3, 0.7)
    return _log(order, chance, rng)


def all_pairs_swapped(rng: np.random.Generator) -> Placements:
    """Pairs (1, 2), (3, 4), (5, 6), or (2, 3), (4, 5), each change places with a chance of one half."""
    order = np.tile(np.arange(RANKS), (LISTS, 1))
    chance = np.ones(order.shape)
    for row, begin in enumerate(rng.integers(0, 2, LISTS).tolist()):
        for at in range(begin, RANKS - 1, 2):
            chance[row, at : at + 2] = 0.5
            if rng.random() < 0.5:
                order[row, at], order[row, at + 1] = order[row, at + 1], order[row, at]
    return _log(order, chance, rng)


def served(rng: np.random.Generator, share: float, reach: int, first: int = 0) -> Placements:
    """Lists as ranking_svc explores them, numbered from `first` on; most stay as they were."""
    order, chance = np.empty((LISTS, RANKS), dtype=np.int64), np.empty((LISTS, RANKS))
    for row in range(LISTS):
        drawn = arrange(RANKS, Exploration(share=share, reach=reach), tiling=row % 2, rng=rng)
        order[row], chance[row] = drawn.order, drawn.propensities
    found = _log(order, chance, rng)
    return replace(found, group=found.group + first)


def swaps_of_any_chance(rng: np.random.Generator) -> Placements:
    """One pair of neighbours of each list changes places, with a chance that no other list has."""
    order = np.tile(np.arange(RANKS), (LISTS, 1))
    chance = np.ones(order.shape)
    rows, at = np.arange(LISTS), rng.integers(0, RANKS - 1, LISTS)
    swapping = rng.uniform(0.15, 0.5, LISTS)
    swap = rng.random(LISTS) < swapping
    order[rows[swap], at[swap]], order[rows[swap], at[swap] + 1] = at[swap] + 1, at[swap]
    for place in (at, at + 1):
        chance[rows, place] = np.where(swap, swapping, 1.0 - swapping)
    return _log(order, chance, rng)


def served_pairs(rng: np.random.Generator) -> Placements:
    return served(rng, 0.2, 1)


def served_fours(rng: np.random.Generator) -> Placements:
    return served(rng, 0.1, 3)


def policies_one_after_another(rng: np.random.Generator) -> Placements:
    """The reach and the share were changed while lists were logged."""
    return together(served(rng, 0.15, 1), served(rng, 0.1, 2, LISTS), served(rng, 0.25, 3, 2 * LISTS))


def together(*logs: Placements) -> Placements:
    columns = (np.concatenate([getattr(each, name) for each in logs]) for name in Placements.__slots__)
    return Placements(*columns)


@pytest.mark.parametrize(
    "play",
    [
        shuffled,
        neighbours_swapped,
        all_pairs_swapped,
        swaps_of_any_chance,
        served_pairs,
        served_fours,
        policies_one_after_another,
    ],
)
def test_known_examination_is_recovered(play: Any) -> None:
    found = estimate_examination(play(np.random.default_rng(7)), least=100)

    assert np.abs(np.array(found.by_rank) - TRUE).max() < 0.05


def test_plain_click_rates_would_not_recover_it() -> None:
    """The items' worth falls with the rank: without the propensities it looks like examination."""
    found = neighbours_swapped(np.random.default_rng(7))
    rate = np.array([found.reacted[found.rank == rank].mean() for rank in range(1, RANKS + 1)])

    assert np.abs(rate / rate[0] - TRUE).max() > 0.1


def test_ranks_nobody_swapped_are_interpolated_and_deeper_ones_fall_on() -> None:
    """Swaps of 1 with 2 and of 1 with 4: rank 2 is clicked 3/4 as often as rank 1, rank 4 half as often."""
    rank = np.concatenate([np.tile([1, 2], 400), np.tile([1, 4], 400)])
    place = np.arange(400)
    clicks = np.concatenate([np.stack([place < 200, place < share], axis=1).ravel() for share in (150, 100)])
    found = Placements(np.repeat(np.arange(800), 2), rank, np.full(1600, 0.5), clicks)
    curve = estimate_examination(found, least=100)

    np.testing.assert_allclose(curve.by_rank, [1.0, 0.75, 0.625, 0.5])
    assert float(curve.at(2)) == pytest.approx(0.75)
    assert float(curve.at(9)) == pytest.approx(float(0.5 * examination(9) / examination(4)))


def test_propensities_that_are_no_blocks_are_refused() -> None:
    """Five ranks with a chance of 1/6 each: one rank of the block is missing in the log."""
    found = shuffled(np.random.default_rng(1))
    kept = found.rank != 3
    with pytest.raises(TooFewExamples, match="30000 lists of unclear blocks"):
        estimate_examination(
            Placements(found.group[kept], found.rank[kept], found.propensity[kept], found.reacted[kept]),
            least=100,
        )


def test_what_a_rank_rests_on_is_what_its_chances_are_worth() -> None:
    """9 000 placements at a chance of 0.01 or 0.99 are worth some 360 at an even chance."""
    found = served(np.random.default_rng(5), 0.02, 1)
    assert len(found) > 100_000

    with pytest.raises(TooFewExamples, match=r"worth \d{3} at rank 1 .* 0 ranks .* worth at least 1000"):
        estimate_examination(found, least=1000)


def test_lists_that_tell_little_take_nothing_from_those_that_tell_much() -> None:
    rng = np.random.default_rng(5)
    much, little = served(rng, 0.5, 1), served(rng, 0.001, 1, LISTS)

    estimate_examination(much, least=10_000)
    estimate_examination(together(much, little), least=10_000)
    with pytest.raises(TooFewExamples):
        estimate_examination(little, least=100)


def test_policies_that_share_a_chance_are_left_out() -> None:
    """An item moved by the one has the chance of an item moved by the other: 0.15 / 2 = 0.3 / 4."""
    rng = np.random.default_rng(5)
    found = together(served(rng, 0.15, 1), served(rng, 0.3, 3, LISTS))

    with pytest.raises(TooFewExamples, match=r"(59\d{3}|60000) lists of unclear blocks"):
        estimate_examination(found, least=100)


def test_lists_of_unclear_blocks_are_left_out() -> None:
    """An erased item leaves a hole in a block: the list no longer says what could have stood where."""
    found = served_fours(np.random.default_rng(5))
    hole = (found.group % 3 == 0) & (found.rank == 3)
    left = Placements(*(getattr(found, name)[~hole] for name in Placements.__slots__))

    curve = estimate_examination(left, least=100)
    assert np.abs(np.array(curve.by_rank) - TRUE).max() < 0.07


@pytest.mark.parametrize("values", [(), (0.9,), (1.0, 0.0), (1.0, 0.4, 0.5), (1.0, float("nan"))])
def test_a_curve_begins_with_one_and_never_grows(values: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput):
        ExaminationCurve(values)


def test_estimated_weights_are_capped_inverses() -> None:
    curve = ExaminationCurve((1.0, 0.5, 0.1))

    assert exposure_weight([1, 2, 3], Weighting.ESTIMATED, curve=curve).tolist() == [1.0, 2.0, 5.0]
    with pytest.raises(InvalidInput, match="exploration"):
        exposure_weight([1], Weighting.ESTIMATED)


def logged(folder: Path, lists: int, *, explored: bool = True, young: bool = False) -> Any:
    """Two items that change places in every second list; the first is clicked, half the time the second."""
    people = [*named("investor", ["a"]), *named("startup", ["s0", "s1"])]
    features = np.zeros((2, len(INVESTORS.ranking.features)))
    sessions, likes = [], []
    for number in range(lists):
        items = ["s0", "s1"] if number % 2 else ["s1", "s0"]
        more: dict[str, Any] = {"propensities": [0.5, 0.5] if explored else [1.0, 1.0]}
        more |= {"serve_time": TAKEN - timedelta(minutes=1)} if young else {}
        sessions.append(session(f"l{number}", "a", items, [0.9, 0.8], features, **more))
        likes.append(interaction(2 * number, "a", items[0], "click", session_id=f"l{number}", rank=1))
        if number % 4 < 2:
            likes.append(interaction(2 * number + 1, "a", items[1], "click", session_id=f"l{number}", rank=2))
    return open_tables(snapshot_of(folder, people, likes, sessions))


def test_it_is_read_from_a_snapshot(tmp_path: Path) -> None:
    found = examination_of(logged(tmp_path, 200), INVESTORS, DatasetConfig(least_explored=50))

    np.testing.assert_allclose(found.by_rank, [1.0, 0.5])


@pytest.mark.parametrize(
    ("world", "says"),
    [
        ({"lists": 0}, "of 0 lists 0 log propensities"),
        ({"lists": 9, "explored": False}, "of 9 lists 9 log propensities, and none of these leaves a rank"),
        ({"lists": 9, "young": True}, "of 9 lists 9 log propensities"),
        (
            {"lists": 9},
            "18 placements by chance in 9 lists, worth 9 at rank 1 .* worth at least 50, 0 lists of unclear",
        ),
    ],
)
def test_missing_exploration_is_an_error_that_says_what_is_missing(
    tmp_path: Path, world: dict[str, Any], says: str
) -> None:
    with pytest.raises(TooFewExamples, match=says) as caught:
        examination_of(logged(tmp_path, **world), INVESTORS, DatasetConfig(least_explored=50))

    assert "rank 1 among them, and each item's propensity to be logged" in caught.value.message
