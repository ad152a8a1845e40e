"""Open Bandit (Saito et al. 2021): one policy's click rate from the other's log, beside its own.

The logs are in the layout of ``obd``: a row an impression, with item, position, click and propensity. The
uniform policy's probabilities are known: one over the items. The Thompson policy moved all week, and its log
tells the probability of the item it chose alone. What its own click rate is the rate of is its mean over the
week, and that is estimated by how often it chose each item at each position. The mean of the logged
propensities would count a time the more, the likelier the item then was: over the items of a position it adds
up to far more than 1. It is shown beside, made to add up to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.csv as pacsv

from benchmarks.report import Better, Target
from matchloop.errors import InvalidInput
from training_jobs.evaluate import interval_of
from training_jobs.evaluate.bandit_log import Log
from training_jobs.evaluate.off_policy import (
    Estimator,
    OffPolicy,
    Settings,
    doubly_robust,
    estimate,
    ips,
    snips,
)
from training_jobs.evaluate.reward_model import tabular_policy
from training_jobs.evaluate.support import importance_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

UNIFORM, THOMPSON = "random_men.csv.gz", "bts_men.csv.gz"
COLUMNS = ("item_id", "position", "click", "propensity_score")
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Impressions:
    """One policy's log, n rows in columns; positions and items from 0."""

    position: NDArray[np.int64]
    item: NDArray[np.int64]
    log: Log

    @classmethod
    def read(cls, path: Path) -> Impressions:
        """Read a file.

        Raises
        ------
        InvalidInput
            If it lacks a column.
        """
        table = pacsv.read_csv(path)
        missing = [name for name in COLUMNS if name not in table.column_names]
        if missing:
            raise InvalidInput(f"{path}: no column {', '.join(missing)}")
        item, position, click, chance = (table[name].to_numpy() for name in COLUMNS)
        return cls(position.astype(np.int64) - 1, item.astype(np.int64), Log.of(click, chance))

    def take(self, rows: NDArray[np.int64]) -> Impressions:
        """Return some rows, each a unit of its own."""
        return Impressions(
            self.position[rows], self.item[rows], Log.of(self.log.reward[rows], self.log.propensity[rows])
        )

    def shares(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Return how often each item was chosen at each position, (positions, items), rows sum to 1."""
        count = np.bincount(self.position * shape[1] + self.item, minlength=shape[0] * shape[1]).reshape(
            shape
        )
        return np.asarray(count / count.sum(axis=1, keepdims=True))

    def mean_propensities(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Return the mean logged propensity of each item at each position, (positions, items)."""
        cell = self.position * shape[1] + self.item
        size = shape[0] * shape[1]
        count = np.bincount(cell, minlength=size)
        total = np.bincount(cell, self.log.propensity, size)
        return np.asarray((total / np.maximum(count, 1)).reshape(shape))


def open_bandit(folder: Path, *, seeds: Sequence[int] = range(5)) -> tuple[dict[str, Any], list[Target]]:
    """Estimate each policy's click rate from the other's log, once a seed of bootstrap and folds."""
    uniform, thompson = (Impressions.read(folder / name) for name in (UNIFORM, THOMPSON))
    shape = tuple(1 + max(int(a.max()), int(b.max())) for a, b in _pairs(uniform, thompson))
    cells = (shape[0], shape[1])
    even = np.full(cells, 1.0 / cells[1])
    forward = [_estimated(uniform, thompson.shares(cells), seed) for seed in seeds]
    backward = [_estimated(thompson, even, seed) for seed in seeds]
    means = thompson.mean_propensities(cells)
    figures = {
        "thompson_from_uniform": {
            "on_policy": _on_policy(thompson, seeds[0]),
            **_told(forward[0]),
            "both_logs_resampled": _both_resampled(uniform, thompson, cells, seeds[0]),
            "by_mean_propensity": _told(
                _estimated(uniform, means / means.sum(axis=1, keepdims=True), seeds[0])
            ),
            "mean_propensities_add_up_to": means.sum(axis=1).round(3).tolist(),
        },
        "uniform_from_thompson": {"on_policy": _on_policy(uniform, seeds[0]), **_told(backward[0])},
    }
    targets = []
    for name in Estimator:
        off = [_half_widths(found, name, float(thompson.log.reward.mean())) for found in forward]
        targets.append(_target(f"obd_{name}_half_widths_off", off, 1.0, Better.LOWER))
    share = [found.support.effective / found.support.rows for found in backward]
    targets.append(_target("obd_reverse_effective_share", share, 0.1, Better.LOWER))
    warned = [float(any("effective" in each for each in found.support.warnings)) for found in backward]
    targets.append(_target("obd_reverse_warns_of_it", warned, 1.0, Better.HIGHER))
    return figures, targets


def _pairs(one: Impressions, other: Impressions) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    return [(one.position, other.position), (one.item, other.item)]


def _estimated(logged: Impressions, chances: NDArray[np.float64], seed: int) -> OffPolicy:
    rng = np.random.default_rng(seed)
    policy = tabular_policy(logged.log, logged.position, logged.item, chances, rng=rng)
    return estimate(logged.log, policy, rng=rng, settings=Settings(resamples=RESAMPLES))


def _both_resampled(
    logged: Impressions, other: Impressions, shape: tuple[int, int], seed: int, *, resamples: int = 300
) -> dict[str, list[float]]:
    """Return 95 % intervals that also hold what is uncertain in the policy's probabilities."""
    rng = np.random.default_rng(seed)
    draws: dict[Estimator, list[float]] = {name: [] for name in Estimator}
    for _ in range(resamples):
        mine, theirs = (each.take(rng.integers(0, len(each.log), len(each.log))) for each in (logged, other))
        policy = tabular_policy(mine.log, mine.position, mine.item, theirs.shares(shape), rng=rng)
        weights, reward = importance_weights(policy.chance, mine.log.propensity), mine.log.reward
        draws[Estimator.IPS].append(ips(reward, weights))
        draws[Estimator.SNIPS].append(snips(reward, weights))
        if policy.predicted is not None and policy.expected is not None:
            draws[Estimator.DR].append(doubly_robust(reward, weights, policy.predicted, policy.expected))
    return {name: np.quantile(values, [0.025, 0.975]).tolist() for name, values in draws.items()}


def _half_widths(found: OffPolicy, name: Estimator, truth: float) -> float:
    """Return how far the truth is from the estimate, in widths of the interval on its side; 1: at its end."""
    value = found.estimates[name].value
    width = value.high - value.mean if truth > value.mean else value.mean - value.low
    return abs(truth - value.mean) / max(width, 1e-12)


def _on_policy(logged: Impressions, seed: int) -> dict[str, float]:
    reward = logged.log.reward
    own = interval_of(reward, rng=np.random.default_rng(seed), resamples=RESAMPLES)
    return {"clicks": float(reward.sum()), "rate": own.mean, "low": own.low, "high": own.high}


def _told(found: OffPolicy) -> dict[str, Any]:
    estimates = {
        str(name): {"rate": each.value.mean, "low": each.value.low, "high": each.value.high}
        for name, each in found.estimates.items()
    }
    support = found.support
    return {
        **estimates,
        "rows": support.rows,
        "effective": support.effective,
        "largest_weight": support.largest,
        "mean_weight": support.mean_weight,
        "warnings": list(support.warnings),
    }


def _target(name: str, measured: Sequence[float], bound: float, better: Better) -> Target:
    return Target(name, float(np.median(measured)), bound, better, min(measured), max(measured))
