"""What computes: a graphics card or none, one machine's database or a cluster."""

from __future__ import annotations

from enum import StrEnum


class Device(StrEnum):
    """Where networks are trained. ``auto``: on a GPU where torch finds one, else on the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Engine(StrEnum):
    """What builds data sets: DuckDB in this process, or the Spark that this process is told of."""

    DUCKDB = "duckdb"
    SPARK = "spark"


class AlsLibrary(StrEnum):
    """What factorises: `implicit` in this process, or Spark's MLlib."""

    IMPLICIT = "implicit"
    SPARK = "spark"
