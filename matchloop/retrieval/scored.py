"""Scored items, best first, in an order that depends on nothing but the scores."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from matchloop.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from matchloop.entities import EntityId


class Hit(NamedTuple):
    """An item a method found, and the method's own score (compare within one method only)."""

    item: EntityId
    score: float


@dataclass(frozen=True, slots=True)
class Scored:
    """Item rows and scores, best first; equal scores by row, the lower first.

    Parameters
    ----------
    item
        Row numbers, int64, shape (n,).
    score
        float32, shape (n,), finite.
    """

    item: NDArray[np.int64]
    score: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.item)

    def hits(self, item_ids: Sequence[EntityId]) -> list[Hit]:
        """Name the rows."""
        return [
            Hit(item_ids[row], score)
            for row, score in zip(self.item.tolist(), self.score.tolist(), strict=True)
        ]


def top_k(
    scores: NDArray[Any],
    k: int,
    *,
    exclude: NDArray[np.int64] | None = None,
) -> Scored:
    """Return the `k` best rows, or all there are if fewer.

    Parameters
    ----------
    scores
        Shape (n,). Rows of −inf are left out.
    k
        0 or more.
    exclude
        Rows to leave out.

    Raises
    ------
    InvalidInput
        If a score is NaN or `k` is negative.
    """
    if k < 0:
        raise InvalidInput(f"k is {k}, must be 0 or more")
    left = np.array(scores, dtype=np.float32)
    if exclude is not None and len(exclude):
        left[exclude] = -np.inf
    k = min(k, len(left))
    if k == 0:
        return Scored(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))
    if np.isnan(left).any():
        raise InvalidInput("a score is NaN")
    least = np.partition(left, len(left) - k)[len(left) - k]
    rows = np.flatnonzero(left >= least) if least > -np.inf else np.flatnonzero(left > -np.inf)
    order = np.argsort(-left[rows], kind="stable")[:k]
    best = rows[order].astype(np.int64, copy=False)
    return Scored(best, left[best])


def best_allowed(
    scores: NDArray[Any],
    k: int,
    ids: Sequence[EntityId],
    *,
    exclude: NDArray[np.int64],
    allow: Callable[[EntityId], bool] | None,
) -> list[Hit]:
    """Return the `k` best items for which `allow` is true, fewer only if there are no more.

    Asks `allow` about the best items first and about more of them only while too few are found.
    """
    if allow is None:
        return top_k(scores, k, exclude=exclude).hits(ids)
    fetch = 2 * k + 32
    while True:
        found = top_k(scores, fetch, exclude=exclude)
        hits = [hit for hit in found.hits(ids) if allow(hit.item)]
        if len(hits) >= k or len(found) < fetch:
            return hits[:k]
        fetch *= 4


def rows_of(ids: Collection[EntityId], row: Mapping[EntityId, int]) -> NDArray[np.int64]:
    """Return the rows of those ids that have one, in the order given."""
    return np.asarray([row[id_] for id_ in ids if id_ in row], dtype=np.int64)


_NUMBERS: list[int] = []
_COUNTING = Lock()


def row_by_id(ids: Sequence[EntityId]) -> dict[EntityId, int]:
    """Return the place of each id; all such tables share their numbers, which saves 32 bytes an id."""
    with _COUNTING:
        _NUMBERS.extend(range(len(_NUMBERS), len(ids)))
    return dict(zip(ids, _NUMBERS, strict=False))
