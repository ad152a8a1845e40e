"""One order out of several: weighted reciprocal rank fusion, the same in serving and in evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import InvalidInput
from matchloop.retrieval.scored import Hit
from matchloop.usecase import Method

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from matchloop.entities import EntityId

CONSTANT = 60.0
"""Cormack, Clarke, Büttcher 2009: how little the first ranks stand out."""

PERSONAL = frozenset({Method.ALS, Method.TWO_TOWER, Method.CONTENT})
"""Methods that answer with what they know of the subject, or not at all. An ensemble needs one of them."""

POOL = 100
"""Each method gives the ensemble at least this many items, and in evaluation so many."""

POOL_FACTOR = 5
"""Each method gives the ensemble at least this many times as many as are asked."""


def pool_of(k: int) -> int:
    """Return how many items each method of an ensemble is asked for, when `k` are wanted of it.

    The same number for every `k` up to 20: what is measured offline for lists of 10 is what is served.
    """
    return max(POOL, POOL_FACTOR * k)


@dataclass(frozen=True, slots=True)
class Fusion:
    """What an ensemble is made of.

    Parameters
    ----------
    weights
        By method, finite and 0 or more; a method of weight 0, or not named, is not asked.
    constant
        Finite, 0 or more; the smaller, the more the first ranks stand out.

    Raises
    ------
    InvalidInput
        If a number is out of range, no method has weight, or the ensemble would be made of itself.
    """

    weights: Mapping[Method, float] = field(
        default_factory=lambda: MappingProxyType(
            {Method.ALS: 1.0, Method.TWO_TOWER: 1.0, Method.CONTENT: 1.0}
        )
    )
    constant: float = CONSTANT

    def __post_init__(self) -> None:
        numbers = [self.constant, *self.weights.values()]
        if not all(math.isfinite(number) and number >= 0.0 for number in numbers):
            raise InvalidInput(
                f"constant {self.constant} and weights {dict(self.weights)} must be finite, 0 or more"
            )
        if not self.methods or Method.ENSEMBLE in self.weights:
            raise InvalidInput("an ensemble needs a method of weight over 0, and none may be `ensemble`")

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods of weight over 0, always in the same order."""
        return tuple(method for method in Method if self.weights.get(method, 0.0) > 0.0)


@dataclass(frozen=True, slots=True)
class Places:
    """Where n subjects' items stand in each method's ranking.

    Parameters
    ----------
    items
        int64 (n, u): rows of the items that any method found, ascending, then -1.
    ranks
        By method, float64 (n, u): the item's rank, 1 the best; infinite where the method did not find it.
    """

    items: NDArray[np.int64]
    ranks: Mapping[Method, NDArray[np.float64]]

    @classmethod
    def of(cls, rankings: Mapping[Method, NDArray[np.int64]]) -> Places:
        """Look items up in rankings: int64 (n, depth) by method, best first, -1 for none.

        An item that stands twice in one ranking counts at its first place.
        """
        count = next(iter(rankings.values())).shape[0] if rankings else 0
        together = np.concatenate([np.zeros((count, 0), np.int64), *rankings.values()], axis=1)
        ordered = np.sort(together, axis=1)
        new = ordered >= 0
        new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
        column = np.cumsum(new, axis=1) - 1  # (n, all depths): place of each item among the distinct ones
        width = int(new.sum(axis=1).max(initial=0))
        items = np.full((count, width), -1, dtype=np.int64)
        line, at = np.nonzero(new)
        items[line, column[line, at]] = ordered[line, at]
        span = int(together.max(initial=-1)) + 1
        keys = np.where(items >= 0, items + np.arange(count)[:, None] * span, np.iinfo(np.int64).max).ravel()
        order = np.argsort(keys, kind="stable")
        ranks = {}
        for method, ranking in rankings.items():
            own = np.full(items.size, np.inf)
            line, rank = np.nonzero(ranking >= 0)
            wanted = ranking[line, rank] + line * span
            np.minimum.at(own, order[np.searchsorted(keys, wanted, sorter=order)], rank + 1.0)
            ranks[method] = own.reshape(items.shape)
        return cls(items, ranks)

    def __len__(self) -> int:
        return len(self.items)

    def fused(self, fusion: Fusion, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return each subject's items by Σ weight / (constant + rank) (Cormack, Clarke, Büttcher 2009).

        Returns
        -------
        items, scores
            int64 and float64, (n, k), best first, equal scores by row; -1 with score 0 where no more were
            found. Scores are in (0, 1]: 1 is an item that every method with an answer puts first.
        """
        score: NDArray[np.float64] = np.zeros(self.items.shape)
        best = np.zeros((len(self.items), 1))
        for method in fusion.methods:
            if method in self.ranks:
                ranks, weight = self.ranks[method], fusion.weights[method]
                score += weight / (fusion.constant + ranks)
                answered = np.isfinite(ranks).any(axis=1, keepdims=True)
                best += np.where(answered, weight / (fusion.constant + 1.0), 0.0)
        score /= np.where(best > 0.0, best, 1.0)
        # Sums of the same numbers in another order are not the same in their last digits.
        score = np.minimum(np.round(score, 12), 1.0)
        width = min(k, score.shape[1])
        order = np.argsort(-score, axis=1, kind="stable")[:, :width]
        found = np.full((len(self.items), k), -1, dtype=np.int64)
        scores = np.zeros((len(self.items), k))
        scores[:, :width] = np.take_along_axis(score, order, axis=1)
        found[:, :width] = np.where(
            scores[:, :width] > 0.0, np.take_along_axis(self.items, order, axis=1), -1
        )
        return found, scores


def fuse(rankings: Mapping[Method, Sequence[EntityId]], k: int, *, fusion: Fusion | None = None) -> list[Hit]:
    """Fuse one subject's rankings; see `Places.fused`.

    Parameters
    ----------
    rankings
        Item ids by method, best first; an id that stands twice in one counts at its first place.
    k
        Most items to return, 0 or more.
    fusion
        None: als, two_tower and content, alike.

    Returns
    -------
    list of Hit
        Best first; equal scores by id.
    """
    if k < 0:
        raise InvalidInput(f"k is {k}, must be 0 or more")
    ids = sorted({item for ranking in rankings.values() for item in ranking})
    row = {item: at for at, item in enumerate(ids)}
    depth = max((len(ranking) for ranking in rankings.values()), default=0)
    if depth == 0:
        return []
    lines = {}
    for method, ranking in rankings.items():
        line = np.full((1, depth), -1, dtype=np.int64)
        line[0, : len(ranking)] = [row[item] for item in ranking]
        lines[method] = line
    items, scores = Places.of(lines).fused(fusion or Fusion(), min(k, len(ids)))
    return [
        Hit(ids[item], score)
        for item, score in zip(items[0].tolist(), scores[0].tolist(), strict=True)
        if item >= 0
    ]
