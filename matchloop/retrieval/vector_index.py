"""Nearest items by inner product, kept up to date as items come, change and go."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import InvalidInput
from matchloop.retrieval.graph import Graph
from matchloop.retrieval.read_write import ReadWriteLock
from matchloop.retrieval.scored import best_allowed, row_by_id, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from matchloop.entities import EntityId
    from matchloop.retrieval.scored import Hit

EXACT_BELOW = 50_000
"""Under this many items every one is compared; from here on a graph is searched."""


class VectorIndex:
    """Inner-product search over vectors named by id; safe to use from several threads, which search at once.

    Under `exact_below` items a search compares every item (one matrix-vector product over rows kept in
    place: adding, replacing and removing cost nothing more). From there on it searches a `Graph`,
    over-fetching ever more until enough allowed items are found, and compares every item once that is
    cheaper. While a graph is built, searches go on with what was there before.

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
        self._changing = Lock()  # one writer at a time; it alone takes the lock for writing
        self._lock = ReadWriteLock()
        self._rows = np.zeros(
            (0, width), dtype=np.float32
        )  # rows past len(_ids) are spare; unused with a graph
        self._ids: list[
            EntityId | None
        ] = []  # by row, or label of the graph; None: replaced or removed since
        self._row: dict[EntityId, int] = {}
        self._graph: Graph | None = None

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, item: object) -> bool:
        return item in self._row

    @property
    def has_graph(self) -> bool:
        """Whether a graph is searched."""
        return self._graph is not None

    @property
    def item_ids(self) -> list[EntityId]:
        """A copy of the ids, in an order that holds until the next change."""
        with self._lock.reading():
            return [id_ for id_ in self._ids if id_ is not None]

    def vector(self, item: EntityId) -> NDArray[np.float32] | None:
        """Return a copy of the item's vector, shape (width,); None if it is not there."""
        with self._lock.reading():
            row = self._row.get(item)
            return None if row is None else self._vectors[row].copy()

    def vectors(self, items: Sequence[EntityId]) -> tuple[list[EntityId], NDArray[np.float32]]:
        """Return those of the items that are there, in the order given, and copies of their vectors."""
        with self._lock.reading():
            known = [id_ for id_ in items if id_ in self._row]
            return known, self._vectors[rows_of(known, self._row)]

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
        place = {id_: at for at, id_ in enumerate(ids)}
        last = np.fromiter(place.values(), dtype=np.int64, count=len(place))
        chosen = vectors if len(place) == len(ids) else vectors[last]
        with self._changing:
            if self._graph is None:
                with self._lock.writing():
                    self._put_rows(list(place), chosen)
                if len(self._ids) >= self._exact_below:
                    self._rebuild()
                return
            with self._lock.writing():
                for id_ in place:
                    self._unlink(id_)
                self._row.update(zip(place, range(len(self._ids), len(self._ids) + len(place)), strict=True))
                self._ids += place
                self._graph.add(chosen)
            if len(self._ids) > 2 * max(len(self._row), 1):
                self._rebuild()

    def remove(self, ids: Collection[EntityId]) -> None:
        """Remove vectors; ids that are not there are ignored."""
        with self._changing, self._lock.writing():
            for id_ in ids:
                if self._graph is not None:
                    self._unlink(id_)
                else:
                    self._drop_row(id_)

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
        with self._lock.reading():
            excluded = rows_of(exclude, self._row)
            if self._graph is not None:
                found = self._graph.best_allowed(query, k, self._ids, exclude=excluded, allow=allow)
                if found is not None:
                    return found
                dead = [row for row, id_ in enumerate(self._ids) if id_ is None]
                excluded = np.concatenate([excluded, np.asarray(dead, dtype=np.int64)])
            scores = self._vectors @ query
            ids: list[EntityId] = self._ids  # type: ignore[assignment]  # the dead are excluded
            return best_allowed(scores, k, ids, exclude=excluded, allow=allow)

    def recall(self, queries: NDArray[np.float32], k: int = 20) -> float:
        """Return which share of the `k` nearest of each query, (n, width), `search` finds, in [0, 1]."""
        found = expected = 0
        with self._lock.reading():
            live = np.asarray([row for row, id_ in enumerate(self._ids) if id_ is not None], dtype=np.int64)
        for query in queries:
            hits = {hit.item for hit in self.search(query, k)}
            with self._lock.reading():
                scores = self._vectors @ query
                best = live[np.argpartition(-scores[live], min(k, len(live)) - 1)[:k]] if len(live) else live
                found += sum(self._ids[row] in hits for row in best.tolist())
            expected += len(best)
        return found / expected if expected else 1.0

    def save(self, path: Path) -> list[EntityId]:
        """Write the graph to a file; return the ids in its order, for `load`.

        Raises
        ------
        InvalidInput
            If there is no graph.
        """
        with self._changing:
            if self._graph is None:
                raise InvalidInput("an index without a graph has nothing to save")
            if len(self._row) < len(self._ids):
                self._rebuild()
            self._graph.save(path)
            return self.item_ids

    @classmethod
    def load(cls, path: Path, ids: Sequence[EntityId], width: int) -> VectorIndex:
        """Read what `save` wrote; see `Graph.load` for the errors."""
        index = cls(width)
        index._graph = Graph.load(path, width=width, length=len(ids))
        index._ids = list(ids)
        index._row = row_by_id(ids)
        return index

    @property
    def _vectors(self) -> NDArray[np.float32]:
        return self._rows[: len(self._ids)] if self._graph is None else self._graph.vectors

    def _put_rows(self, ids: list[EntityId], vectors: NDArray[np.float32]) -> None:
        for id_ in ids:
            if id_ not in self._row:
                self._row[id_] = len(self._ids)
                self._ids.append(id_)
        if len(self._ids) > len(self._rows):
            grown = np.zeros((max(len(self._ids), 2 * len(self._rows)), self.width), dtype=np.float32)
            grown[: len(self._rows)] = self._rows
            self._rows = grown
        self._rows[rows_of(ids, self._row)] = vectors

    def _drop_row(self, id_: EntityId) -> None:
        row = self._row.pop(id_, None)
        if row is None:
            return
        last = self._ids.pop()
        if last is not None and last != id_:  # the last row fills the gap
            self._ids[row] = last
            self._row[last] = row
            self._rows[row] = self._rows[len(self._ids)]

    def _unlink(self, id_: EntityId) -> None:
        label = self._row.pop(id_, None)
        if label is not None:
            self._ids[label] = None

    def _rebuild(self) -> None:
        """Build the graph of what is there; searches wait only while it takes the place of the old one."""
        ids = [id_ for id_ in self._ids if id_ is not None]
        graph = Graph(self.width)
        graph.add(self._vectors[rows_of(ids, self._row)])
        row = {id_: at for at, id_ in enumerate(ids)}
        with self._lock.writing():
            self._graph, self._ids, self._row = graph, list(ids), row
            self._rows = np.zeros((0, self.width), dtype=np.float32)
