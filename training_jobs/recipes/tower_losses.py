"""What the Two-Tower minimises, for one batch or one process's part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from training_jobs.config import Loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from training_jobs.config import TwoTowerConfig
    from training_jobs.recipes.pair_batches import Batch
    from training_jobs.recipes.towers import Inputs, Towers

LARGEST_SCALE = 100.0


def bce(towers: Towers, inputs: Inputs, batch: Batch, config: TwoTowerConfig) -> Tensor:  # noqa: ARG001
    """Return binary cross-entropy of graded labels, weighted by rank: Σ w ℓ / Σ w."""
    cosine = (towers.subjects_of(inputs, batch) * towers.items_of(inputs, batch)).sum(1)
    logit = cosine * towers.log_scale.exp().clamp(max=LARGEST_SCALE) + towers.offset
    loss = nn.functional.binary_cross_entropy_with_logits(logit, batch.label, reduction="none")
    return (loss * batch.weight).sum() / batch.total


def sampled_softmax(towers: Towers, inputs: Inputs, batch: Batch, config: TwoTowerConfig) -> Tensor:
    """Return the softmax's cross-entropy over the batch's items, popularity-corrected.

    s(x, y) = cosine / temperature − a log q(y), q(y) the chance of y to be among a batch's columns (Yi et al.
    2019, eq. 5; a = 1). Columns that are positive for the subject too are no negatives of its.
    """
    cosine = towers.subjects_of(inputs, batch) @ towers.items_of(inputs, batch).T  # (n, columns)
    logit = cosine / config.temperature - batch.log_q
    logit = logit.masked_fill(batch.known, -1e4)
    loss = nn.functional.cross_entropy(logit, batch.target, reduction="none")
    return (loss * batch.weight).sum() / batch.total


LOSSES: dict[Loss, Callable[[Towers, Inputs, Batch, TwoTowerConfig], torch.Tensor]] = {
    Loss.BCE: bce,
    Loss.SAMPLED_SOFTMAX: sampled_softmax,
}
