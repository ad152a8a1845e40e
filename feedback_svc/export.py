"""Write a snapshot of the record: ``python -m feedback_svc.export --out FOLDER``.

One REPEATABLE READ transaction: every table as of one moment. Rows stream through COPY into Parquet in
bounded memory. The watermark is the highest sequence in it; nothing at or below it can appear later (see the
first migration), so an export of the same watermark would hold the same and is not written again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import typer
from pydantic import ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError

from feedback_svc.command import told
from feedback_svc.export_columns import COPIED, ENTITIES, CopiedTable
from feedback_svc.settings import DatabaseSettings
from feedback_svc.store.postgres.catalog import entity_of
from matchloop.errors import Reason, Unavailable
from matchloop.rpc.settings import read_settings
from matchloop.rpc.validation import utc_now
from matchloop.snapshot import SnapshotManifest, SnapshotWriter, TableName
from matchloop.snapshot.entities import entity_tables
from matchloop.snapshot.manifest import MANIFEST_FILE

BLOCK_BYTES = 16 * 1024 * 1024
"""Of CSV read at a time."""
ENTITIES_AT_A_TIME = 2000

# Over all tables, the highest sequence whose transaction has ended in this snapshot, with all before it.
WATERMARK = """
SELECT greatest(0,
    (SELECT max(sequence) FROM interactions WHERE sequence < change_horizon() << 9),
    (SELECT max(sequence) FROM sessions WHERE sequence < change_horizon() << 9),
    (SELECT max(change_sequence) << 9 FROM entities WHERE change_sequence < change_horizon()))
"""

Advance = Callable[[str, int], None]


def export(url: str, out: Path, *, now: datetime, advance: Advance = lambda _table, _rows: None) -> int:
    """Write a snapshot into `out`, unless it holds one of the same watermark.

    Parameters
    ----------
    now
        Noted as the time of creation.
    advance
        Told of every block written: its table and how many rows it has.

    Returns
    -------
    int
        The watermark.

    Raises
    ------
    Unavailable
        When the database cannot be reached.
    """
    engine = create_engine(url, isolation_level="REPEATABLE READ")
    try:
        with engine.connect().execution_options(postgresql_readonly=True) as connection:
            watermark = int(connection.execute(text(WATERMARK)).scalar_one())
            if written_watermark(out) != watermark:
                _write(connection, out, watermark, now, advance)
            return watermark
    except OperationalError as error:
        raise Unavailable(
            f"the store cannot be reached: {error.orig}", reason=Reason.STORE_UNAVAILABLE
        ) from error
    finally:
        engine.dispose()


def written_watermark(folder: Path) -> int | None:
    """Return the watermark of the snapshot in a folder; None when there is no whole one."""
    try:
        manifest = SnapshotManifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return manifest.watermark


def _write(connection: Connection, out: Path, watermark: int, now: datetime, advance: Advance) -> None:
    with SnapshotWriter(out, watermark=watermark, created=now) as writer:
        for table in _entity_tables(connection, watermark):
            for name, rows in table.items():
                writer.append(name, rows)
            advance(TableName.ENTITIES, table[TableName.ENTITIES].num_rows)
        for copied in COPIED:
            for block in _blocks(connection, copied, watermark):
                writer.append(copied.name, block)
                advance(copied.name, block.num_rows)


def _entity_tables(connection: Connection, watermark: int) -> Iterator[dict[TableName, pa.Table]]:
    rows = connection.execution_options(yield_per=ENTITIES_AT_A_TIME).execute(
        text(ENTITIES), {"watermark": watermark}
    )
    for partition in rows.partitions():
        yield entity_tables(entity_of(row) for row in partition)


def _blocks(connection: Connection, copied: CopiedTable, watermark: int) -> Iterator[pa.Table]:
    """Stream the rows of one table; COPY writes from a thread of its own into a pipe that Arrow reads."""
    statement = f"COPY ({copied.statement.format(watermark=watermark)}) TO STDOUT (FORMAT csv)"
    with _copying(connection, statement) as source:
        try:
            reader = pa_csv.open_csv(
                source,
                read_options=pa_csv.ReadOptions(column_names=copied.columns.names, block_size=BLOCK_BYTES),
                parse_options=pa_csv.ParseOptions(newlines_in_values=True),
                convert_options=pa_csv.ConvertOptions(
                    column_types=copied.columns,
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    true_values=["t"],
                    false_values=["f"],
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            raise
        for batch in reader:
            yield copied.finish(pa.Table.from_batches([batch]))


@contextmanager
def _copying(connection: Connection, statement: str) -> Iterator[Any]:
    read_end, write_end = os.pipe()
    faults: list[BaseException] = []

    def copy() -> None:
        with os.fdopen(write_end, "wb") as sink:
            try:
                connection.connection.cursor().copy_expert(statement, sink)
            except BaseException as error:  # noqa: BLE001 - raised again in the reading thread
                faults.append(error)

    thread = threading.Thread(target=copy, name="copy")
    thread.start()
    try:
        with os.fdopen(read_end, "rb") as source:
            yield pa.PythonFile(source, mode="r")
    finally:
        thread.join()
    if faults:
        raise faults[0]


def main(
    out: Annotated[Path, typer.Option(help="Folder of the snapshot; made when missing.")],
) -> None:
    """Write a snapshot of the database named by FEEDBACK_DATABASE_URL."""
    with told():
        settings = read_settings(DatabaseSettings)
        watermark = _export_with_progress(settings.database_url, out)
    typer.echo(f"snapshot of watermark {watermark} in {out}")


def _export_with_progress(url: str, out: Path) -> int:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        tasks = {name: progress.add_task(name, total=rows) for name, rows in estimated_rows(url).items()}
        watermark = export(
            url, out, now=utc_now(), advance=lambda table, rows: progress.advance(tasks[table], rows)
        )
        for task in progress.tasks:
            progress.update(task.id, total=task.completed or task.total)
    return watermark


def estimated_rows(url: str) -> dict[str, int]:
    """Return PostgreSQL's estimate of the rows of every exported table."""
    names = (TableName.ENTITIES, *(copied.name for copied in COPIED))
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            statement = text(
                "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass(:name)"
            )
            return {
                name: int(connection.execute(statement, {"name": name.value}).scalar() or 0) for name in names
            }
    finally:
        engine.dispose()


if __name__ == "__main__":
    typer.run(main)
