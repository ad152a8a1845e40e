"""Ids as input of the towers: places in tables, and each subject's past as places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from matchloop.retrieval.id_table import IdPlaces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training_jobs.config import TwoTowerConfig
    from training_jobs.datasets import PairDataset

LONGEST = 50
"""Items of a subject's past that training looks at, as many as serving does."""


@dataclass(frozen=True, slots=True)
class KindIds:
    """Places of one kind's entities, in their rows' order."""

    places: IdPlaces
    own: Tensor  # (entities,)
    shared: Tensor  # (entities,): as if the id were unknown

    @classmethod
    def of(cls, ids: Sequence[str], positives: NDArray[np.int64], config: TwoTowerConfig) -> KindIds:
        """Give the ids with most positives, by entity in `positives`, places of their own."""
        counts = np.bincount(positives, minlength=len(ids))
        frequent = np.argsort(-counts, kind="stable")[: config.id_rows]
        known = np.sort(frequent[counts[frequent] >= config.id_least])
        places = IdPlaces([ids[row] for row in known.tolist()], config.id_buckets)
        return cls(places, torch.from_numpy(places.of(ids)), torch.from_numpy(places.shared(ids)))


@dataclass(frozen=True, slots=True)
class Bags:
    """Places of n subjects' past items and what each weighs, 0 for padding; both (n, longest)."""

    places: Tensor
    weights: Tensor

    def mean(self, table: nn.Embedding) -> Tensor:
        """Return the weighted mean vector, (n, width); 0 for nothing."""
        share = self.weights / self.weights.sum(1, keepdim=True).clamp(min=1e-6)
        found: Tensor = nn.functional.embedding_bag(
            self.places, table.weight, mode="sum", per_sample_weights=share
        )
        return found


@dataclass(frozen=True, slots=True)
class Past:
    """What each subject reacted to: at most `LONGEST` items, drawn at random from more."""

    items: Tensor  # (subjects, longest)
    weights: Tensor  # (subjects, longest)
    place: Tensor  # (items,)

    @classmethod
    def draw(cls, pairs: PairDataset, place: Tensor, rng: np.random.Generator) -> Past:
        """Draw for every subject."""
        rows = np.flatnonzero(pairs.weight > 0.0)
        rows = rows[np.lexsort((rng.random(len(rows)), pairs.subject[rows]))]
        subject = pairs.subject[rows]
        column = np.arange(len(rows)) - np.searchsorted(subject, subject)
        kept = column < LONGEST
        width = int(column[kept].max(initial=0)) + 1
        items = np.zeros((pairs.subjects, width), dtype=np.int64)
        weights = np.zeros((pairs.subjects, width), dtype=np.float32)
        items[subject[kept], column[kept]] = pairs.item[rows[kept]]
        weights[subject[kept], column[kept]] = pairs.weight[rows[kept]]
        return cls(torch.from_numpy(items), torch.from_numpy(weights), place)

    def of(self, subject: Tensor) -> Bags:
        """Return the past of subjects (n,)."""
        return Bags(self.place[self.items[subject]], self.weights[subject])

    def without(self, subject: Tensor, item: Tensor) -> Bags:
        """Return the past of subjects (n,), each without one item (n,)."""
        items = self.items[subject]
        return Bags(self.place[items], self.weights[subject] * (items != item[:, None]))


@dataclass(frozen=True, slots=True)
class Ids:
    """Places of both kinds, and the subjects' past."""

    subjects: KindIds
    items: KindIds
    past: Past

    @classmethod
    def of(
        cls,
        pairs: PairDataset,
        subject_ids: Sequence[str],
        item_ids: Sequence[str],
        config: TwoTowerConfig,
        rng: np.random.Generator,
    ) -> Ids:
        """Choose the ids with vectors of their own from the positives, and draw the past."""
        positives = pairs.positives
        items = KindIds.of(item_ids, pairs.item[positives], config)
        subjects = KindIds.of(subject_ids, pairs.subject[positives], config)
        return cls(subjects, items, Past.draw(pairs, items.own, rng))
