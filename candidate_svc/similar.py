"""Items like an item: by content, then by the vectors that a release has of items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from candidate_svc.methods import ask
from matchloop.retrieval.routing import SkipReason, route
from matchloop.retrieval.scored import top_k
from matchloop.usecase import Method

if TYPE_CHECKING:
    from collections.abc import Sequence

    from candidate_svc.methods import Content, Retrieval
    from candidate_svc.query import Query
    from matchloop.entities import EntityId
    from matchloop.retrieval.routing import Candidate
    from matchloop.retrieval.scored import Hit


def similar(content: Content, query: Query, item: EntityId, k: int) -> tuple[Candidate, ...]:
    """Return at most `k` items of `query.allowed` like `item`, each by the first method that finds it.

    `query.allowed` must not have the item.
    """
    retrievals: dict[Method, Retrieval] = {
        Method.CONTENT: _ByContent(content, item),
        Method.TWO_TOWER: _ByTower(item),
        Method.ALS: _ByFactors(item),
    }
    routed = route(
        retrievals, lambda _: True, lambda method, most: ask(method, retrievals[method], query, most), k
    )
    return routed.candidates


class _ByContent:
    """Shared values and near embeddings."""

    def __init__(self, content: Content, item: EntityId) -> None:
        self._content = content
        self._item = item

    def find(self, query: Query, k: int) -> Sequence[Hit] | SkipReason:
        """See `methods.Retrieval`."""
        return self._content.similar(query, self._item, k)


class _ByTower:
    """Near in the item tower's space."""

    def __init__(self, item: EntityId) -> None:
        self._item = item

    def find(self, query: Query, k: int) -> Sequence[Hit] | SkipReason:
        """See `methods.Retrieval`."""
        model = query.models.two_tower if query.models is not None else None
        if model is None:
            return SkipReason.MISSING
        vector = model.index.vector(self._item)
        item = query.rows.find(self._item)
        if vector is None or item is None or not item.features:  # nothing went into its vector
            return SkipReason.NO_SIGNAL
        return model.search(vector, k, allow=query.may_show)


class _ByFactors:
    """The least angle between ALS factors: liked by the same subjects, however many they are."""

    def __init__(self, item: EntityId) -> None:
        self._item = item

    def find(self, query: Query, k: int) -> Sequence[Hit] | SkipReason:
        """See `methods.Retrieval`."""
        model = query.models.als if query.models is not None else None
        if model is None:
            return SkipReason.MISSING
        row = model.item_row(self._item)
        if row is None or not model.item_factors[row].any():
            return SkipReason.NO_SIGNAL
        ids = [id_ for id_ in model.item_ids if query.may_show(id_)]
        factors = model.item_factors[model.item_rows(ids)]
        sizes = np.linalg.norm(factors, axis=1) * np.linalg.norm(model.item_factors[row])
        cosine = np.divide(
            factors @ model.item_factors[row], sizes, out=np.zeros(len(ids), np.float32), where=sizes > 0
        )
        return top_k(np.where(cosine > 0.0, cosine, -np.inf), k).hits(ids)
