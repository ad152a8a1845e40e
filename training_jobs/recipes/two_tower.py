"""Two-Tower: one network embeds subjects, one embeds items; near is relevant.

Trained by weighted binary cross-entropy on graded pairs and drawn negatives, or by in-batch sampled softmax
with popularity correction (Yi et al. 2019, sampling-bias-corrected neural modeling). The subject's input may
end with its history, the mean encoded item it reacted to; a training pair is left out of its own history.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from training_jobs.config import Loss
from training_jobs.datasets import LEAST_PAIRS
from training_jobs.recipes.onnx_graph import Linear, feed_forward
from training_jobs.recipes.pair_batches import Batch, Sampler
from training_jobs.recipes.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from rich.console import Console

    from training_jobs.config import TwoTowerConfig
    from training_jobs.datasets import PairDataset


@dataclass(frozen=True, slots=True)
class TwoTowerResult:
    """The trained networks as ONNX files, and how training went, epoch by epoch."""

    subject_network: bytes
    item_network: bytes
    subject_vectors: NDArray[np.float32]
    item_vectors: NDArray[np.float32]
    uses_history: bool
    best_epoch: int
    curves: dict[str, list[float]] = field(default_factory=dict)


def train_two_tower(
    pairs: PairDataset,
    subjects: NDArray[np.float32],
    items: NDArray[np.float32],
    config: TwoTowerConfig,
    *,
    random_negatives: int,
    seed: int,
    judge: Callable[[NDArray[np.float32], NDArray[np.float32]], float] | None = None,
    console: Console | None = None,
) -> TwoTowerResult:
    """Train both towers.

    Parameters
    ----------
    subjects, items
        Encoded entities, float32 (n, width), in the rows that `pairs` names.
    random_negatives
        For BCE: items drawn for each positive, anew each epoch.
    judge
        Validation quality from all subjects' and all items' vectors, higher is better: the epoch it likes
        best is kept, and training stops after `config.patience` epochs without a better one. None keeps
        the last.

    Raises
    ------
    TooFewExamples
        When there are fewer than two positives or items.
    """
    pairs.require(LEAST_PAIRS)
    torch.set_num_threads(config.threads)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    history = _History.of(pairs, items) if config.history else None
    inputs = _Inputs(torch.from_numpy(subjects), torch.from_numpy(items), history)
    towers = Towers(inputs.subject_width, items.shape[1], config)
    loss_of = _softmax_loss if config.loss is Loss.SAMPLED_SOFTMAX else _bce_loss
    sampler = Sampler(pairs, random_negatives, config, rng)
    optimiser = torch.optim.AdamW(
        towers.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    steps = config.epochs * sampler.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 0.5 * (1.0 + math.cos(math.pi * min(step / steps, 1.0)))
    )
    curves: dict[str, list[float]] = {"two_tower_loss": [], "two_tower_validation": []}
    best: tuple[float, int, dict[str, Tensor]] = (-math.inf, 0, {})
    with progress_bar("two_tower", config.epochs, console) as bar:
        for epoch in range(config.epochs):
            towers.train()
            total = 0.0
            for batch in sampler.epoch():
                loss = loss_of(towers, inputs, batch, config, rng)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(towers.parameters(), config.clip)
                optimiser.step()
                schedule.step()
                total += float(loss.detach())
            curves["two_tower_loss"].append(total / sampler.steps)
            quality = judge(*towers.embed_all(inputs)) if judge is not None else float(epoch)
            curves["two_tower_validation"].append(quality)
            if quality > best[0]:
                best = (quality, epoch, {n: v.detach().clone() for n, v in towers.state_dict().items()})
            bar.advance(f"loss {curves['two_tower_loss'][-1]:.3f} ndcg {quality:.4f}")
            if epoch - best[1] >= config.patience:
                break
    towers.load_state_dict(best[2])
    subject_vectors, item_vectors = towers.embed_all(inputs)
    return TwoTowerResult(
        subject_network=towers.subject.to_onnx(),
        item_network=towers.item.to_onnx(),
        subject_vectors=subject_vectors,
        item_vectors=item_vectors,
        uses_history=config.history,
        best_epoch=best[1],
        curves=curves,
    )


class Tower(nn.Module):
    """Linear layers with ReLU and dropout between them; rows come out with length 1."""

    def __init__(self, width: int, config: TwoTowerConfig) -> None:
        super().__init__()
        widths = [width, *config.hidden, config.width]
        self.layers = nn.ModuleList(nn.Linear(into, out) for into, out in pairwise(widths))
        self.dropout = [*config.dropout, *[0.0] * len(config.hidden)]

    def forward(self, rows: Tensor) -> Tensor:
        """Embed encoded rows: (n, width) to (n, embedding width)."""
        for layer, dropout in zip(self.layers[:-1], self.dropout, strict=False):
            rows = nn.functional.dropout(torch.relu(layer(rows)), dropout, self.training)
        return nn.functional.normalize(self.layers[-1](rows), dim=1)

    def to_onnx(self) -> bytes:
        """Return the network as an ONNX file, without dropout."""
        layers: list[Linear] = [
            (layer.weight.detach().numpy(), layer.bias.detach().numpy())  # type: ignore[operator]
            for layer in self.layers
        ]
        return feed_forward(layers, input_name="features", output_name="embedding", normalise=True)


class Towers(nn.Module):
    """Both towers, and the scale and offset that BCE needs to turn a cosine into a logit."""

    def __init__(self, subject_width: int, item_width: int, config: TwoTowerConfig) -> None:
        super().__init__()
        self.subject = Tower(subject_width, config)
        self.item = Tower(item_width, config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1.0 / config.temperature)))
        self.offset = nn.Parameter(torch.tensor(-2.0))

    @torch.no_grad()
    def embed_all(self, inputs: _Inputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the vectors of all subjects, with their whole history, and of all items."""
        self.eval()
        found = []
        for tower, count, rows in (
            (self.subject, len(inputs.subjects), inputs.subject_rows),
            (self.item, len(inputs.items), lambda at: inputs.items[at]),
        ):
            blocks = [
                tower(rows(torch.arange(at, min(at + 4096, count)))).numpy() for at in range(0, count, 4096)
            ]
            found.append(np.concatenate(blocks).astype(np.float32))
        return found[0], found[1]


