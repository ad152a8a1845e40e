"""Two-Tower: one network embeds subjects, one embeds items; near is relevant.

Trained by weighted binary cross-entropy on graded pairs and drawn negatives, or by in-batch sampled softmax
with popularity correction (Yi et al. 2019, sampling-bias-corrected neural modeling). The subject's input may
end with its history, the mean encoded item it reacted to; a training pair is left out of its own history.
Ids may have vectors of their own, which are added to what the networks make of the features.

An epoch's chance depends on the seed and its number alone. So a run that was killed goes on from its last
whole epoch to the very same weights, and several processes (`processes`) draw the same batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from matchloop.retrieval.id_table import IdTable
from matchloop.retrieval.two_tower import HISTORY_IDS, ITEM_IDS, SUBJECT_IDS
from training_jobs.datasets import LEAST_PAIRS
from training_jobs.recipes.checkpoint import key_of
from training_jobs.recipes.device import device_of, placed
from training_jobs.recipes.pair_batches import Sampler
from training_jobs.recipes.processes import Group, follow
from training_jobs.recipes.progress import progress_bar
from training_jobs.recipes.tower_ids import Ids
from training_jobs.recipes.tower_losses import LOSSES
from training_jobs.recipes.towers import History, Inputs, Towers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from rich.console import Console
    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

    from training_jobs.config import TwoTowerConfig
    from training_jobs.datasets import PairDataset
    from training_jobs.recipes.checkpoint import Checkpoint, Checkpoints

    Judge = Callable[[NDArray[np.float32], NDArray[np.float32]], float]


@dataclass(frozen=True, slots=True)
class TwoTowerResult:
    """The trained networks as ONNX files, and how training went, epoch by epoch.

    `id_tables`: where ids are used, their vectors: of subjects, of items, of items in a history.
    """

    subject_network: bytes
    item_network: bytes
    subject_vectors: NDArray[np.float32]
    item_vectors: NDArray[np.float32]
    uses_history: bool
    best_epoch: int
    curves: dict[str, list[float]] = field(default_factory=dict)
    id_tables: Mapping[str, IdTable] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained, as every process needs to know it."""

    pairs: PairDataset
    subjects: NDArray[np.float32]
    items: NDArray[np.float32]
    subject_ids: Sequence[str]
    item_ids: Sequence[str]
    config: TwoTowerConfig
    random_negatives: int
    seed: int

    @property
    def key(self) -> str:
        """What the result depends on."""
        pairs = self.pairs
        columns = (pairs.subject, pairs.item, pairs.label, pairs.weight, pairs.rank_weight)
        ids = (self.subject_ids, self.item_ids) if self.config.ids else ()
        settings = (self.config.model_dump_json(), self.random_negatives, self.seed)
        return key_of(*columns, self.subjects, self.items, *map(tuple, ids), *settings)


