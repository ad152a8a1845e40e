"""The Two-Tower's data set: pairs with graded labels, hard negatives, and random ones never shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np

from matchloop.errors import TooFewExamples
from matchloop.position import exposure_weight
from training_jobs.datasets.manifest import (
    DatasetManifest,
    counts_of,
    manifest_of,
    span_of,
    weights_by_rank,
)
from training_jobs.datasets.rows import distinct, rows_in
from training_jobs.datasets.shown import shown_items, verdicts, with_outcome
from training_jobs.datasets.tables import of_known
from training_jobs.datasets.texts import Texts
from training_jobs.memory import give_back

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from matchloop.position import ExaminationCurve, Weighting
    from matchloop.usecase import UseCase
    from training_jobs.config import DatasetConfig
    from training_jobs.datasets.tables import SnapshotTables, Table

RANDOM = "random"
"""Source of the items drawn by chance."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Subject and item rows, int64, equally long."""

    subject: NDArray[np.int64]
    item: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.subject)

    @classmethod
    def none(cls) -> Pairs:
        """Return no pair."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
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
        Where the pair was shown: its best rank and highest score; rank 0 and NaN where it was not.
    rank_weight
        float32 (n,): what the rank makes the pair worth; 1 for a pair from no list.
    source
        ``interaction``, ``disliked`` or ``hard``.
    shown
        Further pairs that stood in a list, whatever came of it: none of them is drawn as a random negative.
    drawn
        One draw of random negatives, the one that the file, the counts and the hash hold. Training
        draws anew each epoch, by the same rules.
    subject_ids, item_ids
        The ids by row.
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
    shown: Pairs = field(default_factory=Pairs.none)
    drawn: Pairs = field(default_factory=Pairs.none)
    subject_ids: Sequence[str] = ()
    item_ids: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.label)

    @property
    def positives(self) -> NDArray[np.int64]:
        """Rows with a label over 0."""
        return np.flatnonzero(self.label > 0.0)

    @cached_property
    def known(self) -> NDArray[np.int64]:
        """Keys, subject × items + item, of all pairs that are no random negatives, sorted, each once."""
        return known_keys(self.items, Pairs(self.subject, self.item), self.shown)

    def random_negatives(self, positives: NDArray[np.int64], each: int, rng: np.random.Generator) -> Pairs:
        """Draw `each` items for each row of `positives`, none that its subject has a pair with or was shown.

        Returns
        -------
        Pairs
            len(positives) × each of them, less those of subjects for whom no item is left.
        """
        return draw_negatives(np.repeat(self.subject[positives], each), self.items, self.known, rng)

    def require(self, least: int) -> None:
        """Raise TooFewExamples, with the counts, for fewer than `least` positives or items to choose from."""
        positives = len(self.positives)
        if positives < least or self.items < least:
            raise TooFewExamples(
                f"two_tower: {positives} positives and {len(self) - positives} negatives of "
                f"{self.subjects} subjects and {self.items} items; {least} positives and items are needed"
            )


def known_keys(items: int, *parts: Pairs) -> NDArray[np.int64]:
    """Return subject × items + item of all pairs, sorted, each once."""
    return distinct(np.concatenate([part.subject * items + part.item for part in parts]))


def draw_negatives(
    subject: NDArray[np.int64], items: int, known: NDArray[np.int64], rng: np.random.Generator
) -> Pairs:
    """Draw an item for each subject row, uniformly among those without a key in `known`.

    Eight uniform draws are tried; for what is still taken then, the free items are listed. A subject
    without a free item gets none.
    """
    if not len(subject) or not items:
        return Pairs.none()
    item = rng.integers(0, items, size=len(subject))
    taken = np.flatnonzero(_contains(known, subject * items + item))
    for _ in range(8):
        if not len(taken):
            return Pairs(subject, item)
        item[taken] = rng.integers(0, items, size=len(taken))
        taken = taken[_contains(known, subject[taken] * items + item[taken])]
    kept = np.ones(len(subject), dtype=np.bool_)
    for row in distinct(subject[taken]).tolist():
        mine = taken[subject[taken] == row]
        held = known[np.searchsorted(known, row * items) : np.searchsorted(known, (row + 1) * items)]
        free = np.setdiff1d(np.arange(items), held - row * items, assume_unique=True)
        if len(free):
            item[mine] = rng.choice(free, size=len(mine))
        else:
            kept[mine] = False
    return Pairs(subject[kept], item[kept])


def _contains(known: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    if not len(known):
        return np.zeros(len(keys), dtype=np.bool_)
    return np.asarray(known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] == keys)


def two_tower_examples(
    ordered: Table, tables: SnapshotTables, use_case: UseCase, config: DatasetConfig
) -> Table:
    """Return one row a pair: its interactions, or that it was shown high and not reacted to.

    A pair that its subject disliked last, whether an event or a dislike says so, is a negative.

    Parameters
    ----------
    ordered
        As `datasets.tables.reactions` gives it, or a part of it; then `tables` should be those
        `SnapshotTables.until` the part's end.

    Returns
    -------
    Table
        subject_id, item_id, label, weight, rank and score (null where shown nowhere), source, first_time,
        last_time.
    """
    said = verdicts(tables, use_case)
    pairs = _said_pairs(ordered, tables, use_case)
    pairs = pairs.left_join(
        said, (pairs.subject_id == said.of_subject) & (pairs.item_id == said.of_item)
    ).select(*pairs.columns, rejected=said.rejected_at.notnull())
    pairs = pairs.select(
        "subject_id",
        "item_id",
        "first_time",
        "last_time",
        "rank",
        "score",
        label=pairs.rejected.ifelse(0.0, pairs.label),
        weight=pairs.rejected.ifelse(ibis.least(pairs.weight, 0.0), pairs.weight),
        source=pairs.rejected.ifelse("disliked", "interaction"),
    )
    hard = with_outcome(shown_items(tables, use_case), tables, use_case, config)
    hard = hard.filter(hard.outcome == "hard")
    hard = hard.group_by(["subject_id", "item_id"]).aggregate(
        first_time=hard.serve_time.min(),
        last_time=hard.serve_time.max(),
        rank=hard["rank"].min().cast("int64"),
        score=hard.recommendation_score.max().cast("float64"),
    )
    hard = of_known(hard, tables, use_case).anti_join(pairs, ["subject_id", "item_id"])
    hard = hard.mutate(
        label=ibis.literal(0.0, "float64"), weight=ibis.literal(0.0, "float64"), source=ibis.literal("hard")
    )
    return pairs.union(hard.select(*pairs.columns))


def _said_pairs(ordered: Table, tables: SnapshotTables, use_case: UseCase) -> Table:
    """Return what the events and the dislikes of each pair come to."""
    columns = ("subject_id", "item_id", "event_time", "rank", "score", "label", "weight")
    dislikes = tables.dislikes.filter(tables.dislikes.use_case == use_case.id)
    alone = of_known(dislikes, tables, use_case).select(
        "subject_id",
        "item_id",
        "event_time",
        rank=ibis.null("int64"),
        score=ibis.null("float64"),
        label=ibis.literal(0.0, "float64"),
        weight=ibis.literal(0.0, "float64"),
    )
    events = ordered.select(
        "subject_id",
        "item_id",
        "event_time",
        rank=ordered["rank"].cast("int64"),
        score=ordered.score.cast("float64"),
        label=ordered.label.cast("float64"),
        weight=ordered.weight.cast("float64"),
    )
    both = events.select(*columns).union(alone.select(*columns))
    return both.group_by(["subject_id", "item_id"]).aggregate(
        label=both.label.max(),
        weight=both.weight.sum(),
        rank=both["rank"].min(),
        score=both.score.max(),
        first_time=both.event_time.min(),
        last_time=both.event_time.max(),
    )


def two_tower_dataset(
    examples: Table,
    *,
    subject_ids: Sequence[str],
    item_ids: Sequence[str],
    use_case: UseCase,
    snapshot: str,
    weighting: Weighting,
    curve: ExaminationCurve | None = None,
    shown: Table | None = None,
    random_negatives: int = 0,
    rng: np.random.Generator | None = None,
) -> PairDataset:
    """Run `two_tower_examples` for entities in this order, by subject and item; others are left out.

    Parameters
    ----------
    curve
        Examination that `Weighting.ESTIMATED` weights by.
    shown
        As `datasets.shown.shown_pairs` gives it: pairs that are never drawn as random negatives.
    random_negatives
        Drawn for each positive, by `rng`, into `PairDataset.drawn`; 0: none.
    """
    seen = _rows_of(shown, subject_ids, item_ids)
    give_back()  # the next query's result is large
    found = examples.to_pyarrow()
    subject, item = rows_in(found["subject_id"], subject_ids), rows_in(found["item_id"], item_ids)
    known = np.flatnonzero((subject >= 0) & (item >= 0))
    kept = known[np.argsort(subject[known] * len(item_ids) + item[known])]
    rank = found["rank"].fill_null(0).to_numpy().astype(np.int32)[kept]
    rank_weight = np.where(rank > 0, exposure_weight(np.maximum(rank, 1), weighting, curve=curve), 1.0)
    label = found["label"].to_numpy().astype(np.float32)[kept]
    source = Texts.of(found["source"]).at(kept)
    arrays: dict[str, NDArray[Any]] = {
        "subject": subject[kept],
        "item": item[kept],
        "label": label,
        "weight": found["weight"].to_numpy().astype(np.float32)[kept],
        "rank": rank,
        "score": found["score"].to_numpy().astype(np.float32)[kept],
        "rank_weight": rank_weight.astype(np.float32),
    }
    span = span_of(found["first_time"], found["last_time"])
    del found, subject, item, known, kept
    give_back()
    own = Pairs(arrays["subject"], arrays["item"])
    drawn = Pairs.none()
    if random_negatives and rng is not None:
        wanted = np.repeat(own.subject[label > 0.0], random_negatives)
        drawn = draw_negatives(wanted, len(item_ids), known_keys(len(item_ids), own, seen), rng)
    labels, sources = counts_of(label), source.counts()
    if len(drawn):
        labels["0"] = labels.get("0", 0) + len(drawn)
        sources[RANDOM] = len(drawn)
    return PairDataset(
        **arrays,
        source=source.objects(),
        subjects=len(subject_ids),
        items=len(item_ids),
        shown=seen,
        drawn=drawn,
        subject_ids=subject_ids,
        item_ids=item_ids,
        manifest=manifest_of(
            "two_tower",
            use_case.id,
            snapshot,
            {
                **arrays,
                "subject_ids": Texts(subject_ids, own.subject),
                "item_ids": Texts(item_ids, own.item),
                "source": source,
                "drawn_subject": drawn.subject,
                "drawn_item": drawn.item,
            },
            span,
            labels=labels,
            sources=sources,
            subjects=len(distinct(own.subject)),
            items=len(distinct(np.concatenate([own.item, drawn.item]))),
            weights=weights_by_rank(weighting, curve),
        ),
    )


def _rows_of(pairs: Table | None, subject_ids: Sequence[str], item_ids: Sequence[str]) -> Pairs:
    if pairs is None:
        return Pairs.none()
    found = pairs.to_pyarrow()
    subject, item = rows_in(found["subject_id"], subject_ids), rows_in(found["item_id"], item_ids)
    known = (subject >= 0) & (item >= 0)
    keys = known_keys(len(item_ids), Pairs(subject[known], item[known]))
    return Pairs(keys // len(item_ids), keys % len(item_ids))
