"""Lists that chance varied tell what another order of them would bring."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchloop.usecase import Exploration
from ranking_svc import exploration
from tests.unit.training_worlds import INVESTORS, START, TAKEN, interaction, named, session, snapshot_of
from training_jobs.config import DatasetConfig
from training_jobs.datasets import open_tables
from training_jobs.evaluate.list_value import Reward, list_value
from training_jobs.evaluate.logged import ExploredLists, blocks_of, explored_lists
from training_jobs.evaluate.off_policy import Estimator, Settings

NAMES = INVESTORS.ranking.features
SEEN = np.arange(1.0, 10.0) ** -0.5
"""Examination by rank."""


def shuffled(count: int, width: int, start: int, share: float, rng: np.random.Generator) -> Any:
    """Return order and propensities: every block of `width` from `start` on is shuffled, or none."""
    order, chance = np.arange(count), np.ones(count)
    mixed = rng.random() < share
    for begin in range(start, count - width + 1, width):
        places = np.arange(begin, begin + width)
        order[places] = rng.permutation(places) if mixed else places
        own = order[places] == places
        chance[places] = np.where(own, 1.0 - share * (width - 1) / width, share / width)
    return order, chance


def simulated(
    seed: int, *, lists: int = 3000, count: int = 6, width: int = 2, share: float = 0.3
) -> tuple[ExploredLists, np.ndarray[Any, Any], float, float]:
    """Return lists served by a score that knows half the truth, the truth, and what a list brings as served
    without chance and with each block in the order of the truth."""
    rng = np.random.default_rng(seed)
    parts: dict[str, list[Any]] = {name: [] for name in ("rank", "chance", "worth", "click", "score")}
    served = best = 0.0
    for number in range(lists):
        worth = rng.uniform(0.0, 0.9, count)
        score = worth + rng.normal(0.0, 0.4, count)
        start = number % 2 if width == 2 else count % width
        base = worth[np.argsort(-score)]
        order, chance = shuffled(count, width, start, share, rng)
        shown = base[order]
        ideal = base.copy()
        for begin in range(start, count - width + 1, width):
            ideal[begin : begin + width] = np.sort(ideal[begin : begin + width])[::-1]
        served += float(base @ SEEN[:count])
        best += float(ideal @ SEEN[:count])
        parts["rank"].append(np.arange(1, count + 1))
        parts["chance"].append(chance)
        parts["worth"].append(shown)
        parts["click"].append(rng.random(count) < shown * SEEN[:count])
        parts["score"].append(np.sort(score)[::-1][order])
    columns = {name: np.concatenate(values) for name, values in parts.items()}
    group = np.repeat(np.arange(lists), count)
    click = columns["click"].astype(np.float64)
    features = np.zeros((len(group), len(NAMES)), dtype=np.float32)
    features[:, 0] = columns["worth"]
    found = ExploredLists(
        group=group,
        subject=group // 3,
        item=rng.permutation(len(group)),
        rank=columns["rank"],
        propensity=columns["chance"],
        block=blocks_of(group, columns["rank"], columns["chance"]),
        features=features,
        original_score=columns["score"].astype(np.float32),
        click=click,
        strong=click * (rng.random(len(click)) < 0.3),
    )
    return found, columns["worth"].astype(np.float32), served / lists, best / lists


@pytest.mark.parametrize(("count", "width", "share"), [(6, 2, 0.3), (7, 3, 0.5), (4, 4, 1.0), (5, 2, 1.0)])
def test_blocks_are_read_from_the_propensities(count: int, width: int, share: float) -> None:
    found, *_ = simulated(0, lists=200, count=count, width=width, share=share)
    for group in range(200):
        rows = np.flatnonzero(found.group == group)
        start = group % 2 if width == 2 else count % width
        wanted = np.full(count, -1)
        for number, begin in enumerate(range(start, count - width + 1, width)):
            wanted[begin : begin + width] = number
        block = found.block[rows]
        assert ((block >= 0) == (wanted >= 0)).all()
        assert (np.diff(block[block >= 0]) == np.diff(wanted[wanted >= 0])).all()
    inside = found.block >= 0
    sizes = np.unique(found.block[inside], return_counts=True)[1]
    assert (sizes == width).all()


@pytest.mark.parametrize("reach", [1, 2, 3])
def test_blocks_are_those_that_serving_shuffled(reach: int) -> None:
    rng, policy = np.random.default_rng(reach), Exploration(share=0.4, reach=reach)
    group, rank, chance, wanted = [], [], [], []
    for number in range(300):
        count, tiling = int(rng.integers(reach + 1, 12)), number % 2
        found = np.full(count, -1)
        for at, block in enumerate(exploration.blocks_of(count, reach, tiling)):
            found[block.start : block.stop] = 100 * number + at
        wanted.append(found)
        chance.append(exploration.arrange(count, policy, tiling=tiling, rng=rng).propensities)
        group.append(np.full(count, number))
        rank.append(np.arange(1, count + 1))
    blocks = blocks_of(*(np.concatenate(each) for each in (group, rank, chance)))
    _, numbers = np.unique(np.concatenate(wanted), return_inverse=True)
    np.testing.assert_array_equal(blocks, numbers - 1)


@pytest.mark.parametrize(
    "chance",
    [
        [0.9, 0.8, 1.0],  # no block has these
        [0.7, 1.0, 0.7],  # not neighbours
        [0.7, 0.7, 0.7],  # no other rank's probability is known
        [1.0, 1.0, 1.0],
    ],
)
def test_propensities_that_are_no_blocks_give_none(chance: list[float]) -> None:
    assert (blocks_of(np.zeros(3, np.int64), np.arange(1, 4), np.array(chance)) == -1).all()


def test_an_order_never_leaves_its_blocks_nor_depends_on_how_chance_put_them() -> None:
    rng = np.random.default_rng(0)
    group, rank = np.zeros(3, np.int64), np.array([1, 2, 3])
    score = np.array([0.1, 0.9, 0.9, 0.5], dtype=np.float32)
    shown = []
    for order in permutations(range(3)):
        items = np.array(order)
        lists = ExploredLists(
            group, group, items, rank, np.full(3, 1 / 3), np.zeros(3, np.int64), np.zeros((3, 1), np.float32),
            np.zeros(3, np.float32), np.zeros(3), np.zeros(3),
        )  # fmt: skip
        shown.append(items[lists.order_by(score[items])].tolist())
    assert all(each == [1, 2, 0] for each in shown)
    found, worth, *_ = simulated(1, lists=50)
    stands = found.order_by(rng.random(len(worth)).astype(np.float32))
    assert (np.sort(stands) == np.arange(len(stands))).all()
    assert (found.block[stands] == found.block).all()
    assert (stands[found.block < 0] == np.flatnonzero(found.block < 0)).all()


@pytest.mark.parametrize(("count", "width", "share"), [(6, 2, 0.3), (6, 3, 0.6)])
def test_intervals_cover_what_orders_would_bring(count: int, width: int, share: float) -> None:
    covered: dict[tuple[str, Estimator], list[bool]] = {}
    for seed in range(30):
        lists, worth, served, best = simulated(seed, lists=800, count=count, width=width, share=share)
        mine, theirs = lists.order_by(worth), lists.order_by(lists.original_score)
        rng = np.random.default_rng(seed)
        found = list_value(lists, mine, theirs, Reward.CLICK, rng=rng, settings=Settings(resamples=200))
        for name, value in found.value.items():
            covered.setdefault(("value", name), []).append(value.low <= best <= value.high)
        for name, gain in found.gain.items():
            covered.setdefault(("gain", name), []).append(gain.low <= best - served <= gain.high)
    assert len(covered) == 6
    assert all(sum(each) >= 24 for each in covered.values()), covered


def test_the_truth_gains_over_the_served_order_and_its_reverse_loses() -> None:
    lists, worth, served, best = simulated(0, lists=4000, count=4, width=4, share=1.0)
    theirs = lists.order_by(lists.original_score)
    rng = np.random.default_rng(0)
    up, down = (
        list_value(lists, lists.order_by(sign * worth), theirs, Reward.CLICK, rng=rng).gain
        for sign in (1, -1)
    )
    for name in Estimator:
        assert up[name].low > 0.0 > down[name].high
        assert up[name].mean == pytest.approx(best - served, rel=0.5)
    same = list_value(lists, theirs, theirs, Reward.CLICK, rng=rng)
    assert same.contested == 0
    assert all((gain.low, gain.high) == (0.0, 0.0) for gain in same.gain.values())


def test_clicks_at_ranks_where_chance_could_not_act_change_no_gain() -> None:
    lists, worth, *_ = simulated(0, lists=300)
    order = lists.order_by(worth)
    more = ExploredLists(
        **{
            name: getattr(lists, name)
            for name in lists.__dataclass_fields__
            if name not in ("click", "left_out")
        },
        click=np.where(lists.block < 0, 1.0, lists.click),
    )
    one, other = (
        list_value(each, order, None, Reward.CLICK, rng=np.random.default_rng(0)) for each in (lists, more)
    )
    assert other.gain[Estimator.SNIPS] == one.gain[Estimator.SNIPS]
    assert other.value[Estimator.IPS].mean > one.value[Estimator.IPS].mean


def served(folder: Path, lists: int = 8, **more: Any) -> Any:
    """Two items that change places in every second list and one that stays; rank 1 is liked, rank 3 seen."""
    people = [*named("investor", ["a", "b"]), *named("startup", ["s0", "s1", "s2"])]
    features = np.arange(3.0)[:, None] * np.ones(len(NAMES))
    sessions, reactions = [], []
    for number in range(lists):
        own = number % 2 == 0
        items = ["s0", "s1", "s2"] if own else ["s1", "s0", "s2"]
        chance = [0.9, 0.9, 1.0] if own else [0.1, 0.1, 1.0]
        told = {"propensities": chance, "serve_time": START + timedelta(hours=number)} | more
        subject = "ab"[number % 2]
        sessions.append(session(f"l{number}", subject, items, [0.9, 0.8, 0.7], features, **told))
        reactions += [
            interaction(2 * number, subject, items[0], "like", session_id=f"l{number}", rank=1),
            interaction(2 * number + 1, subject, "s2", "view", session_id=f"l{number}", rank=3),
        ]
    # Both kinds of propensity in one list tell how wide blocks are.
    wide = session(
        "wide", "a", ["s0", "s1", "s2"], [0.9] * 3, features, propensities=[0.9, 0.1, 1.0],
        serve_time=START,
    )  # fmt: skip
    return open_tables(snapshot_of(folder, people, reactions, [*sessions, wide]))


def test_lists_are_read_from_a_snapshot(tmp_path: Path) -> None:
    found = explored_lists(served(tmp_path), INVESTORS, DatasetConfig())
    assert (found.lists, len(found), found.left_out) == (9, 27, 0)
    assert found.propensity.reshape(9, 3)[1].tolist() == [0.1, 0.1, 1.0]
    assert (found.block.reshape(9, 3)[:, 2] == -1).all()
    assert found.click.reshape(9, 3)[:8].tolist() == [[1.0, 0.0, 0.0]] * 8
    assert found.strong.sum() == 8
    assert found.features[:3, 0].tolist() == [0.0, 1.0, 2.0]
    assert len(np.unique(found.subject)) == 2


def test_only_lists_that_count_are_read(tmp_path: Path) -> None:
    later = explored_lists(
        served(tmp_path / "a"), INVESTORS, DatasetConfig(), after=START + timedelta(hours=4)
    )
    assert (later.lists, later.left_out) == (3, 0)
    young = explored_lists(served(tmp_path / "b", serve_time=TAKEN), INVESTORS, DatasetConfig())
    assert young.lists == 1
    none = explored_lists(served(tmp_path / "c", propensities=None), INVESTORS, DatasetConfig())
    assert none.lists == 1
