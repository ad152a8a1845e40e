"""Pairs for the Two-Tower without a snapshot, and how to train on them in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training_jobs.config import Loss, TwoTowerConfig
from training_jobs.datasets import PairDataset
from training_jobs.datasets.manifest import manifest_of
from training_jobs.ending import end_at_once
from training_jobs.recipes.checkpoint import Checkpoints
from training_jobs.recipes.processes import joined
from training_jobs.recipes.two_tower import TwoTowerResult, follow_leader, train_two_tower

SMALL = TwoTowerConfig(
    hidden=(16,), width=8, dropout=(0.1,), epochs=6, batch=32, learning_rate=0.01, threads=1, patience=30
)


def pairs_of(
    subject: NDArray[np.int64],
    item: NDArray[np.int64],
    shape: tuple[int, int],
    label: NDArray[np.float32] | None = None,
) -> PairDataset:
    """Return pairs that weigh alike, all positive unless `label` says otherwise."""
    ones = np.ones(len(subject), dtype=np.float32)
    label = ones if label is None else label
    return PairDataset(
        subject=subject,
        item=item,
        label=label,
        weight=label,
        rank=np.zeros(len(subject), np.int32),
        score=np.full(len(subject), np.nan, np.float32),
        rank_weight=ones,
        source=np.full(len(subject), "interaction", dtype=object),
        subjects=shape[0],
        items=shape[1],
        manifest=manifest_of(
            "two_tower",
            "x",
            "x",
            {"label": label},
            [],
            labels={},
            sources={},
            subjects=shape[0],
            items=shape[1],
        ),
    )


def skewed(subjects: int = 200, items: int = 20, each: int = 6, seed: int = 0) -> PairDataset:
    """Subjects who are all alike: each turns to items by their popularity, 1 / (1 + item)."""
    rng = np.random.default_rng(seed)
    chance = 1.0 / (1.0 + np.arange(items))
    chosen = [rng.choice(items, each, replace=False, p=chance / chance.sum()) for _ in range(subjects)]
    return pairs_of(np.repeat(np.arange(subjects), each), np.concatenate(chosen), (subjects, items))


def two_tastes(subjects: int = 60, items: int = 40, each: int = 8, seed: int = 0) -> PairDataset:
    """Even subjects turn to even items, odd ones to odd; nothing but ids and history tells which is which."""
    rng = np.random.default_rng(seed)
    chosen = [2 * rng.choice(items // 2, each, replace=False) + row % 2 for row in range(subjects)]
    return pairs_of(np.repeat(np.arange(subjects), each), np.concatenate(chosen), (subjects, items))


def same_taste(found: TwoTowerResult) -> float:
    """Return the share of subjects whose nearest quarter of items is mostly of their own taste."""
    scores = found.subject_vectors @ found.item_vectors.T
    best = np.argsort(-scores, axis=1)[:, : scores.shape[1] // 4]
    own = (best % 2 == (np.arange(len(scores)) % 2)[:, None]).mean(axis=1)
    return float((own > 0.5).mean())


def train_here(
    folder: Path, loss: Loss, *, ids: bool = True, stop_after: int = 0, pairs: PairDataset | None = None
) -> TwoTowerResult:
    """Train on `two_tastes` with checkpoints in `folder`; kill this process after epoch `stop_after`."""
    pairs = pairs or two_tastes()
    features = np.random.default_rng(5).normal(size=(pairs.subjects + pairs.items, 6)).astype(np.float32)
    config = SMALL.model_copy(update={"loss": loss, "ids": ids, "batch": 120, "epochs": 5})
    seen = 0

    def judge(subjects: NDArray[np.float32], items: NDArray[np.float32]) -> float:
        nonlocal seen
        seen += 1
        if stop_after and seen > stop_after:
            os.kill(os.getpid(), signal.SIGKILL)
        scores = subjects @ items.T
        return float(scores[np.arange(len(scores)), np.arange(len(scores)) % 2].mean())

    return train_two_tower(
        pairs,
        features[: pairs.subjects],
        features[pairs.subjects :],
        config,
        random_negatives=2,
        seed=3,
        judge=judge,
        checkpoints=Checkpoints(folder),
    )


def main(folder: str, loss: str, stop_after: str) -> None:
    """Train once; under torchrun together. The leader writes the networks and vectors."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        found = train_here(Path(folder), Loss(loss), stop_after=int(stop_after))
    else:
        with joined() as group:
            if not group.leads:
                follow_leader()
                return
            write(train_here(Path(folder), Loss(loss)), Path(folder))
            sys.exit(0)  # as a Typer command ends
    write(found, Path(folder))


def write(found: TwoTowerResult, folder: Path) -> None:
    (folder / "subject.onnx").write_bytes(found.subject_network)
    np.savez(
        folder / "found.npz",
        subjects=found.subject_vectors,
        items=found.item_vectors,
        loss=np.array(found.curves["two_tower_loss"]),
    )


if __name__ == "__main__":
    end_at_once(lambda: main(*sys.argv[1:]))
