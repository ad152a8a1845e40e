"""From candidates to a ranked list: greedy placement, since diversity depends on what is placed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import InvalidInput, Violation
from matchloop.rerank.calibration import calibrate
from matchloop.rerank.features import min_max
from matchloop.usecase import Method

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from matchloop.rerank.features import FeatureColumns
    from matchloop.rerank.scorer import Scorer
    from matchloop.rerank.values import DiscreteValues
    from matchloop.usecase import UseCase

DiversityValues = Sequence[Sequence[Sequence[str]]]
"""Per item, per diversity field of the use case: the item's values, empty where it has none."""


@dataclass(frozen=True, slots=True)
class CandidateList:
    """The n candidates of one request, in the order retrieval gave them.

    Parameters
    ----------
    items
        n item ids, each once.
    retrieval_scores
        (n,) float32 as the method gave them, higher is better.
    methods
        n methods, the one that found each item.
    item_features
        (n, k) float32, a column per `FeatureColumns.item_names`.
    diversity_values
        n entries, see `DiversityValues`; `diversity_values_of` makes one.

    Raises
    ------
    InvalidInput
        Naming every field of another length or with numbers that are not finite, and a repeated item.
    """

    items: tuple[str, ...]
    retrieval_scores: NDArray[np.float32]
    methods: tuple[Method, ...]
    item_features: NDArray[np.float32]
    diversity_values: DiversityValues

    def __post_init__(self) -> None:
        object.__setattr__(self, "retrieval_scores", np.asarray(self.retrieval_scores, dtype=np.float32))
        object.__setattr__(self, "item_features", np.asarray(self.item_features, dtype=np.float32))
        n = len(self.items)
        faults = [
            Violation(name, f"{length} entries for {n} items")
            for name, length in (
                ("retrieval_scores", len(self.retrieval_scores)),
                ("methods", len(self.methods)),
                ("item_features", len(self.item_features)),
                ("diversity_values", len(self.diversity_values)),
            )
            if length != n
        ]
        faults += [
            Violation(name, "must be finite")
            for name, array in (
                ("retrieval_scores", self.retrieval_scores),
                ("item_features", self.item_features),
            )
            if not np.isfinite(array).all()
        ]
        if len(set(self.items)) != n:
            faults.append(Violation("items", "an item stands twice"))
        if faults:
            raise InvalidInput.of(faults)


@dataclass(frozen=True, slots=True)
class RankedList:
    """A ranked list of m items: row i of everything is the item at rank i + 1.

    Parameters
    ----------
    items
        m item ids, best first.
    order
        (m,) int64 positions in the candidate list.
    scores
        (m,) float32 final scores **when each item was placed**; they can rise along the list, since
        diversity falls for what resembles an item already placed.
    features
        (m, F) float32, all features as they were when each item was placed: what is logged.
    feature_names
        F names, the columns of `features`.
    methods
        m methods, the one that found each item.
    reranked
        Whether a trained model ordered the list.
    """

    items: tuple[str, ...]
    order: NDArray[np.int64]
    scores: NDArray[np.float32]
    features: NDArray[np.float32]
    feature_names: tuple[str, ...]
    methods: tuple[Method, ...]
    reranked: bool


def diversity_values_of(use_case: UseCase, values: DiscreteValues) -> tuple[tuple[str, ...], ...]:
    """Return one item's entry of `CandidateList.diversity_values` from its discrete values by feature."""
    return tuple(tuple(values.get(name, ())) for name in use_case.ranking.diversity_fields)


