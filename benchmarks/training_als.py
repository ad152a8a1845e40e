"""`als_vs_bare`: how much time the ALS recipe takes over `implicit` alone.

Both train the same factors from the same matrix; the recipe also measures its loss after each iteration,
keeps checkpoints on disk, shows its progress, and makes the model that is released. They take turns, which
of them begins too, so that what else the machine does falls on both; the figure is the median of the turns'
ratios. On a machine that does much else, look at the ratio of processor seconds, which is reported beside it.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.report import Better, Target
from training_jobs.config import AlsConfig, AlsTrial
from training_jobs.datasets import AlsMatrix, DatasetManifest
from training_jobs.recipes.als import train_als

if TYPE_CHECKING:
    from collections.abc import Callable

BOUND = 1.15
SEED = 1

console = Console()


@dataclass(frozen=True, slots=True)
class AlsTimes:
    """Seconds of each turn, by the clock and of all processors."""

    recipe: list[tuple[float, float]]
    bare: list[tuple[float, float]]

    def ratios(self, which: int) -> list[float]:
        """Return the recipe's seconds over the bare ones by turn: 0 by the clock, 1 of processors."""
        return [own[which] / bare[which] for own, bare in zip(self.recipe, self.bare, strict=True)]

    @property
    def target(self) -> Target:
        """``als_vs_bare``."""
        ratios = self.ratios(0)
        return Target("als_vs_bare", median(ratios), BOUND, Better.LOWER, min(ratios), max(ratios))

    @property
    def figures(self) -> dict[str, Any]:
        """What the report says of it."""
        return {
            "als_recipe_s": [own for own, _ in self.recipe],
            "als_bare_s": [own for own, _ in self.bare],
            "processor_ratios": [round(ratio, 3) for ratio in self.ratios(1)],
        }


def als_matrix_of(subjects: int, items: int, pairs: int) -> AlsMatrix:
    """Return a matrix of about so many pairs whose items' popularity falls with 1 / (rank + 20)."""
    rng = np.random.default_rng(SEED)
    chance = 1.0 / (np.arange(items) + 20.0)
    drawn = rng.choice(items, pairs, p=chance / chance.sum()).astype(np.int32)
    who = rng.integers(0, subjects, pairs, dtype=np.int32)
    strength = rng.choice([0.5, 1.0, 2.0, 3.5], pairs).astype(np.float32)
    weights = sparse.csr_matrix((strength, (who, drawn)), shape=(subjects, items))
    weights.sum_duplicates()
    ages = rng.uniform(0.0, 365.0, weights.nnz).astype(np.float32)
    manifest = DatasetManifest(
        name="als",
        use_case="drawn",
        snapshot="drawn",
        rows=weights.nnz,
        labels={},
        sources={},
        first_time=None,
        last_time=None,
        sha256="",
    )
    ids = ([f"subject-{row}" for row in range(subjects)], [f"item-{row}" for row in range(items)])
    return AlsMatrix(weights, ages, *ids, manifest)


def measure_als(matrix: AlsMatrix, config: AlsConfig, *, turns: int) -> AlsTimes:
    """Train by turns and time both; checks that the factors are the same."""
    times = AlsTimes([], [])
    alpha = config.trials[0].alpha / float(matrix.weights.data.mean())
    factors = []

    def recipe() -> None:
        with tempfile.TemporaryDirectory(prefix="als-") as folder:
            found = train_als(matrix, config, seed=SEED, checkpoints=Path(folder), console=console)
            factors.append(found.model.item_factors)

    def bare() -> None:
        factors.append(train_bare(matrix, config, alpha))

    for turn in range(turns):
        order = ((recipe, times.recipe), (bare, times.bare))
        for train, seconds in order if turn % 2 == 0 else reversed(order):
            seconds.append(_timed(train))
    for other in factors[1:]:
        np.testing.assert_allclose(factors[0], other, atol=1e-4)
    return times


def train_bare(matrix: AlsMatrix, config: AlsConfig, alpha: float) -> Any:
    """Train by `implicit` alone and return the item factors."""
    from implicit.als import AlternatingLeastSquares

    with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):
        warnings.simplefilter("ignore")
        als = AlternatingLeastSquares(
            factors=config.factors,
            regularization=config.trials[0].regularization,
            alpha=alpha,
            iterations=config.iterations,
            num_threads=config.threads,
            random_state=SEED,
            use_gpu=False,
        )
        als.fit(matrix.weights, show_progress=False)
    return np.asarray(als.item_factors)


def _timed(train: Callable[[], None]) -> tuple[float, float]:
    begin, used = time.perf_counter(), time.process_time()
    train()
    return time.perf_counter() - begin, time.process_time() - used


def als_vs_bare(
    *,
    subjects: int = 40_000,
    items: int = 20_000,
    pairs: int = 1_000_000,
    turns: int = 5,
    threads: int = 2,
    say: Callable[[str], object] = print,
) -> tuple[dict[str, Any], Target]:
    """Measure; returns the figures and the target, the median over the turns."""
    trial = AlsTrial(regularization=10.0, alpha=10.0)
    config = AlsConfig(factors=128, iterations=10, trials=(trial,), threads=threads)
    matrix = als_matrix_of(subjects, items, pairs)
    say(f"als: {subjects:,} subjects, {items:,} items, {matrix.weights.nnz:,} pairs, {threads} threads")
    times = measure_als(matrix, config, turns=turns)
    shape = {"subjects": subjects, "items": items, "pairs": int(matrix.weights.nnz), "threads": threads}
    own, bare = (median(seconds for seconds, _ in side) for side in (times.recipe, times.bare))
    say(f"als: {own:.1f} s, bare {bare:.1f} s; by processor seconds {median(times.ratios(1)):.2f} of bare")
    return {**shape, **times.figures}, times.target
