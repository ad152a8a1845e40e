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
    FileWriter,
    SnapshotManifest,
    TableName,
    entities_of,
    entity_tables,
    publish,
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
        "matches": 0, "tombstones": 0,
    }  # fmt: skip
    assert (manifest.first_event_time, manifest.last_event_time) == (NOW, NOW + timedelta(hours=2))


def test_equal_content_has_an_equal_fingerprint(tmp_path: Path) -> None:
    first = read_snapshot(written(tmp_path / "a")).manifest
    again = read_snapshot(written(tmp_path / "b")).manifest
    other = write_snapshot(tmp_path / "c", {}, watermark=7, created=NOW).manifest

    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_a_changed_file_is_refused_by_name(tmp_path: Path) -> None:
    snapshot = read_snapshot(written(tmp_path))
    (damaged,) = snapshot.paths(TableName.INTERACTIONS)
    (missing,) = snapshot.paths(TableName.SESSIONS)
    with damaged.open("ab") as file:
        file.write(b"x")
    missing.unlink()

    with pytest.raises(InvalidInput) as raised:
        read_snapshot(tmp_path)

    assert {v.field for v in raised.value.violations} == {damaged.name, missing.name}


def test_another_version_is_refused_as_such(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"schema_version": 1, "watermark": 3, "files": {}}')

    with pytest.raises(InvalidInput, match="schema version 1, not 3"):
        read_snapshot(tmp_path)


def test_what_fails_leaves_the_snapshot_before_it(tmp_path: Path) -> None:
    before = read_snapshot(written(tmp_path)).manifest
    faulty = interactions().drop_columns(["item_id"])

    with pytest.raises(InvalidInput):
        write_snapshot(tmp_path, {TableName.INTERACTIONS: faulty}, watermark=8, created=NOW)

    assert read_snapshot(tmp_path).manifest == before
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_new_snapshot_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "notes.txt").touch()

    manifest = write_snapshot(tmp_path, {}, watermark=8, created=NOW).manifest

    assert {path.name for path in tmp_path.iterdir()} == {*manifest.files, "manifest.json", "notes.txt"}


def parts(folder: Path, *numbers: tuple[int, int]) -> SnapshotManifest:
    """Write a snapshot whose interactions come in parts, from and up to numbers."""
    files = dict(write_snapshot(folder, {}, watermark=7, created=NOW).manifest.files)
    files = {name: entry for name, entry in files.items() if entry.table != TableName.INTERACTIONS}
    for start, end in numbers:
        file = FileWriter(folder, TableName.INTERACTIONS, as_of=7)
        file.append(interactions(end).slice(start))
        name, entry = file.finish()
        files[name] = entry
    publish(folder, SnapshotManifest.of(files, watermark=7, created=NOW))
    return SnapshotManifest.read(folder)


def test_parts_read_as_one_table_in_order(tmp_path: Path) -> None:
    manifest = parts(tmp_path, (4, 9), (0, 2), (2, 4))
    snapshot = read_snapshot(tmp_path)

    assert snapshot.table(TableName.INTERACTIONS).equals(interactions(9))
    assert [path.name.split("-")[1][-2:] for path in snapshot.paths(TableName.INTERACTIONS)] == [
        "00", "02", "04",
    ]  # fmt: skip
    assert manifest.counts[TableName.INTERACTIONS] == 9
    entries = manifest.files_of(TableName.INTERACTIONS).values()
    assert [(e.first_sequence, e.last_sequence) for e in entries] == [(0, 1), (2, 3), (4, 8)]
    assert manifest.last_event_time == NOW + timedelta(hours=8)


def test_parts_that_overlap_are_refused(tmp_path: Path) -> None:
    parts(tmp_path, (0, 3), (2, 4))

    with pytest.raises(InvalidInput, match="parts overlap"):
        read_snapshot(tmp_path)


def test_a_folder_without_a_manifest_holds_no_snapshot(tmp_path: Path) -> None:
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
