"""Spark as an Ibis backend whose tables come and go as Arrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.datatypes as dt
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.pyspark import Backend

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = {
    # An index beyond an array's end gives null, as in DuckDB: lists of older clients log fewer columns.
    "spark.sql.ansi.enabled": "false",
}
"""What results depend on; set for the session, over whatever was configured."""


class SparkArrow(Backend):  # type: ignore[misc]
    """Ibis' own goes through pandas, which has no lists, takes nulls for NaN and several times the memory."""

    def do_connect(self, session: SparkSession) -> None:
        """Use a session; see `SETTINGS`."""
        self.register_options()
        super().do_connect(session)
        for name, value in SETTINGS.items():
            session.conf.set(name, value)

    def to_pyarrow(self, expr: Any, /, *, params: Any = None, limit: Any = None, **kwargs: Any) -> Any:
        """Run an expression: the types are those that Ibis says, times in UTC."""
        self._run_pre_execute_hooks(expr)
        table = expr.as_table()
        sql = self.compile(table, params=params, limit=limit, **kwargs)
        # Spark's times are moments, in UTC; Ibis takes them for times without a zone.
        types = {
            name: dt.Timestamp(timezone="UTC") if type_.is_timestamp() else type_
            for name, type_ in table.schema().items()
        }
        return expr.__pyarrow_result__(self._session.sql(sql).toArrow(), schema=ibis.schema(types))

    def to_parquet(self, expr: Any, /, path: Any, **kwargs: Any) -> None:
        """Write one file, as DuckDB does; Spark itself would write a folder."""
        pq.write_table(self.to_pyarrow(expr, **kwargs), path)

    def _register_in_memory_table(self, op: Any) -> None:
        given: pa.Table = op.data.to_pyarrow(op.schema)
        self._session.createDataFrame(given).createOrReplaceTempView(op.name)
