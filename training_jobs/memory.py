"""Memory that a job is done with."""

from __future__ import annotations

import gc

import pyarrow as pa

from matchloop import heap


def give_back() -> None:
    """Give memory that is free within this process back to the system.

    Arrow's pool and the C library's heap keep what they were given for later use. After a data set of ten
    million interactions that is a gigabyte, which the next step would come on top of.
    """
    gc.collect()
    pa.default_memory_pool().release_unused()
    heap.trim()
