"""Orders of the same candidates, judged by the hidden preference that only the market knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import lightgbm
import numpy as np

from matchloop.position import examination
from matchloop.rerank.placement import place
from matchloop.rerank.scorer import RuleScorer
from matchloop.usecase import Method
from training_jobs.datasets.ranker import split_by_time
from training_jobs.evaluate.bootstrap import Interval, interval_of, paired_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from matchloop.rerank.calibration import Platt
    from matchloop.rerank.features import FeatureColumns
    from matchloop.rerank.placement import CandidateList
    from matchloop.rerank.scorer import ByDiversity, Scorer
    from matchloop.usecase import UseCase
    from training_jobs.datasets import RankerDataset

K = 10
RESAMPLES = 2000
MLP, RULE, RETRIEVAL, LAMBDAMART, RANDOM = "mlp", "rule", "retrieval", "lambdamart", "random"


class LambdaMart:
    """LightGBM's LambdaMART as a scorer, on the features that the network sees (Burges 2010).

    Parameters
    ----------
    calibration
        That of the data set it was trained on.
    """

    learned = True

    def __init__(
        self, booster: lightgbm.Booster, columns: FeatureColumns, calibration: Mapping[Method, Platt]
    ) -> None:
        self._booster, self._diversity = booster, columns.diversity
        self.calibration = calibration

    @classmethod
    def train(
        cls,
        dataset: RankerDataset,
        columns: FeatureColumns,
        calibration: Mapping[Method, Platt],
        *,
        validation_share: float,
        seed: int,
    ) -> LambdaMart:
        """Train on the earlier lists, with the exposure weights; the latest say when to stop."""
        training, validation = (_data(part) for part in split_by_time(dataset, validation_share))
        settings = {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [K],
            "learning_rate": 0.05,
            "num_leaves": 15,
            "min_data_in_leaf": 30,
            "num_threads": 1,
            "verbose": -1,
            "seed": seed,
            "deterministic": True,
        }
        stop = lightgbm.early_stopping(30, verbose=False)
        booster = lightgbm.train(settings, training, 300, valid_sets=[validation], callbacks=[stop])
        return cls(booster, columns, calibration)

    def by_diversity(self, features: NDArray[np.float32]) -> ByDiversity:
        """See `Scorer`."""
        rows = features.copy()

        def raw(diversity: NDArray[np.float32]) -> NDArray[np.float32]:
            rows[:, self._diversity] = diversity
            return np.asarray(self._booster.predict(rows), dtype=np.float32)

        return raw

    def final(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `raw` as it is."""
        return raw


def _data(dataset: RankerDataset) -> lightgbm.Dataset:
    sizes = np.unique(dataset.group, return_counts=True)[1]
    return lightgbm.Dataset(
        dataset.features, dataset.label, group=sizes, weight=dataset.exposure_weight, free_raw_data=False
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """One order of n lists: NDCG@10 on the hidden preference, expected clicks an item shown, (n,) each."""

    ndcg: NDArray[np.float64]
    clicks: NDArray[np.float64]

    @classmethod
    def pooled(cls, parts: Sequence[Judged]) -> Judged:
        """Put the lists of several together."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("ndcg", "clicks")))


def judge(
    orders: Sequence[NDArray[np.int64]], preferences: Sequence[NDArray[np.float32]], k: int = K
) -> Judged:
    """Judge orders of candidates.

    The ideal list is the best `k` of the candidates, so retrieval's share of the loss counts for nobody. What
    is expected to be clicked is examination × preference: the click model's own probability, without its
    chance.

    Parameters
    ----------
    orders
        By list: positions of candidates, best first.
    preferences
        By list: of each candidate, in [0, 1].
    """
    ndcg, clicks = [], []
    for order, preference in zip(orders, preferences, strict=True):
        gains = preference[order[:k]].astype(np.float64)
        seen = examination(np.arange(1, len(gains) + 1))
        best = np.sort(preference)[::-1][: len(gains)].astype(np.float64)
        ndcg.append(float(gains @ seen) / max(float(best @ seen), 1e-12))
        clicks.append(float(gains @ seen) / max(len(gains), 1))
    return Judged(np.array(ndcg), np.array(clicks))


def all_orders(
    candidates: Sequence[CandidateList],
    columns: FeatureColumns,
    use_case: UseCase,
    learned: Mapping[str, Scorer],
    rng: np.random.Generator,
) -> dict[str, list[NDArray[np.int64]]]:
    """Return every order of the candidates, by name."""
    scorers = {**learned, RULE: RuleScorer(use_case)}
    found = {
        name: [place(each, columns, scorer, limit=K).order for each in candidates]
        for name, scorer in scorers.items()
    }
    found[RETRIEVAL] = [np.arange(len(each.items)) for each in candidates]
    found[RANDOM] = [rng.permutation(len(each.items)) for each in candidates]
    return found


def rankable(candidates: CandidateList) -> bool:
    """Tell whether a list is ranked at all: what `popular` alone found keeps its order."""
    return any(method is not Method.POPULAR for method in candidates.methods)


def lift(one: Judged, other: Judged, rng: np.random.Generator) -> Interval:
    """Return by how much `one` is clicked more than `other`, as a share, with its interval over subjects."""
    n = len(one.clicks)
    drawn = rng.integers(0, n, (RESAMPLES, n))
    ratios = one.clicks[drawn].sum(axis=1) / other.clicks[drawn].sum(axis=1) - 1.0
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Interval(float(one.clicks.sum() / other.clicks.sum() - 1.0), float(low), float(high))


def compared(judged: Mapping[str, Judged], rng: np.random.Generator) -> dict[str, dict[str, Interval]]:
    """Return each order's NDCG, its lift over retrieval, and the MLP's NDCG over it, with intervals."""
    mlp = judged[MLP].ndcg
    return {
        name: {
            "ndcg": interval_of(each.ndcg, rng=rng, resamples=RESAMPLES),
            "clicks": interval_of(each.clicks, rng=rng, resamples=RESAMPLES),
            "lift_over_retrieval": lift(each, judged[RETRIEVAL], rng),
            "mlp_over": paired_interval(mlp, each.ndcg, rng=rng, resamples=RESAMPLES),
        }
        for name, each in judged.items()
    }
