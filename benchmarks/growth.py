"""How much room does the record take? ``python -m benchmarks.growth --out FILE.json [--rows 500000]``.

An embedded PostgreSQL is filled by the store's own writes, as `benchmarks.ingest` does: lists of ten items
with their features, and reactions to them. What a row takes is the growth of its table and of the table's
indexes over the second half of the filling, divided by the rows: what an empty table has is no part of it.
Beside it: what a row writes into the write-ahead log, and what it takes in a snapshot.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.folders import data_folder
from benchmarks.ingest import fill
from benchmarks.report import Out, about, write_report
from feedback_svc.export.run import export
from feedback_svc.migrate import migrate
from feedback_svc.store.postgres.database import Database
from playground.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLES = ("interactions", "sessions", "subject_counts", "item_stats")
SIZES = """
SELECT relname, pg_table_size(oid), pg_indexes_size(oid)
FROM pg_class WHERE relname = ANY(%s) AND relkind = 'r'
"""
WRITTEN = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"

console = Console()


@dataclass(frozen=True, slots=True)
class Measured:
    """What a database holds: by table rows, bytes of the rows, bytes of the indexes; bytes ever logged."""

    rows: Mapping[str, int]
    table: Mapping[str, int]
    index: Mapping[str, int]
    logged: int


def measured(url: str) -> Measured:
    """Look at a database."""
    database = Database(url, pool_size=1, statement_timeout=600.0)

    def look(connection: Any) -> Measured:
        sizes = connection.exec_driver_sql(SIZES, (list(TABLES),)).all()
        rows = {t: connection.exec_driver_sql(f"SELECT count(*) FROM {t}").scalar_one() for t in TABLES}  # noqa: S608
        return Measured(
            rows,
            {name: table for name, table, _ in sizes},
            {name: index for name, _, index in sizes},
            connection.exec_driver_sql(WRITTEN).scalar_one(),
        )

    try:
        return database.run(look)
    finally:
        database.close()


def per_row(before: Measured, after: Measured) -> dict[str, dict[str, float]]:
    """Return by table what each row added: bytes of the table and of its indexes."""
    found = {}
    for name in TABLES:
        added = after.rows[name] - before.rows[name]
        if added:
            table, index = after.table[name] - before.table[name], after.index[name] - before.index[name]
            found[name] = {
                "rows": added,
                "table_bytes": round(table / added, 1),
                "index_bytes": round(index / added, 1),
            }
    return found


def in_a_snapshot(url: str, folder: Path) -> dict[str, float]:
    """Export everything; return the bytes of a row by table."""
    export(url, folder, now=datetime.now(UTC))
    rows = measured(url).rows
    return {
        name: round(sum(file.stat().st_size for file in folder.glob(f"{name}*.parquet")) / rows[name], 1)
        for name in ("interactions", "sessions")
    }


def main(
    out: Out = None,
    rows: Annotated[int, typer.Option(min=20_000, help="Reactions.")] = 500_000,
) -> None:
    """Fill, look, and write the figures."""
    told = about()
    with data_folder(None) as folder, EmbeddedPostgres(folder / "data") as server, Progress() as progress:
        url = server.create_database("growth")
        migrate(url)
        fill(url, rows // 2, progress)
        before = measured(url)
        seconds = fill(url, rows, progress)
        after = measured(url)
        added = after.rows["interactions"] - before.rows["interactions"]
        with tempfile.TemporaryDirectory() as snapshot:
            exported = in_a_snapshot(url, Path(snapshot) / "snapshot")
    each_row = per_row(before, after)
    figures: dict[str, object] = {
        "per_row": each_row,
        "log_bytes_per_interaction": round((after.logged - before.logged) / added, 1),
        "snapshot_bytes_per_row": exported,
        "interactions_per_second": round(added / seconds),
    }
    write_report(out, told, figures)
    table = Table("table", "rows added", "bytes a row", "bytes of its indexes", title="what a row takes")
    for name, each in each_row.items():
        table.add_row(name, f"{each['rows']:,}", f"{each['table_bytes']:,}", f"{each['index_bytes']:,}")
    console.print(table)
    console.print(
        {name: figures[name] for name in figures if name != "per_row"},
    )


if __name__ == "__main__":
    typer.run(main)
