"""The networks of the Two-Tower, and what they read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from training_jobs.recipes.onnx_graph import Linear, feed_forward

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from training_jobs.config import TwoTowerConfig
    from training_jobs.datasets import PairDataset
    from training_jobs.recipes.pair_batches import Batch
    from training_jobs.recipes.tower_ids import Ids

_BLOCK = 4096


class Tower(nn.Module):
    """Linear layers with ReLU and dropout between them; rows come out with length 1.

    With `residual`, the input ends with as many columns as the output has, which are added to it.
    """

    def __init__(self, width: int, config: TwoTowerConfig, *, residual: bool = False) -> None:
        super().__init__()
        widths = [width, *config.hidden, config.width]
        self.layers = nn.ModuleList(nn.Linear(into, out) for into, out in pairwise(widths))
        self.dropout = [*config.dropout, *[0.0] * len(config.hidden)]
        self.residual = residual

    def forward(self, rows: Tensor, added: Tensor | None = None) -> Tensor:
        """Embed encoded rows: (n, width), and what is added to (n, embedding width), to the latter."""
        for layer, dropout in zip(self.layers[:-1], self.dropout, strict=False):
            rows = nn.functional.dropout(torch.relu(layer(rows)), dropout, self.training)
        out = self.layers[-1](rows)
        return nn.functional.normalize(out if added is None else out + added, dim=1)

    def to_onnx(self) -> bytes:
        """Return the network as an ONNX file, without dropout."""
        layers: list[Linear] = [
            (layer.weight.detach().cpu().numpy(), layer.bias.detach().cpu().numpy())  # type: ignore[operator]
            for layer in self.layers
        ]
        return feed_forward(
            layers, input_name="features", output_name="embedding", normalise=True, residual=self.residual
        )


@dataclass(frozen=True, slots=True)
class History:
    """Σ w x over a subject's positive pairs, and Σ w, so that leaving one out is a subtraction."""

    total: Tensor  # (subjects, item width)
    weight: Tensor  # (subjects,)

    @classmethod
    def of(cls, pairs: PairDataset, items: NDArray[np.float32]) -> History:
        """Sum over all pairs of positive weight."""
        weight = np.clip(pairs.weight, 0.0, None)
        matrix = sparse.csr_matrix((weight, (pairs.subject, pairs.item)), shape=(pairs.subjects, pairs.items))
        total = np.asarray(matrix @ items, dtype=np.float32)
        summed = np.asarray(matrix.sum(axis=1), dtype=np.float32).ravel()
        return cls(torch.from_numpy(total), torch.from_numpy(summed))

    def mean(self, subject: Tensor, left_out: Tensor, item_rows: Tensor) -> Tensor:
        """Return Σ w x / Σ w less `left_out` (n,) times `item_rows` (n, item width); 0 for nothing left."""
        total = self.total[subject].addcmul_(left_out[:, None], item_rows, value=-1.0)
        weight = self.weight[subject] - left_out
        return total.mul_(torch.where(weight > 1e-6, 1.0 / weight, 0.0)[:, None])


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the towers read, for all subjects and items."""

    subjects: Tensor  # (subjects, subject width)
    items: Tensor  # (items, item width)
    history: History | None
    ids: Ids | None

    @property
    def subject_width(self) -> int:
        """Columns the subject tower reads."""
        return self.subjects.shape[1] + (self.items.shape[1] if self.history else 0)


class Towers(nn.Module):
    """Both towers, the ids' vectors, and the scale and offset that turn a cosine into BCE's logit."""

    def __init__(self, inputs: Inputs, config: TwoTowerConfig) -> None:
        super().__init__()
        ids = inputs.ids
        self.subject = Tower(inputs.subject_width, config, residual=ids is not None)
        self.item = Tower(inputs.items.shape[1], config, residual=ids is not None)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1.0 / config.temperature)))
        self.offset = nn.Parameter(torch.tensor(-2.0))
        if ids is not None:
            self.subject_ids = _small(len(ids.subjects.places), config.width)
            self.item_ids = _small(len(ids.items.places), config.width)
            self.history_ids = _small(len(ids.items.places), config.width)

    def subjects_of(self, inputs: Inputs, batch: Batch) -> Tensor:
        """Embed a batch's subjects, each without the batch's item in its history: (n, width)."""
        rows = inputs.subjects[batch.subject]
        if inputs.history is not None:
            history = inputs.history.mean(batch.subject, batch.event_weight, inputs.items[batch.item])
            rows = torch.cat([rows, history * batch.history_kept[:, None]], dim=1)
        if inputs.ids is None:
            return self.subject(rows)  # type: ignore[no-any-return]
        added = self.subject_ids(batch.subject_place)
        if inputs.history is not None:
            past = inputs.ids.past.without(batch.subject, batch.item)
            added = added + past.mean(self.history_ids) * batch.history_kept[:, None]
        return self.subject(rows, added)  # type: ignore[no-any-return]

    def items_of(self, inputs: Inputs, batch: Batch) -> Tensor:
        """Embed a batch's columns: (columns, width)."""
        added = None if inputs.ids is None else self.item_ids(batch.column_place)
        return self.item(inputs.items[batch.column], added)  # type: ignore[no-any-return]

    @torch.no_grad()
    def embed_all(self, inputs: Inputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the vectors of all subjects, with their whole history, and of all items."""
        self.eval()
        return (
            _in_blocks(lambda at: self._known_subjects(inputs, at), inputs.subjects),
            _in_blocks(lambda at: self._known_items(inputs, at), inputs.items),
        )

    def _known_subjects(self, inputs: Inputs, at: Tensor) -> Tensor:
        rows = inputs.subjects[at]
        if inputs.history is not None:
            nothing = torch.zeros(len(at), device=at.device)
            rows = torch.cat([rows, inputs.history.mean(at, nothing, inputs.items[nothing.long()])], dim=1)
        if inputs.ids is None:
            return self.subject(rows)  # type: ignore[no-any-return]
        added = self.subject_ids(inputs.ids.subjects.own[at])
        if inputs.history is not None:
            added = added + inputs.ids.past.of(at).mean(self.history_ids)
        return self.subject(rows, added)  # type: ignore[no-any-return]

    def _known_items(self, inputs: Inputs, at: Tensor) -> Tensor:
        added = None if inputs.ids is None else self.item_ids(inputs.ids.items.own[at])
        return self.item(inputs.items[at], added)  # type: ignore[no-any-return]


def _small(rows: int, width: int) -> nn.Embedding:
    table = nn.Embedding(rows, width)
    nn.init.normal_(table.weight, std=0.02)
    return table


def _in_blocks(embed: Callable[[Tensor], Tensor], entities: Tensor) -> NDArray[np.float32]:
    numbers = torch.arange(len(entities), device=entities.device)
    blocks = [embed(at).cpu().numpy() for at in torch.split(numbers, _BLOCK)]
    return np.concatenate(blocks).astype(np.float32)