@dataclass(frozen=True, slots=True)
class _History:
    """Σ w x over a subject's positive pairs, and Σ w, so that leaving one out is a subtraction."""

    total: Tensor  # (subjects, item width)
    weight: Tensor  # (subjects,)

    @classmethod
    def of(cls, pairs: PairDataset, items: NDArray[np.float32]) -> _History:
        weight = np.clip(pairs.weight, 0.0, None)
        matrix = sparse.csr_matrix((weight, (pairs.subject, pairs.item)), shape=(pairs.subjects, pairs.items))
        total = np.asarray(matrix @ items, dtype=np.float32)
        return cls(torch.from_numpy(total), torch.from_numpy(np.asarray(matrix.sum(axis=1)).ravel()))


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What the towers read, for all subjects and items."""

    subjects: Tensor
    items: Tensor
    history: _History | None

    @property
    def subject_width(self) -> int:
        return self.subjects.shape[1] + (self.items.shape[1] if self.history else 0)

    def subject_rows(self, subject: Tensor, without: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return the subject tower's input; `without` are the items, and their weights, to leave out."""
        own = self.subjects[subject]
        if self.history is None:
            return own
        total, weight = self.history.total[subject], self.history.weight[subject]
        if without is not None:
            item, left_out = without
            total = total - left_out[:, None] * self.items[item]
            weight = weight - left_out
        known = weight > 1e-6
        mean = total / torch.where(known, weight, 1.0)[:, None]
        return torch.cat([own, torch.where(known[:, None], mean, 0.0)], dim=1)


def _subject_vectors(
    towers: Towers, inputs: _Inputs, batch: Batch, config: TwoTowerConfig, rng: np.random.Generator
) -> Tensor:
    rows = inputs.subject_rows(batch.subject, without=(batch.item, batch.event_weight))
    if inputs.history is not None and config.history_dropout > 0.0:
        kept = torch.from_numpy(rng.random(len(rows)) >= config.history_dropout)
        own = inputs.subjects.shape[1]
        rows = torch.cat([rows[:, :own], rows[:, own:] * kept[:, None]], dim=1)
    vectors: Tensor = towers.subject(rows)
    return vectors


def _bce_loss(
    towers: Towers, inputs: _Inputs, batch: Batch, config: TwoTowerConfig, rng: np.random.Generator
) -> Tensor:
    cosine = (
        _subject_vectors(towers, inputs, batch, config, rng) * towers.item(inputs.items[batch.item])
    ).sum(1)
    logit = cosine * towers.log_scale.exp().clamp(max=100.0) + towers.offset
    loss = nn.functional.binary_cross_entropy_with_logits(logit, batch.label, reduction="none")
    return (loss * batch.rank_weight).sum() / batch.rank_weight.sum()


def _softmax_loss(
    towers: Towers, inputs: _Inputs, batch: Batch, config: TwoTowerConfig, rng: np.random.Generator
) -> Tensor:
    subject = _subject_vectors(towers, inputs, batch, config, rng)
    item = towers.item(inputs.items[torch.cat([batch.item, batch.others])])  # (n + others, width)
    logit = subject @ item.T / config.temperature - batch.log_q
    logit = logit.masked_fill(batch.known, -1e4)
    loss = nn.functional.cross_entropy(logit, torch.arange(len(subject)), reduction="none")
    weight = batch.label * batch.rank_weight
    return (loss * weight).sum() / weight.sum()
