"""Coat: inverse-propensity weights against the error on ratings that nobody chose to give.

Subjects chose themselves what they rated in the training half; in the test half chance did. A biased matrix
factorisation is fitted by alternating weighted least squares, with all weights 1 or with the inverse of the
propensity to be rated (Schnabel, Swaminathan, Singh, Chandak, Joachims 2016, "Recommendations as treatments",
eq. 11). Factors, penalty and clipping are chosen by cross-validation within the training half, where
each variant's error is weighted as its fit is: the weighted error estimates that on ratings given by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from benchmarks.report import Better, Target
from matchloop.errors import InvalidInput
from training_jobs.evaluate import paired_interval
from training_jobs.evaluate.off_policy import snips
from training_jobs.evaluate.support import importance_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FILES = ("train.ascii.gz", "test.ascii.gz", "propensities.ascii.gz")
LEAST, MOST = 1.0, 5.0
"""Ratings lie in this range, and so do predictions."""

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Ratings:
    """Ratings in columns, n: who, what, how much, and with which propensity it was rated at all."""

    subject: NDArray[np.int64]
    item: NDArray[np.int64]
    rating: NDArray[np.float64]
    propensity: NDArray[np.float64]

    def take(self, rows: NDArray[np.bool_]) -> Ratings:
        """Return the rows of a mask."""
        return Ratings(self.subject[rows], self.item[rows], self.rating[rows], self.propensity[rows])

    @classmethod
    def of(cls, ratings: NDArray[np.float64], propensity: NDArray[np.float64]) -> Ratings:
        """Read (subjects, items) arrays, where 0 is no rating."""
        subject, item = np.nonzero(ratings)
        return cls(subject, item, ratings[subject, item], propensity[subject, item])


@dataclass(frozen=True, slots=True)
class Setting:
    """How a factorisation is fitted; `clip` is the largest inverse propensity, None: no bound."""

    factors: int
    penalty: float
    clip: float | None = None


PLAIN = tuple(Setting(*each) for each in product((0, 2, 4, 8), (2.0, 4.0, 8.0, 16.0)))
WEIGHTED = tuple(Setting(*each) for each in product((0, 2, 4, 8), (2.0, 4.0, 8.0, 16.0), (30.0, None)))


@dataclass(frozen=True, slots=True)
class Factors:
    """Rating = mean + subject's bias + item's bias + product of factors; a row is 1, bias, factors."""

    mean: float
    subject: NDArray[np.float64]
    item: NDArray[np.float64]

    def predict(self, subject: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return predicted ratings, (n,) in [1, 5]."""
        one, other = self.subject[subject], self.item[item]
        found = self.mean + one[:, 1] + other[:, 1] + (one[:, 2:] * other[:, 2:]).sum(axis=1)
        return np.asarray(np.clip(found, LEAST, MOST))


def fit(
    ratings: Ratings,
    weights: NDArray[np.float64],
    setting: Setting,
    shape: tuple[int, int],
    *,
    rng: np.random.Generator,
    rounds: int = 15,
) -> Factors:
    """Minimise Σ w (rating − prediction)² + penalty × squared biases and factors, alternately.

    Parameters
    ----------
    weights
        (n,), brought to mean 1, so that the penalty means the same for all.
    """
    w = weights / weights.mean()
    sides = [
        np.hstack([np.ones((n, 1)), np.zeros((n, 1)), rng.normal(0.0, 0.1, (n, setting.factors))])
        for n in shape
    ]
    mean = float(np.average(ratings.rating, weights=w))
    rows = (ratings.subject, ratings.item)
    for _ in range(rounds):
        for mine, other in ((0, 1), (1, 0)):
            theirs = sides[other][rows[other]]  # (n, 2 + factors)
            inputs = np.delete(theirs, 1, axis=1)
            left = ratings.rating - mean - theirs[:, 1]
            sides[mine][:, 1:] = _solved(inputs, left, w, rows[mine], shape[mine], setting.penalty)
    return Factors(mean, *sides)


def _solved(
    inputs: NDArray[np.float64],
    wanted: NDArray[np.float64],
    weights: NDArray[np.float64],
    row: NDArray[np.int64],
    count: int,
    penalty: float,
) -> NDArray[np.float64]:
    """Return each row's ridge regression of its own ratings, (count, c) for (n, c) inputs."""
    n, c = inputs.shape
    own = sparse.csr_matrix((weights, (row, np.arange(n))), shape=(count, n))
    gram = (own @ (inputs[:, :, None] * inputs[:, None, :]).reshape(n, -1)).reshape(count, c, c)
    right = own @ (inputs * wanted[:, None])
    return np.asarray(np.linalg.solve(gram + penalty * np.eye(c), right[:, :, None])[:, :, 0])


