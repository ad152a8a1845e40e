"""Ids to rows, and rows without those that repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def rows_in(column: Any, ids: Sequence[str]) -> NDArray[np.int64]:
    """Return each value's place in `ids`, -1 where it has none."""
    found = pc.index_in(column, value_set=pa.array(ids, pa.string()))
    return np.asarray(found.fill_null(-1).to_numpy(), dtype=np.int64)


def distinct(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the different numbers, sorted.

    By sorting them, which takes milliseconds a million; `numpy.unique` hashes, which takes seconds.
    """
    found = np.sort(numbers)
    first = np.ones(len(found), dtype=np.bool_)
    np.not_equal(found[1:], found[:-1], out=first[1:])
    return np.compress(first, found)
