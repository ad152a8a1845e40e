"""The ranker: a small network that adjusts the teacher's logit, learned from what was shown.

Within a list each positive is compared with each negative: log(1 + exp(−(s₊ − s₋))), weighted by what both
are worth as evidence (RankNet, Burges et al. 2005; `evidence_weight`). The score is logit(original_score) +
network(features), so that the network starts from the retrieval's order. Explicit dislikes count on their own
as well, each once an epoch: they often stand in lists that hold no positive, and are compared with positives
of other lists.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from matchloop.errors import TooFewExamples
from matchloop.rerank.calibration import (
    DEFAULT_PLATT,
    SCORE_FLOOR,
    Platt,
    evidence,
    fit_platt,
    logit,
    sigmoid,
)
from matchloop.rerank.scorer import ONNX_FILE, RankerSpec
from matchloop.usecase import Method
from training_jobs.datasets.ranker import split_by_time
from training_jobs.evaluate.metrics import metrics_at
from training_jobs.recipes.device import device_of
from training_jobs.recipes.progress import progress_bar
from training_jobs.recipes.ranker_network import RankerNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import Console

    from matchloop.usecase import UseCase
    from training_jobs.config import RankerConfig
    from training_jobs.datasets import RankerDataset

DISLIKE_WEIGHT = 0.8
"""Weight of an explicit dislike as an example of its own, before decay."""
DISLIKE_HALF_LIFE_DAYS = 90.0


@dataclass(frozen=True, slots=True)
class RankerResult:
    """The trained ranker as an ONNX file, its calibration, and what it reached on the latest lists."""

    network: bytes
    calibration: dict[Method, Platt]
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)

    def write(self, folder: Path, use_case: UseCase) -> None:
        """Write ``ranker.onnx`` and ``ranker.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ONNX_FILE).write_bytes(self.network)
        RankerSpec(
            use_case=use_case.id,
            features=use_case.ranking.features,
            fingerprint=use_case.schema_fingerprint,
            calibration=self.calibration,
        ).write(folder)


def train_ranker(
    dataset: RankerDataset,
    config: RankerConfig,
    *,
    validation_share: float,
    seed: int,
    calibration: Mapping[Method, Platt],
    console: Console | None = None,
    watch: Callable[[int, float], None] | None = None,
) -> RankerResult:
    """Train on the earlier lists, measure on the latest.

    Parameters
    ----------
    calibration
        The calibration that the data set's `original_score` has; goes into the release.
    watch
        Told each epoch, from 1, and the best NDCG@10 so far; may raise to end the training.

    Raises
    ------
    TooFewExamples
        When there are fewer than `config.least_positives` strong positives in all, or no pair to compare.
    """
    dataset.require(config.least_positives)
    device = device_of(config.device)
    torch.set_num_threads(config.threads)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    training, validation = split_by_time(dataset, validation_share)
    positive, negative = comparisons(training)
    if len(positive) == 0:
        raise TooFewExamples(
            f"ranker: no list of {len(np.unique(training.group))} has both a positive and a negative"
        )
    network = RankerNetwork(training.features, training.feature_names, config).to(device)
    pairs = _Pairs(training, network, positive, negative)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    curves: dict[str, list[float]] = {"ranker_loss": [], "ranker_validation": []}
    best: tuple[float, dict[str, Tensor]] = (-math.inf, {})
    with progress_bar("ranker", config.epochs, console) as bar:
        for epoch in range(config.epochs):
            network.train()
            total = 0.0
            for rows, down_rows in pairs.batches(config.batch, rng):
                loss = pairs.loss(network, rows, down_rows, rng)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                total += float(loss.detach()) * len(rows)
            curves["ranker_loss"].append(total / len(positive))
            quality = list_ndcg(
                validation, logit(validation.original_score) + network.adjust(validation.features)
            )
            curves["ranker_validation"].append(quality)
            if quality >= best[0]:
                best = (quality, {n: v.detach().clone() for n, v in network.state_dict().items()})
            bar.advance(f"loss {curves['ranker_loss'][-1]:.3f} ndcg {quality:.4f}")
            if watch is not None:
                watch(epoch + 1, best[0])
    network.load_state_dict(best[1])
    return RankerResult(
        network=network.cpu().to_onnx(),
        calibration=dict(calibration),
        metrics={
            "ranker_ndcg@10": best[0],
            "teacher_ndcg@10": list_ndcg(validation, validation.original_score),
            "served_ndcg@10": list_ndcg(validation, validation.recommendation_score),
            "ranker_positives": float(dataset.positives),
            "ranker_validation_lists": float(len(np.unique(validation.group))),
        },
        curves=curves,
    )