def similarities(diversity_values: DiversityValues) -> NDArray[np.float32]:
    """Return how alike the items are, two by two.

    The mean over the diversity fields of the Jaccard index of the items' values: for one value each,
    1 if equal, else 0. A field where either has no value counts 0: nothing known is no likeness.

    Returns
    -------
    (n, n) float32 in [0, 1], symmetric; all 0 without diversity fields.
    """
    n = len(diversity_values)
    total = np.zeros((n, n), dtype=np.float32)
    fields = len(diversity_values[0]) if n else 0
    for field in range(fields):
        codes: dict[str, int] = {}
        rows: list[int] = []
        columns: list[int] = []
        for row, item in enumerate(diversity_values):
            for value in item[field]:
                rows.append(row)
                columns.append(codes.setdefault(value, len(codes)))
        present = np.zeros((n, max(len(codes), 1)), dtype=np.float32)
        present[rows, columns] = 1.0
        common = present @ present.T  # (n, n)
        sizes = present.sum(axis=1)
        union = sizes[:, None] + sizes - common
        total += common / np.maximum(union, 1.0)
    return total / np.float32(fields) if fields else total


def place(
    candidates: CandidateList, columns: FeatureColumns, scorer: Scorer, *, limit: int | None = None
) -> RankedList:
    """Rank candidates: at each rank the item with the highest score, given those placed above it.

    A list found by `popular` alone keeps its order and gets its calibrated scores. Ties keep the order
    of the candidates. Nothing is excluded: all n are placed unless `limit` is lower.

    Parameters
    ----------
    columns
        Of the use case; `candidates.item_features` has a column per `columns.item_names`.
    scorer
        The release's ranker or the use case's rule.
    limit
        Longest list wanted, 0 or more.

    Raises
    ------
    InvalidInput
        If `item_features` has another number of columns.
    """
    n = len(candidates.items)
    if n and candidates.item_features.shape != (n, len(columns.item_names)):
        found = candidates.item_features.shape
        wanted = (n, len(columns.item_names))
        raise InvalidInput.of([Violation("item_features", f"shape {found} instead of {wanted}")])
    features = np.empty((n, len(columns.names)), dtype=np.float32)
    reranked = False
    if n:
        original = calibrate(candidates.retrieval_scores, candidates.methods, scorer.calibration)
        features[:, columns.item_columns] = candidates.item_features
        features[:, columns.original_score] = original
        features[:, columns.model_score] = min_max(original)
        features[:, columns.diversity] = 1.0
        reranked = scorer.learned and any(method is not Method.POPULAR for method in candidates.methods)
    length = n if limit is None else min(limit, n)
    order, scores, diversity = _greedy(features, columns, candidates, scorer, length)
    features = features[order]
    features[:, columns.diversity] = diversity
    return RankedList(
        items=tuple(candidates.items[row] for row in order.tolist()),
        order=order,
        scores=scores,
        features=features,
        feature_names=columns.names,
        methods=tuple(candidates.methods[row] for row in order.tolist()),
        reranked=reranked,
    )


def _greedy(
    features: NDArray[np.float32],
    columns: FeatureColumns,
    candidates: CandidateList,
    scorer: Scorer,
    length: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Return order, scores and diversity of the `length` items placed, (length,) each."""
    n = len(candidates.items)
    order = np.arange(length, dtype=np.int64)
    raw = np.empty(length, dtype=np.float32)
    diversities = np.empty(length, dtype=np.float32)
    if not length:
        return order, raw, diversities
    unlike = 1.0 - similarities(candidates.diversity_values)
    diversity = np.ones(n, dtype=np.float32)
    if all(method is Method.POPULAR for method in candidates.methods):
        for rank in range(length):
            diversities[rank] = diversity[rank]
            np.minimum(diversity, unlike[rank], out=diversity)
        return order, features[:length, columns.original_score], diversities
    raw_of = scorer.by_diversity(features)
    closed = np.zeros(n, dtype=np.float32)  # −∞ once placed
    for rank in range(length):
        open_raw = raw_of(diversity) + closed
        best = int(open_raw.argmax())
        order[rank], raw[rank], diversities[rank] = best, open_raw[best], diversity[best]
        closed[best] = -np.inf
        np.minimum(diversity, unlike[best], out=diversity)
    return order, scorer.final(raw), diversities
