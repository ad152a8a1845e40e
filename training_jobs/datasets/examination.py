"""How likely each rank is looked at, learned from lists whose order was varied by chance.

Where items were permuted by chance within a block of ranks, what they are worth is the same at each of its
ranks, once every reaction counts by the inverse of the item's chance to be there: what differs is
examination alone (Joachims, Swaminathan, Schnabel 2017, "Unbiased learning-to-rank with biased feedback",
section 5.3: swap interventions). Blocks over different ranks are put together as in intervention harvesting
(Agarwal, Zaitsev, Wang, Li, Najork, Joachims 2019, "Estimating position bias without intrusive
interventions"): expected weighted reactions are examination of the rank × worth of the block, fitted
alternately. Examination then never grows with the rank, by isotonic regression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import ibis
import numpy as np
from scipy.optimize import isotonic_regression

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
MISSING = (
    "lists have to be served with their order varied by chance within blocks of ranks, rank 1 among them, "
    "and each item's propensity to be logged (over 0 and under 1 where chance decided)"
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
    block, left_out = _blocks(placements)
    used = block >= 0
    rank, weight = placements.rank[used] - 1, 1.0 / placements.propensity[used]
    ranks, blocks = int(placements.rank.max()), int(block.max()) + 1
    count = np.bincount(rank, minlength=ranks)
    cell = block[used] * ranks + rank
    held = np.bincount(cell, minlength=blocks * ranks).reshape(blocks, ranks) > 0
    held &= count >= least
    total = np.bincount(cell, weight * placements.reacted[used], blocks * ranks).reshape(blocks, ranks)
    linked = _linked(held)
    reacted = float(total[:, 0].sum()) if ranks else 0.0
    if linked.sum() < 2 or reacted <= 0.0:
        raise TooFewExamples(
            f"estimated position weights: {len(placements)} placements by chance in "
            f"{len(np.unique(placements.group))} lists, {int(count[0])} of them at rank 1 "
            f"({'with' if reacted else 'without'} reactions), {int(linked.sum())} ranks comparable with at "
            f"least {least} placements, {left_out} lists of unclear blocks; {MISSING}"
        )
    held &= linked
    seen = _fitted(np.where(held, total, 0.0), held)[linked]
    smooth = isotonic_regression(seen, weights=count[linked].astype(np.float64), increasing=False).x
    smooth = np.maximum(smooth / smooth[0], FLOOR)
    places = np.flatnonzero(linked)
    curve = np.interp(np.arange(places[-1] + 1), places, smooth)
    return ExaminationCurve(tuple(np.minimum.accumulate(curve).tolist()))


def _blocks(placements: Placements) -> tuple[NDArray[np.int64], int]:
    """Return each placement's block, -1 for none, and how many lists have none; a block is its ranks."""
    start = np.flatnonzero(np.diff(placements.group, prepend=-1))
    size = np.diff(start, append=len(placements))
    inverse = np.add.reduceat(1.0 / placements.propensity, start)
    width = np.zeros(len(start), dtype=np.int64)
    for length in np.unique(size[size > 1]).tolist():
        same = size == length
        mean = float(inverse[same].sum() / (length * same.sum()))
        near = max(round(mean), 1)
        if near > 1 and length % near == 0 and abs(mean - near) <= TOLERANCE * near:
            width[same] = near
    number: dict[tuple[int, ...], int] = {}
    block = np.full(len(placements), -1, dtype=np.int64)
    for at, length, step in zip(start.tolist(), size.tolist(), width.tolist(), strict=True):
        for begin in range(at, at + length, step) if step else ():
            ranks = tuple(placements.rank[begin : begin + step].tolist())
            block[begin : begin + step] = number.setdefault(ranks, len(number))
    return block, int((width == 0).sum())


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
