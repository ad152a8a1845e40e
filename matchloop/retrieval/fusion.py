"""One order out of several: weighted reciprocal rank fusion."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from matchloop.errors import InvalidInput
from matchloop.retrieval.scored import Hit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matchloop.entities import EntityId
    from matchloop.usecase import Method

CONSTANT = 60.0
"""Cormack, Clarke, Büttcher 2009: how little the first ranks stand out."""


def fuse(
    rankings: Mapping[Method, Sequence[EntityId]],
    k: int,
    *,
    weights: Mapping[Method, float] | None = None,
    constant: float = CONSTANT,
) -> list[Hit]:
    """Fuse rankings by Σ weight / (constant + rank) (Cormack, Clarke, Büttcher 2009).

    Parameters
    ----------
    rankings
        Item ids by method, best first; an id that stands twice in one counts at its first place.
    k
        Most items to return, 0 or more.
    weights
        By method, finite and 0 or more; 1 for a method that is not named.
    constant
        0 or more.

    Returns
    -------
    list of Hit
        Best first, scores in (0, 1]: 1 is an item that every method of weight puts first. Equal scores by id.
    """
    given = {method: (weights or {}).get(method, 1.0) for method in rankings}
    if k < 0 or not constant >= 0.0 or not all(math.isfinite(w) and w >= 0.0 for w in given.values()):
        raise InvalidInput("k, constant and weights must be finite and 0 or more")
    best = sum(given.values()) / (constant + 1.0)
    scores: defaultdict[EntityId, float] = defaultdict(float)
    for method, ranking in rankings.items():
        if given[method] == 0.0:
            continue
        for rank, item in enumerate(dict.fromkeys(ranking), start=1):
            scores[item] += given[method] / (constant + rank) / best
    order = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
    return [Hit(item, min(score, 1.0)) for item, score in order[:k]]
