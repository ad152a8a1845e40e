"""The Two-Tower's data set: pairs with graded labels, hard negatives, and how to draw random ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pyarrow.compute as pc

from matchloop.position import exposure_weight
from training_jobs.datasets.manifest import DatasetManifest, counts_of, manifest_of
from training_jobs.datasets.rows import rows_in
from training_jobs.datasets.shown import shown_items, with_outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from matchloop.position import Weighting
    from matchloop.usecase import UseCase
    from training_jobs.config import DatasetConfig
    from training_jobs.datasets.tables import SnapshotTables, Table


@dataclass(frozen=True, slots=True)
class PairDataset:
    """Pairs in columns of equal length n, by subject and item; features are looked up by row.

    Parameters
    ----------
    subject, item
        int64 (n,): rows of the entities the data set was made for.
    label
        float32 (n,) in [0, 1]: the strongest event's label; 0 for a dislike and a hard negative.
    weight
        float32 (n,): the pair's summed event weight, 0 and less for negatives. Makes up the history.
    rank, score
        Where the pair was shown, best rank; rank 0 and NaN where it was not.
    rank_weight
        float32 (n,): what the rank makes the pair worth; 1 for a pair from no list.
    source
        ``interaction``, ``disliked`` or ``hard``.
    """

    subject: NDArray[np.int64]
    item: NDArray[np.int64]
    label: NDArray[np.float32]
    weight: NDArray[np.float32]
    rank: NDArray[np.int32]
    score: NDArray[np.float32]
    rank_weight: NDArray[np.float32]
    source: NDArray[np.object_]
    subjects: int
    items: int
    manifest: DatasetManifest

    def __len__(self) -> int:
        return len(self.label)

    @property
    def positives(self) -> NDArray[np.int64]:
        """Rows with a label over 0."""
        return np.flatnonzero(self.label > 0.0)

    def random_negatives(self, positives: NDArray[np.int64], each: int, rng: np.random.Generator) -> Pairs:
        """Draw `each` items for each row of `positives` that its subject has no pair with.

        A subject that has a pair with almost everything may get fewer.

        Returns
        -------
        Pairs
            Subject and item rows, int64, at most len(positives) × each.
        """
        subject = np.repeat(self.subject[positives], each)
        item = rng.integers(0, self.items, size=len(subject))
        known = np.sort(self.subject * self.items + self.item)
        for _ in range(8):
            key = subject * self.items + item
            at = np.minimum(np.searchsorted(known, key), len(known) - 1)
            taken = known[at] == key
            if not taken.any():
                return Pairs(subject, item)
            item[taken] = rng.integers(0, self.items, size=int(taken.sum()))
        key = subject * self.items + item
        free = ~np.isin(key, known)
        return Pairs(subject[free], item[free])


@dataclass(frozen=True, slots=True)
class Pairs:
    """Subject and item rows, int64, equally long."""

    subject: NDArray[np.int64]
    item: NDArray[np.int64]


def two_tower_examples(
    ordered: Table, tables: SnapshotTables, use_case: UseCase, config: DatasetConfig
) -> Table:
    """Return one row a pair: its interactions, or that it was shown high and not reacted to.

    Parameters
    ----------
    ordered
        As `datasets.tables.reactions` gives it, or a part of it.

    Returns
    -------
    Table
        subject_id, item_id, label, weight, rank (null where shown nowhere), score, source, first_time,
        last_time; by subject and item.
    """
    disliked = ordered.event_type == use_case.dislike_event
    pairs = ordered.group_by(["subject_id", "item_id"]).aggregate(
        rejected=disliked.any(),
        label=ordered.label.max(),
        weight=ordered.weight.sum(),
        rank=ordered["rank"].min().cast("int64"),
        first_time=ordered.event_time.min(),
        last_time=ordered.event_time.max(),
    )
    pairs = pairs.select(
        "subject_id",
        "item_id",
        "first_time",
        "last_time",
        "rank",
        label=pairs.rejected.ifelse(0.0, pairs.label),
        weight=pairs.weight.cast("float64"),
        score=ibis.null("float64"),
        source=pairs.rejected.ifelse("disliked", "interaction"),
    )
    bounds = ordered.aggregate(last=ordered.event_time.max())
    hard = with_outcome(shown_items(tables, use_case), tables, use_case, config)
    hard = hard.filter(hard.outcome == "hard").cross_join(bounds)
    hard = hard.filter(hard.serve_time <= hard.last)
    hard = hard.group_by(["subject_id", "item_id"]).aggregate(
        first_time=hard.serve_time.min(),
        last_time=hard.serve_time.max(),
        rank=hard["rank"].min().cast("int64"),
        score=hard.recommendation_score.max().cast("float64"),
    )
    hard = hard.anti_join(pairs, ["subject_id", "item_id"])
    hard = hard.mutate(
        label=ibis.literal(0.0, "float64"), weight=ibis.literal(0.0, "float64"), source=ibis.literal("hard")
    )
    both = pairs.union(hard.select(*pairs.columns))
    return both.order_by(["subject_id", "item_id"])


def two_tower_dataset(
    examples: Table,
    *,
    subject_ids: Sequence[str],
    item_ids: Sequence[str],
    use_case: UseCase,
    snapshot: str,
    weighting: Weighting,
) -> PairDataset:
    """Run `two_tower_examples` for entities in this order; pairs of others are left out."""
    found = examples.to_pyarrow()
    subject = rows_in(found["subject_id"], subject_ids)
    item = rows_in(found["item_id"], item_ids)
    known = (subject >= 0) & (item >= 0)
    rank = found["rank"].fill_null(0).to_numpy().astype(np.int32)[known]
    rank_weight = np.where(rank > 0, exposure_weight(np.maximum(rank, 1), weighting), 1.0)
    label = found["label"].to_numpy().astype(np.float32)[known]
    source = np.array(found["source"].to_pylist(), dtype=object)[known]
    arrays: dict[str, NDArray[Any]] = {
        "subject": subject[known],
        "item": item[known],
        "label": label,
        "weight": found["weight"].to_numpy().astype(np.float32)[known],
        "rank": rank,
        "score": found["score"].to_numpy().astype(np.float32)[known],
        "rank_weight": rank_weight.astype(np.float32),
    }
    spans = [found[name] for name in ("first_time", "last_time")]
    return PairDataset(
        **arrays,
        source=source,
        subjects=len(subject_ids),
        items=len(item_ids),
        manifest=manifest_of(
            "two_tower",
            use_case.id,
            snapshot,
            arrays,
            [pc.min(spans[0]).as_py(), pc.max(spans[1]).as_py()] if len(found) else [],
            labels=counts_of(label),
            sources=counts_of(source.astype(np.str_)) if len(source) else {},
        ),
    )
