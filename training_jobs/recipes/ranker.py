"""The ranker: a small network that adjusts the teacher's logit, learned from what was shown.

Within a list each positive is compared with each negative: log(1 + exp(−(s₊ − s₋))), weighted by the exposure
weights of both (RankNet, Burges et al. 2005). The score is logit(original_score) + network(features), so that
the network starts from the retrieval's order. Explicit dislikes count on their own as well, each once an
epoch: they often stand in lists that hold no positive, and are compared with positives of other lists.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from matchloop.errors import TooFewExamples
from matchloop.rerank.calibration import (
    DEFAULT_PLATT,
    SCORE_FLOOR,
    Platt,
    fit_platt,
    logit,
    sigmoid,
)
from matchloop.rerank.scorer import ONNX_FILE, ONNX_INPUT, ONNX_OUTPUT, RankerSpec
from matchloop.usecase import Method
from training_jobs.datasets.ranker import split_by_time
from training_jobs.evaluate.metrics import metrics_at
from training_jobs.recipes.onnx_graph import feed_forward
from training_jobs.recipes.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Mapping
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
) -> RankerResult:
    """Train on the earlier lists, measure on the latest.

    Parameters
    ----------
    calibration
        The calibration that the data set's `original_score` has; goes into the release.

    Raises
    ------
    TooFewExamples
        When there are fewer than `config.least_positives` strong positives in all, or no pair to compare.
    """
    dataset.require(config.least_positives)
    torch.set_num_threads(config.threads)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    training, validation = split_by_time(dataset, validation_share)
    positive, negative = comparisons(training)
    if len(positive) == 0:
        raise TooFewExamples(
            f"ranker: no list of {len(np.unique(training.group))} has both a positive and a negative"
        )
    features = torch.from_numpy(training.features)
    teacher = torch.from_numpy(logit(training.original_score))
    weight = torch.from_numpy(training.exposure_weight)
    dislike, wanted = _dislike_weights(training), np.flatnonzero(training.label > 0.5)
    network = RankerNetwork(training.features, config)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    curves: dict[str, list[float]] = {"ranker_loss": [], "ranker_validation": []}
    best: tuple[float, dict[str, Tensor]] = (-math.inf, {})
    with progress_bar("ranker", config.epochs, console) as bar:
        for _ in range(config.epochs):
            network.train()
            total = 0.0
            batches = _batches(len(positive), config.batch, rng)
            rejected = np.array_split(rng.permutation(np.flatnonzero(dislike)), len(batches))
            for rows, down_rows in zip(batches, rejected, strict=True):
                up, down = torch.from_numpy(positive[rows]), torch.from_numpy(negative[rows])
                high = teacher[up] + network(features[up])
                low = teacher[down] + network(features[down])
                pair_weight = weight[up] * weight[down]
                loss = (nn.functional.softplus(low - high) * pair_weight).sum() / pair_weight.sum()
                if len(down_rows):
                    alone = torch.from_numpy(down_rows)
                    any_up = torch.from_numpy(rng.choice(wanted, len(down_rows)))
                    over = teacher[alone] + network(features[alone])
                    over = over - teacher[any_up] - network(features[any_up])
                    pressed = (nn.functional.softplus(over) * torch.from_numpy(dislike[down_rows])).sum()
                    loss = loss + pressed / max(len(rows), len(down_rows))
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
    network.load_state_dict(best[1])
    return RankerResult(
        network=network.to_onnx(),
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


class RankerNetwork(nn.Module):
    """features → 32 → ReLU → dropout → 16 → ReLU → 1, on features scaled to mean 0 and deviation 1.

    The last layer starts at zero, so that the untrained network leaves the teacher's order as it is.
    """

    def __init__(self, features: NDArray[np.float32], config: RankerConfig) -> None:
        super().__init__()
        deviation = features.std(axis=0)
        self.mean = nn.Buffer(torch.from_numpy(features.mean(axis=0)))
        self.deviation = nn.Buffer(torch.from_numpy(np.where(deviation > 1e-6, deviation, 1.0)))
        widths = [features.shape[1], *config.hidden, 1]
        self.layers = nn.ModuleList(nn.Linear(into, out) for into, out in pairwise(widths))
        self.dropout = config.dropout
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Return the adjustment in logits: (n, F) to (n,)."""
        rows = (features - self.mean) / self.deviation
        for number, layer in enumerate(self.layers[:-1]):
            rows = torch.relu(layer(rows))
            if number == 0:
                rows = nn.functional.dropout(rows, self.dropout, self.training)
        return self.layers[-1](rows)[:, 0]  # type: ignore[no-any-return]

    @torch.no_grad()
    def adjust(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the adjustment without dropout."""
        self.eval()
        return np.asarray(self(torch.from_numpy(features)).numpy(), dtype=np.float32)

    def to_onnx(self) -> bytes:
        """Return the network as an ONNX file; the scaling is folded into the first layer."""
        layers = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in self.layers]  # type: ignore[operator]
        mean, deviation = self.mean.numpy(), self.deviation.numpy()
        first = layers[0][0] / deviation
        layers[0] = (first, layers[0][1] - first @ mean)
        return feed_forward(layers, input_name=ONNX_INPUT, output_name=ONNX_OUTPUT)


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

    The logged `original_score` is turned back into the method's own score with the calibration it was served
    under, a new one is fitted (Platt 1999), and the data set's teacher follows, in the feature column too:
    the ranker is then trained on what it will see.

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
        raw = (logit(dataset.original_score[rows]).astype(np.float64) - old.intercept) / old.slope
        if dataset.label[rows].sum() >= least_positives:
            stretch = _fit(raw, dataset.label[rows], dataset.exposure_weight[rows])
            new = stretch or old
        fitted[method] = new
        original[rows] = sigmoid((new.slope * raw + new.intercept).astype(np.float32))
    original_score = np.clip(original, SCORE_FLOOR, 1.0 - SCORE_FLOOR).astype(np.float32)
    features = dataset.features.copy()
    features[:, dataset.feature_names.index("original_score")] = original_score
    return replace(dataset, original_score=original_score, features=features), fitted


def _fit(raw: NDArray[np.float64], label: NDArray[np.float32], weight: NDArray[np.float32]) -> Platt | None:
    """Fit on the evidence itself: a method whose evidence is its score, so that nothing is applied twice."""
    return fit_platt(Method.ALS, raw, label, weight)


def _dislike_weights(dataset: RankerDataset) -> NDArray[np.float32]:
    """Return 0.8 × decay for explicit dislikes, 0 for all else."""
    age = (dataset.serve_time.max() - dataset.serve_time) / np.timedelta64(1, "D")
    decay = 0.5 ** (age.astype(np.float64) / DISLIKE_HALF_LIFE_DAYS)
    return np.where(dataset.source == "disliked", DISLIKE_WEIGHT * decay, 0.0).astype(np.float32)


def _batches(count: int, size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    order = rng.permutation(count)
    return [order[at : at + size] for at in range(0, count, size)]
