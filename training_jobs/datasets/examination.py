"""How likely each rank is looked at, learned from lists whose order was varied by chance.

Where items were permuted by chance within a block of ranks, what they are worth is the same at each of its
ranks, once every reaction counts by the inverse of the item's chance to be there: what differs is
examination alone (Joachims, Swaminathan, Schnabel 2017, "Unbiased learning-to-rank with biased feedback",
section 5.3: swap interventions). Blocks over different ranks are put together as in intervention harvesting
(Agarwal, Zaitsev, Wang, Li, Najork, Joachims 2019, "Estimating position bias without intrusive
interventions"): expected weighted reactions are examination of the rank × worth of the block, fitted
alternately. Examination then never grows with the rank, by isotonic regression.

What a rank rests on is its effective number of placements, (Σ 1/propensity)² / Σ 1/propensity² (Kish 1965) as
each policy's chances make it: a list that chance hardly ever varies tells little, however often it is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import ibis
import numpy as np
from scipy.optimize import isotonic_regression
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from matchloop.errors import TooFewExamples
from matchloop.position import ExaminationCurve
from training_jobs.datasets.shown import last_moment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from matchloop.usecase import UseCase
    from training_jobs.config import DatasetConfig
    from training_jobs.datasets.tables import SnapshotTables, Table

FLOOR = 0.01
"""Least examination: a rank nobody was seen to look at is not impossible to see."""
TOLERANCE = 0.15
"""How far mean 1 / propensity may be from the number of ranks in a block."""
EXACT = 1e-6
"""The same where the propensities themselves tell that number."""
MISSING = (
    "lists have to be served with their order varied by chance within blocks of ranks, rank 1 among them, "
    "and each item's propensity to be logged (over 0 and under 1 where chance decided): docs/exploration.md"
)


@dataclass(frozen=True, slots=True)
class Placements:
    """Items at ranks where chance decided, in columns of equal length, by list, then rank.

    Parameters
    ----------
    group
        int64: number of the list.
    rank
        int64, 1 is the first.
    propensity
        float64, over 0 and under 1: the item's chance to stand at this rank.
    reacted
        Whether the subject reacted to the item from this list.
    """

    group: NDArray[np.int64]
    rank: NDArray[np.int64]
    propensity: NDArray[np.float64]
    reacted: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.group)


def explored_items(tables: SnapshotTables, use_case: UseCase, config: DatasetConfig) -> Table:
    """Return session_id, rank, propensity, reacted of each item whose rank was left to chance.

    Lists younger than the attribution window are left out. A reaction is an event of positive weight that is
    no view, or any of positive weight in a use case that has nothing but views.
    """
    lists = tables.sessions.filter(tables.sessions.use_case == use_case.id)
    lists = lists.filter(
        lists.serve_time <= last_moment(tables, config),
        lists.propensities.length() == lists.item_ids.length(),
    )
    numbered = lists.mutate(place=ibis.range(0, lists.item_ids.length()).unnest())
    items = numbered.select(
        "session_id",
        rank=(numbered.place + 1).cast("int64"),
        item_id=numbered.item_ids[numbered.place],
        propensity=numbered.propensities[numbered.place],
    )
    items = items.filter(items.propensity > 0.0, items.propensity < 1.0)
    good = [name for name, event in use_case.events.items() if event.weight > 0.0]
    clicks = [name for name in good if not use_case.events[name].view] or good
    events = tables.interactions.filter(
        tables.interactions.use_case == use_case.id, tables.interactions.event_type.isin(clicks)
    )
    told = events.select(by_session="session_id", by_item="item_id").distinct()
    joined = items.left_join(told, (items.session_id == told.by_session) & (items.item_id == told.by_item))
    return joined.select("session_id", "rank", "propensity", reacted=joined.by_item.notnull()).order_by(
        ["session_id", "rank"]
    )


def examination_of(tables: SnapshotTables, use_case: UseCase, config: DatasetConfig) -> ExaminationCurve:
    """Estimate examination by rank from the use case's lists.

    Raises
    ------
    TooFewExamples
        Saying what is missing, with the numbers: no list logs exploration, or too little of it.
    """
    found = explored_items(tables, use_case, config).to_pyarrow()
    if not found.num_rows:
        lists = tables.sessions.filter(tables.sessions.use_case == use_case.id)
        count, logged = (int(n.count().to_pyarrow().as_py()) for n in (lists, lists.propensities))
        raise TooFewExamples(
            f"estimated position weights: of {count} lists {logged} log propensities, and none of these "
            f"leaves a rank to chance and is old enough; {MISSING}"
        )
    group = found["session_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    placements = Placements(
        group.astype(np.int64),
        found["rank"].to_numpy(),
        found["propensity"].to_numpy(),
        found["reacted"].to_numpy(),
    )
    return estimate_examination(placements, least=config.least_explored)


def estimate_examination(placements: Placements, *, least: int) -> ExaminationCurve:
    """Estimate examination relative to rank 1.

    The ranks of one list that chance decided are taken for one block, within which each item could stand
    at each rank; or, where the propensities say that each rank had fewer items to choose from, for
    neighbouring blocks of so many ranks. Lists that are neither are left out.

    Parameters
    ----------
    least
        Placements that a rank needs to be estimated; those between are interpolated.

    Raises
    ------
    TooFewExamples
        When rank 1 has fewer placements, or shares a block with no rank that has enough, or nobody
        reacted to anything at rank 1.
    """
    found = _blocks(placements)
    used = found.block >= 0
    rank, block = placements.rank[used] - 1, found.block[used]
    ranks, blocks = int(placements.rank.max(initial=1)), int(block.max(initial=-1)) + 1
    count = np.bincount(rank, (found.width**2 / found.spread)[used], ranks)
    cell = block * ranks + rank
    held = np.bincount(cell, minlength=blocks * ranks).reshape(blocks, ranks) > 0
    held &= count >= least
    # Scaled so that the variance of a total is about its mean, as Poisson's is; a block's own factor.
    gain = placements.reacted / placements.propensity * found.width / found.spread
    total = np.bincount(cell, gain[used], blocks * ranks).reshape(blocks, ranks)
    linked = _linked(held)
    reacted = float(total[:, 0].sum()) if ranks else 0.0
    if linked.sum() < 2 or reacted <= 0.0:
        raise TooFewExamples(
            f"estimated position weights: {len(placements)} placements by chance in "
            f"{len(np.unique(placements.group))} lists, worth {count[0]:.0f} at rank 1 "
            f"({'with' if reacted else 'without'} reactions), {int(linked.sum())} ranks comparable that are "
            f"worth at least {least}, {found.left_out} lists of unclear blocks; {MISSING}"
        )
    held &= linked
    seen = _fitted(np.where(held, total, 0.0), held)[linked]
    smooth = isotonic_regression(seen, weights=count[linked], increasing=False).x
    smooth = np.maximum(smooth / smooth[0], FLOOR)
    places = np.flatnonzero(linked)
    curve = np.interp(np.arange(places[-1] + 1), places, smooth)
    return ExaminationCurve(tuple(np.minimum.accumulate(curve).tolist()))


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Each placement's block, -1 for none: its ranks under one policy; `left_out` counts lists without.

    `width` is the number of ranks of its block, `spread` the sum of 1 / propensity over the items that could
    stand at this rank: the mean square of the weights, per placement as its policy makes them.
    """

    block: NDArray[np.int64]
    width: NDArray[np.int64]
    spread: NDArray[np.float64]
    left_out: int


