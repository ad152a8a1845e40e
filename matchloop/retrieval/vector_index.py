"""Nearest items by inner product, kept up to date as items come, change and go."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from matchloop.errors import InvalidInput
from matchloop.retrieval.scored import Hit, best_allowed, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from matchloop.entities import EntityId

EXACT_BELOW = 50_000
"""Under this many items every one is compared; from here on a graph is searched."""

_NEIGHBOURS = 32
_CONSTRUCTION = 80


class VectorIndex:
    """Inner-product search over vectors named by id; safe to use from several threads.

    Under `exact_below` items a search compares every item (one matrix-vector product over rows kept in
    place: adding, replacing and removing cost nothing more). From there on it searches faiss's HNSW graph
    (Malkov, Yashunin 2018), over-fetching ever more until enough allowed items are found, and compares
    every item when half of the graph did not give enough.

    Parameters
    ----------
    width
        Length of a vector, 1 or more.
    exact_below
        Where the graph begins.
    """

    def __init__(self, width: int, *, exact_below: int = EXACT_BELOW) -> None:
        if width < 1 or exact_below < 1:
            raise InvalidInput(f"width {width} and exact_below {exact_below} must be 1 or more")
        self.width = width
        self._exact_below = exact_below
        self._lock = Lock()
        self._vectors = np.zeros((0, width), dtype=np.float32)  # rows past len(_ids) are spare
        self._ids: list[EntityId] = []
        self._row: dict[EntityId, int] = {}
        self._graph: Any = None
        self._label_id: list[EntityId | None] = []  # None: replaced or removed since
        self._label: dict[EntityId, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item: object) -> bool:
        return item in self._row

    @property
    def item_ids(self) -> list[EntityId]:
        """A copy of the ids, in an order that holds until the next change."""
        with self._lock:
            return list(self._ids)

    def vector(self, item: EntityId) -> NDArray[np.float32] | None:
        """Return a copy of the item's vector, shape (width,); None if it is not there."""
        with self._lock:
            row = self._row.get(item)
            return None if row is None else self._vectors[row].copy()

    def upsert(self, ids: Sequence[EntityId], vectors: NDArray[np.float32]) -> None:
        """Add vectors, replacing those of ids that are there; the last wins if an id stands twice.

        Raises
        ------
        InvalidInput
            If `vectors` is not (len(ids), width) or holds a number that is not finite; nothing is changed.
        """
        if vectors.shape != (len(ids), self.width):
            raise InvalidInput(f"{len(ids)} ids, vectors of shape {vectors.shape}, width {self.width}")
        if not np.isfinite(vectors).all():
            raise InvalidInput("a vector holds a number that is not finite")
        with self._lock:
            for id_ in ids:
                if id_ not in self._row:
                    self._row[id_] = len(self._ids)
                    self._ids.append(id_)
            self._grow(len(self._ids))
            for id_, vector in zip(ids, vectors, strict=True):
                self._vectors[self._row[id_]] = vector
            self._link(list(dict.fromkeys(ids)))

    def remove(self, ids: Collection[EntityId]) -> None:
        """Remove vectors; ids that are not there are ignored."""
        with self._lock:
            for id_ in ids:
                row = self._row.pop(id_, None)
                if row is None:
                    continue
                last = self._ids.pop()
                if last != id_:  # the last row fills the gap
                    self._ids[row] = last
                    self._row[last] = row
                    self._vectors[row] = self._vectors[len(self._ids)]
                self._unlink(id_)

    def search(
        self,
        vector: NDArray[np.float32],
        k: int,
        *,
        exclude: Collection[EntityId] = (),
        allow: Callable[[EntityId], bool] | None = None,
    ) -> list[Hit]:
        """Return the `k` nearest items, best first; fewer only if no more are allowed.

        Parameters
        ----------
        vector
            Finite, shape (width,).
        k
            0 or more.
        exclude
            Ids to leave out; unknown ones are ignored.
        allow
            Only items for which this is true, if given; it must not call the index.
        """
        if vector.shape != (self.width,) or not np.isfinite(vector).all():
            raise InvalidInput(f"the vector must be finite with shape ({self.width},), it has {vector.shape}")
        query = np.ascontiguousarray(vector, dtype=np.float32)
        with self._lock:
            if self._graph is None:
                return self._search_all(query, k, exclude, allow)
            return self._search_graph(query, k, set(exclude), allow)

    def _search_all(
        self,
        query: NDArray[np.float32],
        k: int,
        exclude: Collection[EntityId],
        allow: Callable[[EntityId], bool] | None,
    ) -> list[Hit]:
        scores = self._vectors[: len(self._ids)] @ query
        return best_allowed(scores, k, self._ids, exclude=rows_of(exclude, self._row), allow=allow)

    def _search_graph(
        self,
        query: NDArray[np.float32],
        k: int,
        exclude: set[EntityId],
        allow: Callable[[EntityId], bool] | None,
    ) -> list[Hit]:
        fetch = k + len(exclude) + 32
        while fetch < len(self._label_id) // 2:
            parameters = faiss.SearchParametersHNSW(efSearch=max(2 * fetch, 64))  # type: ignore[attr-defined]
            scores, labels = self._graph.search(query[None, :], fetch, params=parameters)
            found = [
                Hit(id_, score)
                for label, score in zip(labels[0].tolist(), scores[0].tolist(), strict=True)
                if label >= 0 and (id_ := self._label_id[label]) is not None
                if id_ not in exclude and (allow is None or allow(id_))
            ]
            if len(found) >= k:
                return sorted(found, key=lambda hit: (-hit.score, self._row[hit.item]))[:k]
            fetch *= 4
        return self._search_all(query, k, exclude, allow)

    def _grow(self, rows: int) -> None:
        if rows > len(self._vectors):
            grown = np.zeros((max(rows, 2 * len(self._vectors)), self.width), dtype=np.float32)
            grown[: len(self._vectors)] = self._vectors
            self._vectors = grown

    def _link(self, ids: list[EntityId]) -> None:
        """Put changed ids into the graph; (re)build it when it is due."""
        if self._graph is None and len(self._ids) < self._exact_below:
            return
        for id_ in ids:
            self._unlink(id_)
        if self._graph is None or len(self._label_id) > 2 * max(len(self._ids), 1):
            self._graph = faiss.IndexHNSWFlat(self.width, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
            self._graph.hnsw.efConstruction = _CONSTRUCTION
            self._label_id, self._label = [], {}
            ids = list(self._ids)
        self._graph.add(np.ascontiguousarray(self._vectors[rows_of(ids, self._row)]))
        for id_ in ids:
            self._label[id_] = len(self._label_id)
            self._label_id.append(id_)

    def _unlink(self, id_: EntityId) -> None:
        label = self._label.pop(id_, None)
        if label is not None:
            self._label_id[label] = None
