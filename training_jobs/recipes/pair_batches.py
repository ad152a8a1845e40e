"""Batches of pairs for the Two-Tower, with the negatives each loss needs.

All of an epoch's chance comes from the generator that the epoch is given: processes that train together draw
the same batches, and each takes its part of every one.
"""

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
    from training_jobs.recipes.tower_ids import Ids, KindIds

_NOTHING = torch.empty(0)


@dataclass(frozen=True, slots=True)
class Batch:
    """n pairs, and the items (columns) that they are scored against.

    Parameters
    ----------
    event_weight
        What each pair adds to its subject's history.
    history_kept
        Float, 0 where the subject's history is left out.
    weight, total
        What each pair's loss counts, and what these sum to over the whole batch.
    column
        BCE: the pairs' own items. Softmax: these, and further ones to tell them apart from.
    target, log_q, known
        Softmax: each pair's own column; log chance of each column; other columns the subject is positive
        with, (n, columns).
    subject_place, column_place
        Where ids are used: places in the tables.
    """

    subject: Tensor
    item: Tensor
    label: Tensor
    event_weight: Tensor
    history_kept: Tensor
    weight: Tensor
    total: float
    column: Tensor
    target: Tensor = _NOTHING
    log_q: Tensor = _NOTHING
    known: Tensor = _NOTHING
    subject_place: Tensor = _NOTHING
    column_place: Tensor = _NOTHING

    def __len__(self) -> int:
        return len(self.subject)


