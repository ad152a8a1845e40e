"""What runs the data sets' expressions: DuckDB in this process, or Spark."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import ibis

from matchloop.errors import NotEquipped
from training_jobs.config import Engine

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

THREADS = 2
MEMORY = "3GB"
"""Of DuckDB's queries while they run; their results come on top."""


def connect(engine: Engine = Engine.DUCKDB) -> Any:
    """Return an Ibis connection: for `open_tables`.

    Raises
    ------
    NotEquipped
        See `spark_session`.
    """
    if engine is Engine.DUCKDB:
        return _duckdb()
    session = spark_session()
    from training_jobs.datasets.spark import SparkArrow

    return SparkArrow().connect(session)


def _duckdb() -> Any:
    """Return DuckDB in memory, which puts on disk what is more than `MEMORY`."""
    scratch = Path(tempfile.gettempdir()) / f"duckdb-{uuid4()}"  # made when needed, and gone afterwards
    backend = ibis.duckdb.connect(threads=THREADS, memory_limit=MEMORY, temp_directory=str(scratch))
    backend.raw_sql("SET enable_progress_bar = false")  # the job shows its own
    backend.raw_sql("SET allocator_background_threads = true")  # what a query frees goes back at once
    return backend


def spark_session() -> SparkSession:
    """Return this process's session, the one there is or a new one.

    It is Spark's own to configure, as ever: ``spark-defaults.conf`` in ``SPARK_CONF_DIR`` names the master,
    memory and all else. Without it Spark runs on this machine, on all its cores (``local[*]``).

    Raises
    ------
    NotEquipped
        When PySpark is not installed, or its Java does not start.
    """
    try:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise NotEquipped(f"PySpark is not installed ({error}): pip install 'matchloop[spark]'") from error
    try:
        return SparkSession.builder.appName("matchloop").getOrCreate()
    except PySparkRuntimeError as error:
        raise NotEquipped(
            f"Spark's Java does not start ({error}): install Java 17 or 21, or set JAVA_HOME"
        ) from error
