"""Batches of pairs for the Two-Tower, with the negatives each loss needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from training_jobs.config import Loss

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from training_jobs.config import TwoTowerConfig
    from training_jobs.datasets import PairDataset


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of n pairs, and for the softmax what each is told apart from."""

    subject: Tensor
    item: Tensor
    label: Tensor
    rank_weight: Tensor
    event_weight: Tensor  # what the pair adds to its subject's history
    others: Tensor  # softmax: further items to tell apart from
    log_q: Tensor  # softmax: of item, then others
    known: Tensor  # softmax: (n, n + others), pairs that are positive too


class Sampler:
    """Draws batches of rows; every positive once an epoch, or as many as `examples_per_epoch` allows."""

    def __init__(
        self, pairs: PairDataset, random_negatives: int, config: TwoTowerConfig, rng: np.random.Generator
    ) -> None:
        self._pairs = pairs
        self._rng = rng
        self._config = config
        self._softmax = config.loss is Loss.SAMPLED_SOFTMAX
        self._random = random_negatives
        self._positives = pairs.positives
        self._negatives = np.flatnonzero(pairs.label <= 0.0)
        used = min(len(self._positives), config.examples_per_epoch)
        self._used = used
        if not self._softmax:
            share = used / len(self._positives)
            used += used * random_negatives + round(share * len(self._negatives))
        self.steps = max(1, math.ceil(used / config.batch))
        self._matrix = sparse.csr_matrix(
            (
                np.ones(len(self._positives), dtype=np.float32),
                (pairs.subject[self._positives], pairs.item[self._positives]),
            ),
            shape=(pairs.subjects, pairs.items),
        )
        counts = np.bincount(pairs.item[self._positives], minlength=pairs.items)
        q = 0.5 * counts / counts.sum() + 0.5 / pairs.items
        self._log_q = np.log(q).astype(np.float32)
        self._start = np.searchsorted(pairs.subject[self._negatives], np.arange(pairs.subjects + 1))

    def epoch(self) -> Iterator[Batch]:
        """Yield one epoch's batches, drawn anew."""
        chosen = self._rng.permutation(self._positives)[: self._used]
        if self._softmax:
            for at in range(self.steps):
                yield self._softmax_batch(chosen[at * self._config.batch : (at + 1) * self._config.batch])
            return
        yield from self._bce_batches(chosen)

    def _bce_batches(self, chosen: NDArray[np.int64]) -> Iterator[Batch]:
        pairs, rng = self._pairs, self._rng
        share = len(chosen) / len(self._positives)
        negatives = rng.permutation(self._negatives)[: round(share * len(self._negatives))]
        drawn = pairs.random_negatives(chosen, self._random, rng)
        rows = np.concatenate([chosen, negatives])
        zeros, ones = np.zeros(len(drawn.subject), np.float32), np.ones(len(drawn.subject), np.float32)
        columns: list[NDArray[Any]] = [
            np.concatenate([pairs.subject[rows], drawn.subject]),
            np.concatenate([pairs.item[rows], drawn.item]),
            np.concatenate([pairs.label[rows], zeros]),
            np.concatenate([pairs.rank_weight[rows], ones]),
            np.concatenate([np.clip(pairs.weight[rows], 0.0, None), zeros]),
        ]
        order = rng.permutation(len(columns[0]))
        empty = torch.empty(0)
        for at in range(self.steps):
            part = order[at * self._config.batch : (at + 1) * self._config.batch]
            if len(part):
                tensors = [torch.from_numpy(column[part]) for column in columns]
                yield Batch(*tensors, *[empty] * 3)

    def _softmax_batch(self, rows: NDArray[np.int64]) -> Batch:
        pairs = self._pairs
        subject, item = pairs.subject[rows], pairs.item[rows]
        others = self._own_negatives(subject)
        columns = np.concatenate([item, others])
        return Batch(
            torch.from_numpy(subject),
            torch.from_numpy(item),
            torch.from_numpy(pairs.label[rows]),
            torch.from_numpy(pairs.rank_weight[rows]),
            torch.from_numpy(np.clip(pairs.weight[rows], 0.0, None)),
            torch.from_numpy(others),
            torch.from_numpy(self._log_q[columns]),
            torch.from_numpy(self._known(subject, columns)),
        )

    def _known(self, subject: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which columns (items) each row's subject is positive with, but for row r's own column r."""
        distinct, place = np.unique(columns, return_inverse=True)
        place_of = np.full(self._pairs.items, -1)
        place_of[distinct] = np.arange(len(distinct))
        rows = self._matrix[subject]
        row = np.repeat(np.arange(len(subject)), np.diff(rows.indptr))
        at = place_of[rows.indices]
        known = np.zeros((len(subject), len(distinct)), dtype=np.bool_)
        known[row[at >= 0], at[at >= 0]] = True
        known = known[:, place]
        np.fill_diagonal(known[:, : len(subject)], val=False)
        return known

    def _own_negatives(self, subject: NDArray[np.int64]) -> NDArray[np.int64]:
        """Draw for each row one item its subject rejected or passed over; any item if there is none."""
        start, count = self._start[subject], self._start[subject + 1] - self._start[subject]
        drawn = self._rng.integers(0, self._pairs.items, size=len(subject))
        has = count > 0
        at = start[has] + (self._rng.random(int(has.sum())) * count[has]).astype(np.int64)
        drawn[has] = self._pairs.item[self._negatives[at]]
        return drawn
