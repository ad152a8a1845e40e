"""Vectors learnt for ids: frequent ids have their own, all others share some by hash."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from matchloop.errors import InvalidInput
from matchloop.retrieval.part_files import read_array, read_ids, refusing, write_array, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class IdPlaces:
    """Where the vector of an id stands in a table: known ids first, then `buckets` that the others share.

    Parameters
    ----------
    known
        Distinct ids with a place of their own, in order.
    buckets
        Places for all other ids, by the id's CRC-32; 1 or more.
    """

    def __init__(self, known: Sequence[str], buckets: int) -> None:
        if buckets < 1:
            raise InvalidInput(f"{buckets} buckets, 1 or more are needed")
        self.known = list(known)
        self.buckets = buckets
        self._place = {id_: at for at, id_ in enumerate(self.known)}

    def __len__(self) -> int:
        return len(self.known) + self.buckets

    def of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return each id's place, int64 (len(ids),)."""
        own = self._place
        return np.array([own[id_] if id_ in own else self._shared(id_) for id_ in ids], dtype=np.int64)

    def shared(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the place each id would have were it not known, int64 (len(ids),)."""
        return np.array([self._shared(id_) for id_ in ids], dtype=np.int64)

    def _shared(self, id_: str) -> int:
        return len(self.known) + crc32(id_.encode()) % self.buckets


class IdTable:
    """A vector for every id there is or will be.

    Parameters
    ----------
    places
        Where they stand.
    vectors
        float32 (len(places), width).

    Raises
    ------
    InvalidInput
        If there are not as many vectors as places.
    """

    def __init__(self, places: IdPlaces, vectors: NDArray[np.float32]) -> None:
        if len(places) != len(vectors):
            raise InvalidInput(f"{len(places)} places, {len(vectors)} vectors")
        self.places = places
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)

    @property
    def width(self) -> int:
        """Length of a vector."""
        return int(self.vectors.shape[1])

    def rows(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Return the ids' vectors, shape (len(ids), width), in the order given."""
        found: NDArray[np.float32] = self.vectors[self.places.of(ids)]
        return found

    def save(self, folder: Path, name: str) -> None:
        """Write ``name_known.json`` and ``name_vectors.npy``."""
        write_json(folder, f"{name}_known", self.places.known)
        write_array(folder, f"{name}_vectors", self.vectors)

    @classmethod
    def load(cls, folder: Path, name: str) -> IdTable:
        """Read what `save` wrote.

        Raises
        ------
        ReleaseRefused
            If a file is missing, corrupt, or does not fit the other.
        """
        known = read_ids(folder, f"{name}_known")
        vectors = read_array(folder, f"{name}_vectors", shape=(None, None), dtype=np.float32)
        with refusing(f"{name} ids"):
            return cls(IdPlaces(known, len(vectors) - len(known)), vectors)
