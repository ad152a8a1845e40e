"""Memory that a job is done with."""

from __future__ import annotations

import ctypes
import gc

import pyarrow as pa


def give_back() -> None:
    """Give memory that is free within this process back to the system.

    Arrow's pool and the C library's heap keep what they were given for later use. After a data set of ten
    million interactions that is a gigabyte, which the next step would come on top of. Does what it can: a C
    library other than glibc has no such call.
    """
    gc.collect()
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
