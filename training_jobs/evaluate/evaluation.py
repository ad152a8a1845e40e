"""All methods measured on one truth: by part, with intervals, and what their lists do to the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from training_jobs.evaluate.bootstrap import Interval, intervals_of
from training_jobs.evaluate.metrics import (
    coverage,
    diversity_fields,
    exposure,
    gini,
    list_diversity,
    lorenz,
    novelty,
    self_information,
)
from training_jobs.evaluate.tiers import parts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from matchloop.entities import Entity
    from matchloop.usecase import UseCase
    from training_jobs.evaluate.ranking import Truth

ROUTED = "routed"
LISTS = ("novelty", "diversity")
"""What is measured on each list beside `METRICS`; it has an interval too."""

WHOLE = ("coverage", "gini")
"""What is measured on all lists together; resampling subjects would bias it: low and high are the value."""

Tops = Mapping[str, "NDArray[np.int64]"]
"""By method: each subject's items, rows, best first, −1 for none; (n, any)."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the truth.

    Parameters
    ----------
    subjects, pairs
        How many.
    methods
        By method and metric, e.g. ``ndcg@10``, ``novelty@10``.
    behind
        By other method: NDCG@k of ``routed`` less the method's, paired by subject.
    """

    subjects: int
    pairs: int
    methods: dict[str, dict[str, Interval]]
    behind: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured.

    Parameters
    ----------
    k
        Cut-off of the tables.
    items
        Size of the catalogue.
    parts
        ``all`` first, then those of `parts_of` that have subjects.
    ndcg
        By method, NDCG at each of `cuts`, of all subjects.
    lorenz
        By method, the Lorenz curve of exposure over the catalogue.
    """

    use_case: str
    release: str
    k: int
    items: int
    parts: dict[str, Part]
    cuts: tuple[int, ...]
    ndcg: dict[str, list[Interval]]
    lorenz: dict[str, list[float]]
    notes: list[str] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        """The methods, in order."""
        return list(self.ndcg)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Settings:
    """Cut-offs and the bootstrap: `k` for tables, `cuts` for NDCG by cut-off, `resamples` of subjects."""

    k: int
    cuts: Sequence[int]
    resamples: int


def evaluate_tops(
    tops: Tops,
    truth: Truth,
    *,
    use_case: UseCase,
    release: str,
    items: Sequence[Entity],
    known: tuple[NDArray[np.int64], NDArray[np.int64]],
    settings: Settings,
    rng: np.random.Generator,
) -> Evaluation:
    """Measure every method.

    Parameters
    ----------
    tops
        Lists of the truth's subjects, as long as the largest cut-off where the catalogue allows.
    known
        Rows of subject and item of each event in training: they say what is novel, and who is new.
    """
    k = settings.k
    pairs = np.unique(np.stack(known), axis=1)
    reacted = np.bincount(pairs[1], minlength=len(items))
    information = self_information(reacted, len(np.unique(pairs[0])))
    fields = diversity_fields(use_case, items)
    lists = {
        method: {
            f"novelty@{k}": novelty(top[:, :k], information),
            f"diversity@{k}": list_diversity(top[:, :k], fields),
        }
        for method, top in tops.items()
    }
    parts = {
        name: _part(part, rows, tops, lists, len(items), settings, rng)
        for name, (part, rows) in parts_of(truth, use_case, *known).items()
    }
    ndcg = {
        method: intervals_of(
            np.stack([truth.metrics(top, cut)[f"ndcg@{cut}"] for cut in settings.cuts], axis=1),
            rng=rng,
            resamples=settings.resamples,
        )
        for method, top in tops.items()
    }
    curves = {method: lorenz(exposure(top[:, :k], len(items))).tolist() for method, top in tops.items()}
    return Evaluation(use_case.id, release, k, len(items), parts, tuple(settings.cuts), ndcg, curves)


def _part(
    truth: Truth,
    rows: NDArray[np.int64],
    tops: Tops,
    lists: Mapping[str, Mapping[str, NDArray[np.float64]]],
    items: int,
    settings: Settings,
    rng: np.random.Generator,
) -> Part:
    k = settings.k
    values: dict[tuple[str, str], NDArray[np.float64]] = {}
    whole: dict[str, dict[str, Interval]] = {}
    for method, longest in tops.items():
        top = longest[rows][:, :k]
        found = truth.metrics(top, k) | {name: each[rows] for name, each in lists[method].items()}
        values |= {(method, name): column for name, column in found.items()}
        spread = {f"coverage@{k}": coverage(top, items), f"gini@{k}": gini(exposure(top, items))}
        whole[method] = {name: Interval(value, value, value) for name, value in spread.items()}
    others = [method for method in tops if method != ROUTED and ROUTED in tops]
    metric = f"ndcg@{k}"
    gaps = {(method, BEHIND): values[ROUTED, metric] - values[method, metric] for method in others}
    columns = values | gaps  # all from the same resamples, so that equal lists have equal intervals
    measured = intervals_of(np.stack(list(columns.values()), axis=1), rng=rng, resamples=settings.resamples)
    by_name = dict(zip(columns, measured, strict=True))
    methods = {
        method: {name: by_name[method, name] for of, name in values if of == method} | whole[method]
        for method in tops
    }
    behind = {method: by_name[method, BEHIND] for method in others}
    return Part(len(rows), int(truth.relevant.nnz), methods, behind)


BEHIND = "behind"