class Sampler:
    """Draws batches of rows; every positive once an epoch, or as many as `examples_per_epoch` allows.

    Parameters
    ----------
    rank, size
        Which part of each batch: pairs rank, rank + size, …. A last batch with fewer pairs than `size` is
        left out.
    """

    def __init__(
        self,
        pairs: PairDataset,
        random_negatives: int,
        config: TwoTowerConfig,
        ids: Ids | None = None,
        *,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        self._pairs = pairs
        self._config = config
        self._ids = ids
        self._part, self._size = slice(rank, None, size), size
        self._softmax = config.loss is Loss.SAMPLED_SOFTMAX
        self._random = random_negatives
        self._positives = pairs.positives
        self._negatives = np.flatnonzero(pairs.label <= 0.0)
        self._event_weight = np.clip(pairs.weight, 0.0, None)
        used = min(len(self._positives), config.examples_per_epoch)
        self._used = used
        if self._softmax:
            self._others = _OwnNegatives(pairs, self._negatives)
            self._log_q = self._log_chances()
            self._known = _Known(pairs, self._positives)
        else:
            share = used / len(self._positives)
            used += used * random_negatives + round(share * len(self._negatives))
        self.steps = max(1, math.ceil(used / config.batch))

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield one epoch's batches, drawn anew."""
        chosen = rng.permutation(self._positives)[: self._used]
        return self._softmax_batches(chosen, rng) if self._softmax else self._bce_batches(chosen, rng)

    def _bce_batches(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> Iterator[Batch]:
        pairs = self._pairs
        share = len(chosen) / len(self._positives)
        negatives = rng.permutation(self._negatives)[: round(share * len(self._negatives))]
        drawn = pairs.random_negatives(chosen, self._random, rng)
        rows = np.concatenate([chosen, negatives])
        zeros, ones = np.zeros(len(drawn.subject), np.float32), np.ones(len(drawn.subject), np.float32)
        order = rng.permutation(len(rows) + len(drawn.subject))
        subject = np.concatenate([pairs.subject[rows], drawn.subject])[order]
        item = np.concatenate([pairs.item[rows], drawn.item])[order]
        weight = np.concatenate([pairs.rank_weight[rows], ones])[order]
        columns = [
            subject,
            item,
            np.concatenate([pairs.label[rows], zeros])[order],
            np.concatenate([self._event_weight[rows], zeros])[order],
            self._history_kept(len(order), rng),
            weight,
            *self._places(subject, item, rng),
        ]
        tensors = [torch.from_numpy(column) for column in columns]
        for at in range(0, len(order), self._config.batch):
            whole = slice(at, at + self._config.batch)
            part = [tensor[whole][self._part] for tensor in tensors]
            if len(weight[whole]) >= self._size:
                total = float(weight[whole].sum())
                subjects, items, labels, event_weights, kept, weights, *places = part
                yield Batch(
                    subjects,
                    items,
                    labels,
                    event_weights,
                    kept,
                    weights,
                    total,
                    items,
                    subject_place=places[0] if places else _NOTHING,
                    column_place=places[1] if places else _NOTHING,
                )

    def _softmax_batches(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> Iterator[Batch]:
        pairs = self._pairs
        for at in range(0, len(chosen), self._config.batch):
            rows = chosen[at : at + self._config.batch]
            subject, item = pairs.subject[rows], pairs.item[rows]
            column = np.concatenate([item, self._others.draw(subject, rng)])
            weight = pairs.label[rows] * pairs.rank_weight[rows]
            kept = self._history_kept(len(rows), rng)
            places = self._places(subject, column, rng)
            own = np.arange(len(rows))[self._part]
            if len(rows) < self._size:
                continue
            mine = rows[own]
            yield Batch(
                torch.from_numpy(subject[own]),
                torch.from_numpy(item[own]),
                torch.from_numpy(pairs.label[mine]),
                torch.from_numpy(self._event_weight[mine]),
                torch.from_numpy(kept[own]),
                torch.from_numpy(weight[own]),
                float(weight.sum()),
                torch.from_numpy(column),
                torch.from_numpy(own),
                torch.from_numpy(self._log_q[column]),
                torch.from_numpy(self._known.of(subject[own], column, own)),
                subject_place=torch.from_numpy(places[0][own]) if places else _NOTHING,
                column_place=torch.from_numpy(places[1]) if places else _NOTHING,
            )

    def _history_kept(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return 0 for each pair that does without its subject's history, else 1."""
        return (rng.random(count, dtype=np.float32) >= self._config.history_dropout).astype(np.float32)

    def _places(
        self, subject: NDArray[np.int64], item: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any]] | tuple[()]:
        """Return places of the ids, some taken for unknown ones; nothing where ids are not used."""
        if self._ids is None:
            return ()
        return (
            self._dropped(self._ids.subjects, subject, rng),
            self._dropped(self._ids.items, item, rng),
        )

    def _dropped(self, ids: KindIds, rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        unknown = rng.random(len(rows), dtype=np.float32) < self._config.id_dropout
        return np.where(unknown, ids.shared.numpy()[rows], ids.own.numpy()[rows])

    def _log_chances(self) -> NDArray[np.float32]:
        """Return the log chance that a column is an item, times `popularity_correction`, (items,).

        Half the columns are positives' items, as often as they occur; half the others'. Every item keeps a
        little chance, so that none is lifted without bound.
        """
        pairs, positives = self._pairs, self._positives
        share = np.bincount(pairs.subject[positives], minlength=pairs.subjects) / len(positives)
        counts = np.bincount(pairs.item[positives], minlength=pairs.items) / len(positives)
        q = 0.5 * counts + 0.5 * self._others.chances(share) + 1e-3 / pairs.items
        correction = self._config.popularity_correction * np.log(q)
        log_q: NDArray[np.float32] = correction.astype(np.float32)
        return log_q


class _OwnNegatives:
    """Draws an item that a subject rejected or passed over; any item where there is none."""

    def __init__(self, pairs: PairDataset, negatives: NDArray[np.int64]) -> None:
        ordered = negatives[np.argsort(pairs.subject[negatives], kind="stable")]
        self._item = pairs.item[ordered]
        self._subject = pairs.subject[ordered]
        self._items = pairs.items
        bounds = np.searchsorted(self._subject, np.arange(pairs.subjects + 1))
        self._start, self._count = bounds[:-1], np.diff(bounds)

    def draw(self, subject: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw one item for each subject, (n,)."""
        drawn = rng.integers(0, self._items, size=len(subject))
        count = self._count[subject]
        has = count > 0
        at = self._start[subject[has]] + (rng.random(int(has.sum())) * count[has]).astype(np.int64)
        drawn[has] = self._item[at]
        return drawn

    def chances(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each item's chance to be drawn for subjects that come up in these shares, (items,)."""
        each = (share / np.maximum(self._count, 1))[self._subject]
        own = np.bincount(self._item, weights=each, minlength=self._items)
        any_item: NDArray[np.float64] = own + share[self._count == 0].sum() / self._items
        return any_item


class _Known:
    """Which items each subject is positive with."""

    def __init__(self, pairs: PairDataset, positives: NDArray[np.int64]) -> None:
        where = (pairs.subject[positives], pairs.item[positives])
        ones = np.ones(len(positives), dtype=np.bool_)
        self._matrix = sparse.csr_matrix((ones, where), shape=(pairs.subjects, pairs.items))
        self._place = np.full(pairs.items, -1)

    def of(
        self, subject: NDArray[np.int64], column: NDArray[np.int64], own: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return which columns are positive with each subject, (n, columns), but for the column `own`."""
        distinct, place = np.unique(column, return_inverse=True)
        self._place[distinct] = np.arange(len(distinct))
        start, count = self._matrix.indptr[subject], np.diff(self._matrix.indptr)[subject]
        row = np.repeat(np.arange(len(subject)), count)
        within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        at = self._place[self._matrix.indices[np.repeat(start, count) + within]]
        known = np.zeros((len(subject), len(distinct)), dtype=np.bool_)
        known[row[at >= 0], at[at >= 0]] = True
        self._place[distinct] = -1
        found: NDArray[np.bool_] = known[:, place]
        found[np.arange(len(own)), own] = False
        return found
