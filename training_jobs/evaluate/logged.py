"""Lists that chance varied, as evidence of what another order of them would have brought.

The estimators of `off_policy` with a slot of a list as a row: the weight of what stands at a rank is 1 over
the probability that it stands there, where the other order would have put it there too, else 0. That is the
item-position estimator of Li, Abbasi-Yadkori, Kveton, Muthukrishnan, Vinay, Wen 2018, "Offline evaluation of
ranking policies with click models". It assumes that a reaction depends on the item, its
rank and the subject, not on which other items the list holds elsewhere; the pseudoinverse estimator of
Swaminathan et al. 2017, "Off-policy evaluation for slate recommendation", would need ranks to
add up instead. It needs no more than each slot's own probability, so it varies far less than weights for
whole lists.

Chance acts within blocks of neighbouring ranks, each of whose orders can come about. So what is evaluated
is the list as it was served, with each block in the other ranker's order: no estimate is possible of what was
never shown. The ranker scores features as they were logged, `diversity` as of when the item was placed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import ibis
import numpy as np

from matchloop.rerank.calibration import logit
from training_jobs.datasets.examination import block_widths
from training_jobs.datasets.shown import last_moment, shown_items

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray

    from matchloop.rerank.scorer import Ranker
    from matchloop.usecase import UseCase
    from training_jobs.config import DatasetConfig
    from training_jobs.datasets.tables import SnapshotTables, Table

_NO = ibis.literal(value=False)


@dataclass(frozen=True, slots=True)
class ExploredLists:
    """Every slot of the lists that chance varied, n in columns, by list, then rank.

    Parameters
    ----------
    group, subject, item
        (n,) int64 numbers of list, subject and item.
    rank
        (n,) int64, 1 is the first.
    propensity
        (n,) float64 in (0, 1]: the item's probability to stand at this rank.
    block
        (n,) int64: slots of one number changed places among themselves; −1: chance could not act.
    features
        (n, F) float32 as logged.
    original_score
        (n,) float32, the teacher's as logged.
    click, strong
        (n,) float64 in {0, 1}: whether a reaction of positive weight beyond a view, and a strong one, came
        from this list.
    left_out
        Lists that log propensities which are no blocks.
    """

    group: NDArray[np.int64]
    subject: NDArray[np.int64]
    item: NDArray[np.int64]
    rank: NDArray[np.int64]
    propensity: NDArray[np.float64]
    block: NDArray[np.int64]
    features: NDArray[np.float32]
    original_score: NDArray[np.float32]
    click: NDArray[np.float64]
    strong: NDArray[np.float64]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.group)

    @property
    def lists(self) -> int:
        """How many lists."""
        return len(np.unique(self.group))

    def order_of(self, ranker: Ranker) -> NDArray[np.int64]:
        """Return which row's item the ranker would put at each row's rank, (n,), best first in a block."""
        return self.order_by(logit(self.original_score) + ranker.adjustment(self.features))

    def order_by(self, score: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return which row's item stands at each row's rank when blocks are in order of `score`, (n,).

        Equal scores go by item, never by the rank that chance gave.
        """
        stands = np.arange(len(self))
        inside = np.flatnonzero(self.block >= 0)
        places = inside[np.lexsort((self.rank[inside], self.block[inside]))]
        best = inside[np.lexsort((self.item[inside], -score[inside], self.block[inside]))]
        stands[places] = best
        return stands