def train_two_tower(
    pairs: PairDataset,
    subjects: NDArray[np.float32],
    items: NDArray[np.float32],
    config: TwoTowerConfig,
    *,
    random_negatives: int,
    seed: int,
    judge: Judge | None = None,
    console: Console | None = None,
    checkpoints: Checkpoints | None = None,
    subject_ids: Sequence[str] | None = None,
    item_ids: Sequence[str] | None = None,
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
    checkpoints
        Where the state is kept after every epoch, and gone on from.
    subject_ids, item_ids
        In the rows' order; needed where `config.ids` is set.

    Raises
    ------
    TooFewExamples
        When there are fewer than two positives or items.
    NotEquipped
        When `config.device` asks for a GPU and there is none.
    """
    pairs.require(LEAST_PAIRS)
    named = (subject_ids or [str(row) for row in range(pairs.subjects)]) if config.ids else ()
    task = Task(
        pairs,
        subjects,
        items,
        named,
        (item_ids or [str(row) for row in range(pairs.items)]) if config.ids else (),
        config,
        random_negatives,
        seed,
    )
    Group().hand_out(task)
    checkpoint = checkpoints.of("two_tower", task.key, console) if checkpoints is not None else None
    return train(task, judge, console, checkpoint)


def train(
    task: Task,
    judge: Judge | None = None,
    console: Console | None = None,
    checkpoint: Checkpoint | None = None,
) -> TwoTowerResult:
    """Train a task, with the other processes if there are any; the leader alone judges and writes."""
    config, group = task.config, Group()
    device = device_of(config.device, group.rank)
    torch.set_num_threads(config.threads)
    inputs = _inputs(task)
    sampler = Sampler(task.pairs, task.random_negatives, config, inputs.ids, rank=group.rank, size=group.size)
    torch.manual_seed(task.seed)
    towers, inputs = Towers(inputs, config).to(device), placed(inputs, device)
    optimiser = torch.optim.AdamW(
        towers.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    steps = config.epochs * sampler.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 0.5 * (1.0 + math.cos(math.pi * min(step / steps, 1.0)))
    )
    run = _Run(towers, optimiser, schedule)
    run.restore(group.share(lambda: checkpoint.load() if checkpoint is not None else None))
    loss_of = LOSSES[config.loss]
    with progress_bar("two_tower", config.epochs, console) as bar:
        while run.epoch < config.epochs and run.epoch - run.best_epoch <= config.patience:
            towers.train()
            torch.manual_seed(_seed(task.seed, run.epoch, group.rank))
            total = 0.0
            for batch in sampler.epoch(np.random.default_rng([task.seed, run.epoch])):
                loss = loss_of(towers, inputs, placed(batch, device), config)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                group.sum_gradients(towers)
                nn.utils.clip_grad_norm_(towers.parameters(), config.clip)
                optimiser.step()
                schedule.step()
                total += float(loss.detach())
            quality = group.share(lambda: _quality(judge, towers, inputs, run.epoch))
            run.note(group.sum(total) / sampler.steps, quality)
            group.share(lambda: checkpoint.save(run.state()) if checkpoint is not None else None)
            bar.advance(run.told)
    towers.load_state_dict(run.best)
    return _result(towers, inputs, run)


def follow_leader() -> None:
    """Train what the leader of several processes trains, until it is done."""
    follow(train)


class _Run:
    """How far training is, and the best of it so far; all of it goes into a checkpoint.

    Chance has no state to keep: every epoch's begins with the epoch's number.
    """

    def __init__(self, towers: Towers, optimiser: Optimizer, schedule: LambdaLR) -> None:
        self._parts: dict[str, Any] = {"towers": towers, "optimiser": optimiser, "schedule": schedule}
        self._towers = towers
        self.epoch = 0
        self.best_epoch = 0
        self.best_quality = -math.inf
        self.best: dict[str, Tensor] = {}
        self.curves: dict[str, list[float]] = {"two_tower_loss": [], "two_tower_validation": []}

    @property
    def told(self) -> str:
        """The latest epoch in a few words."""
        return " ".join(f"{name.removeprefix('two_tower_')} {c[-1]:.4f}" for name, c in self.curves.items())

    def note(self, loss: float, quality: float) -> None:
        """End an epoch."""
        self.curves["two_tower_loss"].append(loss)
        self.curves["two_tower_validation"].append(quality)
        if quality > self.best_quality:
            self.best_quality, self.best_epoch = quality, self.epoch
            self.best = {name: value.detach().clone() for name, value in self._towers.state_dict().items()}
        self.epoch += 1

    def state(self) -> dict[str, Any]:
        """Return all of it."""
        own = {name: getattr(self, name) for name in _KEPT}
        return own | {name: part.state_dict() for name, part in self._parts.items()}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Take up what `state` gave; None: begin."""
        if state is None:
            return
        for name in _KEPT:
            setattr(self, name, state[name])
        for name, part in self._parts.items():
            part.load_state_dict(state[name])


_KEPT = ("epoch", "best_epoch", "best_quality", "best", "curves")


def _inputs(task: Task) -> Inputs:
    config, ids = task.config, None
    if config.ids:
        ids = Ids.of(task.pairs, task.subject_ids, task.item_ids, config, np.random.default_rng(task.seed))
    history = History.of(task.pairs, task.items) if config.history else None
    return Inputs(torch.from_numpy(task.subjects), torch.from_numpy(task.items), history, ids)


def _seed(seed: int, epoch: int, rank: int) -> int:
    """Return a seed for one epoch's dropout in one process."""
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])


def _quality(judge: Judge | None, towers: Towers, inputs: Inputs, epoch: int) -> float:
    return float(epoch) if judge is None else judge(*towers.embed_all(inputs))


def _result(towers: Towers, inputs: Inputs, run: _Run) -> TwoTowerResult:
    subject_vectors, item_vectors = towers.embed_all(inputs)
    tables: dict[str, IdTable] = {}
    if inputs.ids is not None:
        subjects, items = inputs.ids.subjects.places, inputs.ids.items.places
        named = [(SUBJECT_IDS, subjects), (ITEM_IDS, items)]
        named += [(HISTORY_IDS, items)] if inputs.history is not None else []
        tables = {
            name: IdTable(places, getattr(towers, name).weight.detach().cpu().numpy())
            for name, places in named
        }
    return TwoTowerResult(
        subject_network=towers.subject.to_onnx(),
        item_network=towers.item.to_onnx(),
        subject_vectors=subject_vectors,
        item_vectors=item_vectors,
        uses_history=inputs.history is not None,
        best_epoch=run.best_epoch,
        curves=run.curves,
        id_tables=tables,
    )
