"""`two_tower_vs_bare`: the recipe's examples a second over a bare PyTorch loop on tensors in memory.

The bare loop has the same networks, optimiser, loss and batch size, and its batches lie ready; the recipe
draws negatives, leaves pairs out of histories, adds losses up and embeds everything after an epoch. Both run
in turn, epoch by epoch, so that what else the machine does falls on both. On a machine that does much else,
look at the ratio of processor seconds, which is reported beside the target's of wall clock seconds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.report import Better, Target
from training_jobs.config import Loss, TwoTowerConfig, load_config
from training_jobs.datasets import PairDataset
from training_jobs.datasets.manifest import manifest_of
from training_jobs.recipes.two_tower import train_two_tower

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BOUND = 0.85
RANDOM_NEGATIVES = 2
Rows = tuple["NDArray[np.float32]", "NDArray[np.float32]"]


def made_up(
    pairs: int, subjects: int, items: int, width: int, rng: np.random.Generator
) -> tuple[PairDataset, Rows]:
    """Return pairs, a tenth of them rejected, whose items are popular by 1 / rank, and features by chance."""
    chance = 1.0 / (1.0 + np.arange(items))
    label = (rng.random(pairs) < 0.9).astype(np.float32)
    dataset = PairDataset(
        subject=np.sort(rng.integers(0, subjects, pairs)),
        item=rng.choice(items, pairs, p=chance / chance.sum()),
        label=label,
        weight=label,
        rank=np.zeros(pairs, np.int32),
        score=np.full(pairs, np.nan, np.float32),
        rank_weight=np.ones(pairs, np.float32),
        source=np.full(pairs, "interaction", dtype=object),
        subjects=subjects,
        items=items,
        manifest=manifest_of(
            "two_tower",
            "made up",
            "",
            {"label": label},
            [],
            labels={},
            sources={},
            subjects=subjects,
            items=items,
        ),
    )
    rows = [rng.normal(size=(count, width)).astype(np.float32) for count in (subjects, items)]
    return dataset, (rows[0], rows[1])


def bare_epoch(
    config: TwoTowerConfig, rows: Rows, examples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the examples a second, and a processor second, of a plain loop over batches that lie ready."""
    softmax, history = config.loss is Loss.SAMPLED_SOFTMAX, config.history
    subjects, items = (torch.from_numpy(side) for side in rows)
    if history:
        subjects = torch.cat([subjects, torch.zeros(len(subjects), items.shape[1])], dim=1)
    widths = [subjects.shape[1], items.shape[1]]
    towers = torch.nn.ModuleList(_plain(width, config) for width in widths)
    optimiser = torch.optim.AdamW(towers.parameters(), lr=config.learning_rate, fused=True)
    count = max(1, examples // config.batch)
    columns = config.batch * (2 if softmax else 1)
    subject = torch.from_numpy(rng.integers(0, len(subjects), (count, config.batch)))
    item = torch.from_numpy(rng.integers(0, len(items), (count, columns)))
    label = torch.from_numpy(rng.integers(0, 2, (count, config.batch)).astype(np.float32))
    begin = _now()
    for at in range(count):
        one, other = (
            torch.nn.functional.normalize(tower(side[where[at]]), dim=1)
            for tower, side, where in zip(towers, (subjects, items), (subject, item), strict=True)
        )
        if softmax:
            logit = one @ other.T / config.temperature
            loss = torch.nn.functional.cross_entropy(logit, torch.arange(config.batch))
        else:
            logit = (one * other).sum(1) / config.temperature
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, label[at])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(towers.parameters(), config.clip)
        optimiser.step()
    speed: NDArray[np.float64] = count * config.batch / (_now() - begin)
    return speed


def _now() -> NDArray[np.float64]:
    return np.array([time.perf_counter(), time.process_time()])


def _plain(width: int, config: TwoTowerConfig) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for hidden, dropout in zip(config.hidden, config.dropout, strict=True):
        layers += [torch.nn.Linear(width, hidden), torch.nn.ReLU(), torch.nn.Dropout(dropout)]
        width = hidden
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, config.width))


def two_tower_vs_bare(
    *,
    preset: str = "default",
    pairs: int = 1000,
    subjects: int = 500,
    items: int = 400,
    width: int = 450,
    repeats: int = 7,
    threads: int = 1,
    seed: int = 1,
    say: Callable[[str], object] = print,
) -> tuple[dict[str, object], Target]:
    """Measure; returns the figures and the target, the median over the repeats.

    Parameters
    ----------
    width
        Of an encoded entity, on either side.
    repeats
        Epochs of each, in turn; the one before them is not counted.
    """
    rng = np.random.default_rng(seed)
    config = load_config(preset).two_tower.model_copy(
        update={"threads": threads, "epochs": repeats + 1, "patience": repeats + 1}
    )
    dataset, rows = made_up(pairs, subjects, items, width, rng)
    positives = len(dataset.positives)
    softmax = config.loss is Loss.SAMPLED_SOFTMAX
    examples = positives if softmax else positives * (1 + RANDOM_NEGATIVES) + len(dataset) - positives
    recipe: list[NDArray[np.float64]] = []
    bare: list[NDArray[np.float64]] = []
    begin = _now()

    def judge(_subjects: NDArray[np.float32], _items: NDArray[np.float32]) -> float:
        """End an epoch of the recipe, and run one of the bare loop."""
        nonlocal begin
        recipe.append(examples / (_now() - begin))
        bare.append(bare_epoch(config, rows, examples, rng))
        begin = _now()
        return float(len(recipe))

    train_two_tower(
        dataset, *rows, config, random_negatives=RANDOM_NEGATIVES, seed=seed, judge=judge, console=None
    )
    speeds = np.array(recipe[1:]), np.array(bare[1:])  # each (repeats, 2)
    ratios, processor_ratios = (speeds[0] / speeds[1]).T
    measured = float(np.median(ratios))
    recipe_speed, bare_speed = (float(np.median(side[:, 0])) for side in speeds)
    figures: dict[str, object] = {
        "preset": preset,
        "loss": config.loss.value,
        "batch": config.batch,
        "threads": threads,
        "pairs": pairs,
        "width": width,
        "examples_per_epoch": examples,
        "recipe_examples_per_second": recipe_speed,
        "bare_examples_per_second": bare_speed,
        "ratios": ratios.round(3).tolist(),
        "processor_ratios": processor_ratios.round(3).tolist(),
    }
    say(
        f"two_tower ({preset}): {recipe_speed:,.0f} examples/s, bare {bare_speed:,.0f}; by processor seconds "
        f"{float(np.median(processor_ratios)):.2f} of bare"
    )
    low, high = float(ratios.min()), float(ratios.max())
    return figures, Target("two_tower_vs_bare", measured, BOUND, Better.HIGHER, low, high)