def explored_lists(
    tables: SnapshotTables, use_case: UseCase, config: DatasetConfig, *, after: datetime | None = None
) -> ExploredLists:
    """Return the slots of every list that chance varied, with features logged and old enough.

    Parameters
    ----------
    after
        Only lists served later than this.
    """
    found = _slots(tables, use_case, config, after).to_pyarrow()
    names = use_case.ranking.features
    flat = found["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    features = flat.astype(np.float32).reshape(-1, len(names))  # (n, F)
    group, subject, item = (
        found[name]
        .combine_chunks()
        .dictionary_encode()
        .indices.to_numpy(zero_copy_only=False)
        .astype(np.int64)
        for name in ("session_id", "subject_id", "item_id")
    )
    rank = found["rank"].to_numpy().astype(np.int64)
    propensity = found["propensity"].to_numpy()
    block = blocks_of(group, rank, propensity)
    inside = np.zeros(int(group.max(initial=-1)) + 1, dtype=np.bool_)
    inside[group[block >= 0]] = True
    columns = {
        "group": group,
        "subject": subject,
        "item": item,
        "rank": rank,
        "propensity": propensity,
        "block": block,
        "features": features,
        "original_score": features[:, names.index("original_score")],
        "click": found["click"].to_numpy(zero_copy_only=False).astype(np.float64),
        "strong": found["strong"].to_numpy(zero_copy_only=False).astype(np.float64),
    }
    kept = inside[group]
    return ExploredLists(**{n: c[kept] for n, c in columns.items()}, left_out=int((~inside).sum()))


def blocks_of(
    group: NDArray[np.int64], rank: NDArray[np.int64], propensity: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return each slot's block, −1 for none.

    How many ranks a block has, the propensities tell: `examination.block_widths`. The ranks left to chance
    follow on each other and are parted into blocks from the first. Lists for which this does not come out
    have no block.

    Parameters
    ----------
    group, rank, propensity
        (n,) each, by list, then rank; whole lists.
    """
    block = np.full(len(group), -1, dtype=np.int64)
    free = np.flatnonzero(propensity < 1.0)
    if not len(free):
        return block
    start = np.flatnonzero(np.diff(group[free], prepend=-1))
    length = np.diff(start, append=len(free))
    width, _ = block_widths(propensity[free], start, length)
    first, last = rank[free][start], rank[free][start + length - 1]
    whole = (width > 1) & (last - first + 1 == length) & (length % np.maximum(width, 1) == 0)
    row = np.repeat(np.arange(len(start)), length)  # (free,): the list's number among those with chance
    place = np.arange(len(free)) - start[row]
    step = place // np.maximum(width[row], 1)
    used = whole[row]
    number = np.cumsum(np.where(whole, length // np.maximum(width, 1), 0))
    offset = np.concatenate([[0], number[:-1]])
    block[free[used]] = (offset[row] + step)[used]
    return block


def _slots(tables: SnapshotTables, use_case: UseCase, config: DatasetConfig, after: datetime | None) -> Table:
    """Return the columns of `explored_lists` by list, then rank, whole lists."""
    lists = tables.sessions.filter(
        tables.sessions.propensities.length() == tables.sessions.item_ids.length(),
        tables.sessions.propensities.filter(lambda chance: (chance > 0.0) & (chance < 1.0)).length() > 0,
    ).select(by_list="session_id", chances="propensities")
    shown = shown_items(tables, use_case)
    shown = shown.filter(shown.has_features, shown.serve_time <= last_moment(tables, config))
    if after is not None:
        shown = shown.filter(shown.serve_time > after)
    shown = shown.inner_join(lists, shown.session_id == lists.by_list)
    good = {name: event for name, event in use_case.events.items() if event.weight > 0.0}
    clicks = [name for name, event in good.items() if not event.view] or list(good)
    events = tables.interactions.filter(
        tables.interactions.use_case == use_case.id, tables.interactions.session_id.notnull()
    )
    kind = events.event_type
    told = events.group_by(by_session=events.session_id, by_item=events.item_id).aggregate(
        click=kind.isin(clicks).any(), strong=kind.isin(sorted(use_case.strong_events)).any()
    )
    joined = shown.left_join(told, (shown.session_id == told.by_session) & (shown.item_id == told.by_item))
    return joined.select(
        "session_id",
        "subject_id",
        "item_id",
        "rank",
        "features",
        propensity=joined.chances[joined["rank"] - 1],
        click=joined.click.fill_null(_NO),
        strong=joined.strong.fill_null(_NO),
    ).order_by(["session_id", "rank"])