def _blocks(placements: Placements) -> _Blocks:
    start = np.flatnonzero(np.diff(placements.group, prepend=-1))
    size = np.diff(start, append=len(placements))
    by_list, policy = block_widths(placements.propensity, start, size)
    by_list[size % np.maximum(by_list, 1) != 0] = 0
    width, policy = np.repeat(by_list, size), np.repeat(policy, size)
    block = np.full(len(placements), -1, dtype=np.int64)
    known = 0
    for each in np.unique(width[width > 0]).tolist():
        rows = np.flatnonzero(width == each).reshape(-1, each)
        ranks = np.column_stack([policy[rows[:, 0]], placements.rank[rows]])
        found, number = np.unique(ranks, axis=0, return_inverse=True)
        block[rows] = known + number.reshape(-1, 1)
        known += len(found)
    spread = _spread(placements.propensity, policy, width)
    return _Blocks(block, width, spread, int((by_list == 0).sum()))


def _spread(
    propensity: NDArray[np.float64], policy: NDArray[np.int64], width: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return `_Blocks.spread`: of a policy of two chances exactly, else as its placements tell it."""
    _, one = np.unique(policy, return_inverse=True)
    least, most = np.ones(one.max(initial=-1) + 1), np.zeros(one.max(initial=-1) + 1)
    np.minimum.at(least, one, propensity)
    np.maximum.at(most, one, propensity)
    between = (propensity > least[one] + 1e-9) & (propensity < most[one] - 1e-9)
    mean = np.bincount(one, propensity**-2.0) / np.bincount(one)
    several = np.bincount(one, between) > 0.0
    return np.where(several[one], mean[one], 1.0 / most[one] + np.maximum(width - 1, 0) / least[one])


def block_widths(
    propensity: NDArray[np.float64], start: NDArray[np.int64], size: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many ranks a block of each list has, 0 where that is unclear, and each list's policy.

    Lists are of one policy when they share a propensity, or one that the other's adds up to 1 with. Where the
    items of a policy's blocks keep their rank with one probability and take each other rank of the block with
    another, these tell the width. For policies with more chances than that in a list, and for lists whose
    chances no other list has, the mean of 1 / propensity does: it is the number of items that could have
    stood at a rank, which the lists of one length share. Two policies that have but one of their chances in
    common can't be told apart.
    """
    values, number = np.unique(propensity.round(12), return_inverse=True)
    other = np.minimum(np.searchsorted(values, 1.0 - values - 1e-9), len(values) - 1)
    adds = np.flatnonzero(np.abs(values[other] + values - 1.0) < 1e-9)
    edges = np.concatenate([np.repeat(number[start], size), adds]), np.concatenate([number, other[adds]])
    graph = coo_array((np.ones(len(edges[0])), edges), shape=(len(values), len(values)))
    policies, of_value = connected_components(graph, directed=False)
    least, most = np.ones(policies), np.zeros(policies)
    np.minimum.at(least, of_value, values)
    np.maximum.at(most, of_value, values)
    told = np.where(least == most, 1.0 / least, 1.0 + (1.0 - most) / least)
    few = np.bincount(of_value, minlength=policies) <= 2
    policy = of_value[number[start]]
    exact = _whole(np.where(few, told, 0.0)[policy], EXACT)
    alone = (exact == 0) & few[policy]
    policy = np.where(alone, policies, policy)
    _, alike = np.unique(np.stack([policy, size]), axis=1, return_inverse=True)
    sums = np.bincount(alike, np.add.reduceat(1.0 / propensity, start) / size)
    mean = _whole((sums / np.bincount(alike))[alike], TOLERANCE)
    several = np.bincount(policy, _different(number, size) > 2, policies + 1) > 0.0
    mean[~(several[policy] | alone)] = 0
    return np.where(exact > 0, exact, mean), policy.astype(np.int64)


def _different(number: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many different numbers each list of these sizes holds."""
    of_list = np.repeat(np.arange(len(size)), size)
    once = np.unique(np.stack([of_list, number]), axis=1)
    return np.bincount(once[0], minlength=len(size))


def _whole(numbers: NDArray[np.float64], tolerance: float) -> NDArray[np.int64]:
    """Return the whole numbers from 2 on that the numbers are near, by a share of them, else 0."""
    near = np.rint(numbers).astype(np.int64)
    return np.where((near > 1) & (np.abs(numbers - near) <= tolerance * near), near, 0)


def _linked(held: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the ranks that blocks connect with the first, itself included when a block holds it."""
    linked = np.zeros(held.shape[1], dtype=np.bool_)
    if held.size and held[:, 0].any():
        linked[0] = True
        while (reached := held[(held & linked).any(axis=1)].any(axis=0) | linked).sum() > linked.sum():
            linked = reached
    return linked


def _fitted(total: NDArray[np.float64], held: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return x of total ≈ worth of the block × x where held, by Poisson maximum likelihood; (ranks,)."""
    mask = held.astype(np.float64)
    by_rank, by_block = total.sum(axis=0), total.sum(axis=1)
    seen: NDArray[np.float64] = np.ones(total.shape[1])
    for _ in range(20_000):
        there = mask @ seen
        worth = np.divide(by_block, there, out=np.zeros_like(by_block), where=there > 0.0)
        base = mask.T @ worth
        new = np.divide(by_rank, base, out=np.zeros_like(by_rank), where=base > 0.0)
        new /= max(new[0], 1e-12)
        moved, seen = float(np.abs(new - seen).max()), new
        if moved < 1e-9:
            break
    return seen