class _Pairs:
    """A training part's comparisons as tensors, and the loss of some of them."""

    def __init__(
        self,
        training: RankerDataset,
        network: RankerNetwork,
        positive: NDArray[np.int64],
        negative: NDArray[np.int64],
    ) -> None:
        device = network.mean.device
        self._features = network.scaled(torch.from_numpy(training.features).to(device))
        self._teacher = torch.from_numpy(logit(training.original_score)).to(device)
        self._up, self._down = positive, negative
        weight = evidence_weight(training)
        self._weight = torch.from_numpy(weight[positive] * weight[negative]).to(device)
        dislike = _dislike_weights(training)
        self._dislike, self._disliked = torch.from_numpy(dislike).to(device), np.flatnonzero(dislike)
        self._wanted = np.flatnonzero(training.label > 0.5)

    def batches(
        self, size: int, rng: np.random.Generator
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield an epoch: numbers of pairs, `size` at a time, and with them rows of explicit dislikes."""
        order = rng.permutation(len(self._up))
        starts = range(0, len(order), size)
        rejected = np.array_split(rng.permutation(self._disliked), len(starts))
        for start, rows in zip(starts, rejected, strict=True):
            yield order[start : start + size], rows

    def loss(
        self,
        network: RankerNetwork,
        rows: NDArray[np.int64],
        disliked: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> Tensor:
        """Return the loss of pairs, and of dislikes that are each compared with some positive."""
        pairs, alone = len(rows), len(disliked)
        any_up = rng.choice(self._wanted, alone) if alone else disliked
        at = torch.from_numpy(np.concatenate([self._up[rows], any_up, self._down[rows], disliked]))
        # One pass through the network for all of them: at this size a call costs more than its work.
        scores = self._teacher[at] + network(self._features[at])
        lead = scores[: pairs + alone] - scores[pairs + alone :]
        losses = nn.functional.softplus(-lead)
        weight = self._weight[torch.from_numpy(rows)]
        loss = (losses[:pairs] * weight).sum() / weight.sum()
        if alone:
            pressed = (losses[pairs:] * self._dislike[torch.from_numpy(disliked)]).sum()
            loss = loss + pressed / max(pairs, alone)
        return loss


def comparisons(dataset: RankerDataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of every positive and negative that stood in one list, pair by pair."""
    up = np.flatnonzero(dataset.label > 0.5)
    down = np.flatnonzero(dataset.label <= 0.5)
    down_group = dataset.group[down]  # sorted, since the data set is
    start = np.searchsorted(down_group, dataset.group[up], side="left")
    count = np.searchsorted(down_group, dataset.group[up], side="right") - start
    positive = np.repeat(up, count)
    within = np.arange(len(positive)) - np.repeat(np.cumsum(count) - count, count)
    return positive, down[np.repeat(start, count) + within]


def evidence_weight(dataset: RankerDataset) -> NDArray[np.float32]:
    """Return what each example counts for in a comparison, (n,): its exposure weight, if it may be unseen.

    What was reacted to was looked at, whatever its rank: it counts 1 at least, and deep positives are rarer
    already for being looked at less. What nobody reacted to may never have been reached, and the exposure
    weight says how far to believe that it was. With the discount a pair of ranks says as much one way round
    as the other, where lists hold so many positives that all the rest are their negatives as well.
    """
    unsure = dataset.source == "hard"
    return np.where(unsure, dataset.exposure_weight, np.maximum(dataset.exposure_weight, np.float32(1.0)))


def list_ndcg(dataset: RankerDataset, scores: NDArray[np.float32], k: int = 10) -> float:
    """Return the mean NDCG@k of the lists that hold a positive, ordered by `scores`; 0 without such lists."""
    found = each_list_ndcg(dataset, scores, k)
    return float(found.mean()) if len(found) else 0.0


def each_list_ndcg(dataset: RankerDataset, scores: NDArray[np.float32], k: int = 10) -> NDArray[np.float64]:
    """Return the NDCG@k of each list that holds a positive, in order of serving."""
    if len(dataset) == 0:
        return np.zeros(0)
    order = np.lexsort((dataset.rank, -scores, dataset.group))
    _, place, size = np.unique(dataset.group[order], return_index=True, return_counts=True)
    row = np.repeat(np.arange(len(size)), size)
    column = np.arange(len(order)) - np.repeat(place, size)
    hits = np.zeros((len(size), max(k, int(size.max()))), dtype=np.bool_)
    hits[row, column] = dataset.label[order] > 0.5
    relevant = hits.sum(axis=1)
    has = relevant > 0
    return metrics_at(hits[has], relevant[has], k)[f"ndcg@{k}"]


def recalibrated(
    dataset: RankerDataset, served: Mapping[Method, Platt], *, least_positives: int
) -> tuple[RankerDataset, dict[Method, Platt]]:
    """Fit the calibration of retrieval scores by method to what came of them.

    To the method's own scores, as they were logged, a calibration is fitted (Platt 1999), and the data set's
    teacher follows, in the feature column too: the ranker is then trained on what it will see. Where only
    `original_score` was logged, it is turned back with the calibration it was served under.

    Parameters
    ----------
    served
        Calibration of the release that served these lists; a method without has `DEFAULT_PLATT`'s.
    least_positives
        A method with fewer keeps the calibration it was served under.

    Returns
    -------
    The data set with the new `original_score`, and the calibration by method.
    """
    original = dataset.original_score.astype(np.float64).copy()
    fitted: dict[Method, Platt] = {}
    for name in sorted(set(dataset.method.tolist())):
        method = Method(name)
        rows = dataset.method == name
        old = served.get(method) or DEFAULT_PLATT[method]
        new = old
        raw = _evidence(dataset, rows, method, old)
        if dataset.label[rows].sum() >= least_positives:
            stretch = _fit(raw, dataset.label[rows], dataset.exposure_weight[rows])
            new = stretch or old
        fitted[method] = new
        original[rows] = sigmoid((new.slope * raw + new.intercept).astype(np.float32))
    original_score = np.clip(original, SCORE_FLOOR, 1.0 - SCORE_FLOOR).astype(np.float32)
    features = dataset.features.copy()
    features[:, dataset.feature_names.index("original_score")] = original_score
    return replace(dataset, original_score=original_score, features=features), fitted


def _evidence(
    dataset: RankerDataset, rows: NDArray[np.bool_], method: Method, served: Platt
) -> NDArray[np.float64]:
    """Return what the method's calibration applies to."""
    logged = dataset.retrieval_score[rows]
    turned = (logit(dataset.original_score[rows]).astype(np.float64) - served.intercept) / served.slope
    return np.where(np.isfinite(logged), evidence(method, logged), turned).astype(np.float64)


def _fit(raw: NDArray[np.float64], label: NDArray[np.float32], weight: NDArray[np.float32]) -> Platt | None:
    """Fit on the evidence itself: a method whose evidence is its score, so that nothing is applied twice."""
    return fit_platt(Method.ALS, raw, label, weight)


def _dislike_weights(dataset: RankerDataset) -> NDArray[np.float32]:
    """Return 0.8 × decay for explicit dislikes, 0 for all else."""
    age = (dataset.serve_time.max() - dataset.serve_time) / np.timedelta64(1, "D")
    decay = 0.5 ** (age.astype(np.float64) / DISLIKE_HALF_LIFE_DAYS)
    return np.where(dataset.source == "disliked", DISLIKE_WEIGHT * decay, 0.0).astype(np.float32)
