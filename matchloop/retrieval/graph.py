"""A navigable graph over vectors (HNSW: Malkov, Yashunin 2018), by faiss."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from matchloop.errors import ReleaseRefused

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NEIGHBOURS = 32
CONSTRUCTION = 80

LEAST_BEAM = 128
"""Candidates that a search keeps at least (faiss: efSearch): recall grows with it, and so does the time."""


class Graph:
    """Vectors by label, 0 on, in the order they were added; not safe for several threads by itself.

    The graph holds the vectors: there is no other copy.

    Parameters
    ----------
    width
        Length of a vector, 1 or more.
    """

    def __init__(self, width: int) -> None:
        self._index: Any = faiss.IndexHNSWFlat(width, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
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
        parameters = _parameters(beam(fetch))
        if len(without):
            left_out = faiss.IDSelectorBatch(without)
            selector = faiss.IDSelectorNot(left_out)
            parameters = faiss.SearchParametersHNSW(efSearch=beam(fetch), sel=selector)  # type: ignore[attr-defined]
        scores = np.empty(fetch, dtype=np.float32)
        labels = np.empty(fetch, dtype=np.int64)
        own, best, which = faiss.swig_ptr(query), faiss.swig_ptr(scores), faiss.swig_ptr(labels)
        self._index.search_c(1, own, fetch, best, which, parameters)
        found = labels.tolist()
        if found[-1] < 0:  # fewer than asked; the rest is -1
            found = found[: found.index(-1)]
        return found, scores.tolist()[: len(found)]

    def save(self, path: Path) -> None:
        """Write graph and vectors to a file; folders are made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        faiss.write_index(self._index, str(path))

    @classmethod
    def load(cls, path: Path, *, width: int, length: int) -> Graph:
        """Read what `save` wrote; a file from elsewhere must be checked against its checksum before.

        Raises
        ------
        ReleaseRefused
            If it is missing, corrupt, or of another width, length or making.
        """
        where = f"{path.parent.name}/{path.name}"
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise ReleaseRefused(f"{where} cannot be read: {str(error).splitlines()[-1]}") from error
        made = type(index).__name__, index.metric_type, index.d, index.ntotal
        expected = "IndexHNSWFlat", faiss.METRIC_INNER_PRODUCT, width, length
        if made != expected:
            raise ReleaseRefused(f"{where} holds {made}, expected {expected}")
        graph = cls(width)
        graph._index = index
        if not np.isfinite(graph.vectors).all():
            raise ReleaseRefused(f"{where} holds a number that is not finite")
        return graph


@cache
def _parameters(width: int) -> Any:
    """Return what a search with this beam is told; shared, never changed."""
    return faiss.SearchParametersHNSW(efSearch=width)  # type: ignore[attr-defined]


def beam(fetch: int) -> int:
    """Return how many candidates a search for `fetch` keeps."""
    return max(2 * fetch, LEAST_BEAM)
