"""A navigable graph over vectors (HNSW: Malkov, Yashunin 2018), by faiss."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from matchloop.errors import ReleaseRefused
from matchloop.retrieval.scored import Hit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from matchloop.entities import EntityId

NEIGHBOURS = 32
CONSTRUCTION = 80

LEAST_BEAM = 128
"""Candidates that a search keeps at least (faiss: efSearch): recall grows with it, and so does the time."""

SPARE = 32
"""A search fetches this many more than asked, for those that turn out not to be allowed."""

LEAST_GRAPH = 256
GRAPH_SHARE = 64
"""Fetching more from the graph than 256, or a 64th of all if that is more, costs more than comparing all."""


class Graph:
    """Vectors by label, 0 on, in the order they were added; not safe for several threads by itself.

    The graph holds the vectors: there is no other copy.

    Parameters
    ----------
    width
        Length of a vector, 1 or more.
    neighbours
        Of each vector; four times as many bytes go twice on the lowest level.
    least_beam
        See `LEAST_BEAM`.
    """

    def __init__(self, width: int, *, neighbours: int = NEIGHBOURS, least_beam: int = LEAST_BEAM) -> None:
        self.least_beam = least_beam
        self._index: Any = faiss.IndexHNSWFlat(width, neighbours, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = CONSTRUCTION

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """All vectors by label, (len(self), width): a view, valid until the next `add`; not to be kept."""
        storage: Any = faiss.downcast_index(self._index.storage)
        found: NDArray[np.float32] = faiss.rev_swig_ptr(storage.get_xb(), len(self) * self._index.d)
        return found.reshape(len(self), self._index.d)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Add vectors, (n, width)."""
        self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))

    def search(
        self, query: NDArray[np.float32], fetch: int, without: NDArray[np.int64]
    ) -> tuple[list[int], list[float]]:
        """Return labels and inner products of about the `fetch` nearest to `query`, best first.

        Parameters
        ----------
        query
            float32, contiguous, (width,).
        fetch
            1 or more.
        without
            Labels that are walked over but not returned.
        """
        wide = max(beam(fetch), self.least_beam)
        parameters = _parameters(wide)
        if len(without):
            left_out = faiss.IDSelectorBatch(without)
            selector = faiss.IDSelectorNot(left_out)
            parameters = faiss.SearchParametersHNSW(efSearch=wide, sel=selector)  # type: ignore[attr-defined]
        scores = np.empty(fetch, dtype=np.float32)
        labels = np.empty(fetch, dtype=np.int64)
        own, best, which = faiss.swig_ptr(query), faiss.swig_ptr(scores), faiss.swig_ptr(labels)
        self._index.search_c(1, own, fetch, best, which, parameters)
        found = labels.tolist()
        if found[-1] < 0:  # fewer than asked; the rest is -1
            found = found[: found.index(-1)]
        return found, scores.tolist()[: len(found)]

    def best_allowed(
        self,
        query: NDArray[np.float32],
        k: int,
        ids: Sequence[EntityId | None],
        *,
        exclude: NDArray[np.int64],
        allow: Callable[[EntityId], bool] | None,
    ) -> list[Hit] | None:
        """Return the `k` nearest; None when all had better be compared.

        Parameters
        ----------
        ids
            By label; None: not to be found.
        exclude
            Labels to leave out.
        allow
            Only ids for which this is true, if given.
        """
        left_out, fetch, without = set(exclude.tolist()), k + SPARE, exclude[:0]
        while k > 0 and fetch <= max(len(self) // GRAPH_SHARE, LEAST_GRAPH):
            hits: list[tuple[float, int, EntityId]] = []
            for label, score in zip(*self.search(query, fetch, without), strict=True):
                id_ = ids[label]
                if id_ is not None and label not in left_out and (allow is None or allow(id_)):
                    hits.append((-score, label, id_))
                    if len(hits) == k:
                        return [Hit(id_, -negated) for negated, _, id_ in sorted(hits)]
            fetch, without = 4 * fetch, exclude  # telling the graph costs more than passing over a few
        return None

    def save(self, path: Path, *, vectors: bool = True) -> None:
        """Write the graph to a file, its vectors too unless told not to; folders are made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = 0 if vectors else faiss.IO_FLAG_SKIP_STORAGE
        faiss.write_index(self._index, str(path), flags)  # type: ignore[call-overload]

    @classmethod
    def load(
        cls, path: Path, *, width: int, length: int, vectors: NDArray[np.float32] | None = None
    ) -> Graph:
        """Read what `save` wrote; a file from elsewhere must be checked against its checksum before.

        Parameters
        ----------
        vectors
            Finite, (length, width), copied; for a file without them.

        Raises
        ------
        ReleaseRefused
            If it is missing, corrupt, or of another width, length or making.
        """
        where = f"{path.parent.name}/{path.name}"
        try:
            index: Any = faiss.read_index(str(path), 0 if vectors is None else faiss.IO_FLAG_SKIP_STORAGE)
        except RuntimeError as error:
            raise ReleaseRefused(f"{where} cannot be read: {str(error).splitlines()[-1]}") from error
        made = type(index).__name__, index.metric_type, index.d, index.ntotal
        expected = "IndexHNSWFlat", faiss.METRIC_INNER_PRODUCT, width, length
        if made != expected:
            raise ReleaseRefused(f"{where} holds {made}, expected {expected}")
        graph = cls(width)
        if vectors is not None:
            storage: Any = faiss.IndexFlatIP(width)
            storage.add(np.ascontiguousarray(vectors, dtype=np.float32))
            index.storage, index.own_fields = storage, True
            storage.this.disown()
        graph._index = index
        if vectors is None and not np.isfinite(graph.vectors).all():
            raise ReleaseRefused(f"{where} holds a number that is not finite")
        return graph


@cache
def _parameters(width: int) -> Any:
    """Return what a search with this beam is told; shared, never changed."""
    return faiss.SearchParametersHNSW(efSearch=width)  # type: ignore[attr-defined]


def beam(fetch: int) -> int:
    """Return how many candidates a search for `fetch` keeps."""
    return max(2 * fetch, LEAST_BEAM)
