"""What each method says of items that another one found: ranking features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from candidate_svc.methods import als_vector, tower_vector
from matchloop.observe.logs import get_logger
from matchloop.usecase import Method

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from candidate_svc.methods import Content
    from candidate_svc.query import Query
    from matchloop.entities import EntityId

    Scores = NDArray[np.float64]

_log = get_logger()


class MethodScores:
    """Scores items by method: 0 for what a method does not know, and all 0 when it says nothing or fails.

    Parameters
    ----------
    content
        The use case's.
    """

    def __init__(self, content: Content) -> None:
        self._of: dict[Method, Callable[[Query, Sequence[EntityId]], Scores | None]] = {
            Method.ALS: _als,
            Method.TWO_TOWER: _two_tower,
            Method.CONTENT: lambda query, items: _content(content, query, items),
        }

    def of(self, method: Method, query: Query, items: Sequence[EntityId]) -> Scores:
        """Return the method's own scores, (len(items),), finite."""
        try:
            found = self._of[method](query, items)
        except Exception:  # noqa: BLE001 - whatever a method dies of, the list is ordered by what is left
            _log.exception("no scores", use_case=query.asked.use_case.id, method=method.value)
            found = None
        return np.zeros(len(items)) if found is None else np.where(np.isfinite(found), found, 0.0)


def _als(query: Query, items: Sequence[EntityId]) -> Scores | None:
    model = query.models.als if query.models is not None else None
    vector = als_vector(model, query) if model is not None else None
    if model is None or vector is None:
        return None
    rows = np.array([-1 if (row := model.item_row(item)) is None else row for item in items], dtype=np.int64)
    known = rows >= 0
    scores = np.zeros(len(items))
    scores[known] = model.item_factors[rows[known]] @ vector
    return scores


def _two_tower(query: Query, items: Sequence[EntityId]) -> Scores | None:
    model = query.models.two_tower if query.models is not None else None
    vector = tower_vector(model, query) if model is not None else None
    if model is None or vector is None:
        return None
    known, vectors = model.index.vectors(items)
    return _spread(items, known, vectors @ vector)


def _content(content: Content, query: Query, items: Sequence[EntityId]) -> Scores | None:
    profile = content.profile(query)
    if not profile.has_signal:
        return None
    hits = content.index.explain(profile, items)
    return _spread(items, [hit.item for hit in hits], np.array([hit.score for hit in hits]))


def _spread(items: Sequence[EntityId], known: Sequence[EntityId], scores: NDArray[np.floating]) -> Scores:
    by_item = dict(zip(known, scores.tolist(), strict=True))
    return np.array([by_item.get(item, 0.0) for item in items])
