"""A snapshot gives back what was put in, and refuses what is not whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from matchloop.entities import Categorical, Embedding, Entity, EntityId, EntityKey, Kind, Multi, Numeric, Text
from matchloop.errors import InvalidInput, NotFound
from matchloop.snapshot import (
    INTERACTIONS,
    SnapshotWriter,
    TableName,
    entities_of,
    entity_tables,
    read_snapshot,
    write_snapshot,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def startup(id_: str, **features: object) -> Entity:
    return Entity(EntityKey(Kind("startup"), EntityId(id_)), features, NOW, NOW, active=id_ != "s2")  # type: ignore[arg-type]


STARTUPS = [
    startup("s1", name=Text("Ünïcode | pipe"), category=Categorical("ai"), tags=Multi(("a", "b"))),
    startup("s2"),
    startup("s3", founded_year=Numeric(2001.5), embedding=Embedding((0.25, -1.0))),
]


def interactions(n: int = 3) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "sequence": i,
                "interaction_id": f"i{i}",
                "use_case": "investor_startup",
                "subject_id": "a",
                "item_id": "s1",
                "event_type": "like",
                "event_time": NOW + timedelta(hours=i),
                "receive_time": NOW,
                "source": "organic",
            }
            for i in range(n)
        ],
        schema=INTERACTIONS,
    )


def written(folder: Path) -> Path:
    tables = {**entity_tables(STARTUPS), TableName.INTERACTIONS: interactions()}
    write_snapshot(folder, tables, watermark=7, created=NOW)
    return folder


def test_entities_come_back_as_they_were(tmp_path: Path) -> None:
    snapshot = read_snapshot(written(tmp_path))

    assert entities_of(snapshot, "startup") == STARTUPS
    assert entities_of(snapshot, "investor") == []


def test_the_manifest_says_what_is_in_it(tmp_path: Path) -> None:
    manifest = read_snapshot(written(tmp_path)).manifest

    assert manifest.watermark == 7
    assert manifest.counts == {
        "entities": 3, "features": 5, "interactions": 3, "sessions": 0, "dislikes": 0,
    }  # fmt: skip
    assert (manifest.first_event_time, manifest.last_event_time) == (NOW, NOW + timedelta(hours=2))


def test_equal_content_has_an_equal_fingerprint(tmp_path: Path) -> None:
    first = read_snapshot(written(tmp_path / "a")).manifest
    again = read_snapshot(written(tmp_path / "b")).manifest
    other = write_snapshot(tmp_path / "c", {}, watermark=7, created=NOW).manifest

    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_a_changed_file_is_refused_by_name(tmp_path: Path) -> None:
    folder = written(tmp_path)
    with (folder / "interactions.parquet").open("ab") as file:
        file.write(b"x")
    (folder / "sessions.parquet").unlink()

    with pytest.raises(InvalidInput) as raised:
        read_snapshot(folder)

    assert {v.field for v in raised.value.violations} == {"interactions.parquet", "sessions.parquet"}


def test_an_unfinished_export_is_no_snapshot(tmp_path: Path) -> None:
    written(tmp_path)

    def fail() -> None:
        with SnapshotWriter(tmp_path, watermark=8, created=NOW) as writer:
            writer.append(TableName.INTERACTIONS, interactions())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    with pytest.raises(NotFound):
        read_snapshot(tmp_path)


def test_every_column_that_does_not_fit_is_named(tmp_path: Path) -> None:
    table = interactions().drop_columns(["item_id"]).append_column("extra", [[1, 2, 3]])
    table = table.set_column(0, "sequence", pa.array([1, None, 3], pa.int64()))

    with pytest.raises(InvalidInput) as raised:
        write_snapshot(tmp_path, {TableName.INTERACTIONS: table}, watermark=0, created=NOW)

    assert {v.field for v in raised.value.violations} == {
        "interactions.item_id", "interactions.extra", "interactions.sequence",
    }  # fmt: skip
