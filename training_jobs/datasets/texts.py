"""A column of texts that repeat, as large as a data set: each row a number, each text once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts by row.

    Parameters
    ----------
    values
        Different texts, or None for none; not all have to occur.
    rows
        Integers (n,): each row's place in `values`.
    """

    values: Sequence[str | None]
    rows: NDArray[Any]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Self:
        """Encode a column of strings."""
        encoded = column.dictionary_encode().unify_dictionaries()
        if not encoded.num_chunks:
            return cls([], np.zeros(0, np.int32))
        values = encoded.chunk(0).dictionary.to_pylist()
        codes = pa.chunked_array([chunk.indices for chunk in encoded.chunks]).fill_null(len(values))
        return cls([*values, None], codes.to_numpy())

    def at(self, rows: NDArray[np.int64]) -> Texts:
        """Return the texts of some rows, in their order."""
        return Texts(self.values, self.rows[rows])

    def objects(self) -> NDArray[np.object_]:
        """Return the texts, (n,); equal ones are one object."""
        return np.array([*self.values, None], dtype=object).take(self.rows)

    def counts(self) -> dict[str, int]:
        """Return how often each text occurs that does, by text."""
        counted = np.bincount(self.rows, minlength=len(self.values)).tolist()
        found = zip(self.values, counted, strict=True)
        return dict(sorted((str(value), count) for value, count in found if count))

    def blocks(self) -> Iterator[NDArray[np.str_]]:
        """Yield the texts in order, some rows at a time, all as wide as the longest; None as an empty one."""
        occurs = np.bincount(self.rows, minlength=len(self.values)) > 0
        texts = [value or "" if there else "" for value, there in zip(self.values, occurs, strict=True)]
        values = np.array(texts or [""], dtype=np.str_)
        for at in range(0, max(len(self), 1), _BLOCK):
            yield values[self.rows[at : at + _BLOCK]]
