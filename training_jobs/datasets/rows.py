"""Ids to rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def rows_in(column: Any, ids: Sequence[str]) -> NDArray[np.int64]:
    """Return each value's place in `ids`, -1 where it has none."""
    found = pc.index_in(column.combine_chunks(), value_set=pa.array(ids, pa.string()))
    return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)