def read(folder: Path) -> tuple[Ratings, Ratings, tuple[int, int]]:
    """Read training and test half.

    Raises
    ------
    InvalidInput
        If the files do not belong together.
    """
    train, test, propensity = (np.loadtxt(folder / name, ndmin=2) for name in FILES)
    if not train.shape == test.shape == propensity.shape:
        raise InvalidInput(f"{folder}: shapes {train.shape}, {test.shape} and {propensity.shape} differ")
    return Ratings.of(train, propensity), Ratings.of(test, propensity), (train.shape[0], train.shape[1])


def coat(
    folder: Path,
    *,
    seeds: Sequence[int] = range(5),
    plain: Sequence[Setting] = PLAIN,
    weighted: Sequence[Setting] = WEIGHTED,
) -> tuple[dict[str, Any], list[Target]]:
    """Compare both variants on the test half, once a seed of folds and first factors."""
    train, test, shape = read(folder)
    runs = []
    errors: list[list[NDArray[np.float64]]] = [[], []]
    for seed in seeds:
        run: dict[str, Any] = {"seed": seed}
        for at, (name, settings) in enumerate((("unweighted", plain), ("weighted", weighted))):
            chosen, validation = _chosen(train, settings, shape, inverse=bool(at), seed=seed)
            squared = _errors(train, test, chosen, shape, inverse=bool(at), seed=seed)
            errors[at].append(squared)
            run[name] = {
                "setting": f"{chosen}", "validation": validation, "test_mse": float(squared.mean()),
            }  # fmt: skip
        run["drop"] = run["unweighted"]["test_mse"] - run["weighted"]["test_mse"]
        runs.append(run)
    drops = [run["drop"] for run in runs]
    both = [np.bincount(test.subject, np.mean(each, axis=0)) / np.bincount(test.subject) for each in errors]
    told = paired_interval(both[0], both[1], rng=np.random.default_rng(seeds[0]), resamples=2000)
    figures = {
        "runs": runs,
        "unweighted_mse": float(np.median([run["unweighted"]["test_mse"] for run in runs])),
        "weighted_mse": float(np.median([run["weighted"]["test_mse"] for run in runs])),
        "drop_over_subjects": {"mean": told.mean, "low": told.low, "high": told.high},
    }
    return figures, [
        Target("coat_mse_drop", float(np.median(drops)), 0.1, Better.HIGHER, min(drops), max(drops))
    ]


def _weights(ratings: Ratings, setting: Setting, *, inverse: bool) -> NDArray[np.float64]:
    if not inverse:
        return np.ones(len(ratings.rating))
    return importance_weights(np.ones(len(ratings.rating)), ratings.propensity, clip=setting.clip)


def _errors(
    learn: Ratings, asked: Ratings, setting: Setting, shape: tuple[int, int], *, inverse: bool, seed: int
) -> NDArray[np.float64]:
    """Return each squared error on the ratings asked, (n,)."""
    rng = np.random.default_rng(seed)
    found = fit(learn, _weights(learn, setting, inverse=inverse), setting, shape, rng=rng)
    return np.asarray((found.predict(asked.subject, asked.item) - asked.rating) ** 2)


def _chosen(
    train: Ratings, settings: Sequence[Setting], shape: tuple[int, int], *, inverse: bool, seed: int
) -> tuple[Setting, float]:
    """Return the setting with the least cross-validated error, and the error.

    The weighted variant's is weighted by the whole inverse propensities, self-normalised, for every setting.
    """
    fold = np.random.default_rng(seed).permutation(len(train.rating)) % FOLDS
    weights = _weights(train, Setting(0, 1.0), inverse=inverse)
    found = []
    for setting in settings:
        squared = np.zeros(len(fold))
        for number in range(FOLDS):
            out = fold == number
            learn, asked = train.take(~out), train.take(out)
            squared[out] = _errors(learn, asked, setting, shape, inverse=inverse, seed=seed)
        found.append(snips(squared, weights))
    best = int(np.argmin(found))
    return settings[best], found[best]
