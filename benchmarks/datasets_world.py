"""A record as large as asked, written straight into a snapshot, for `benchmarks.datasets`.

Lists of ten with their features, reactions to what was looked at of them, and organic interactions beside
them; popular items and busy subjects have more of all. Some ids are of entities that the snapshot does not
hold. Everything is drawn part by part, so memory does not grow with the record.
"""

from __future__ import annotations

import shutil
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from matchloop.position import examination
from matchloop.snapshot import (
    SCHEMAS,
    FileEntry,
    FileWriter,
    SnapshotManifest,
    TableName,
    publish,
    read_snapshot,
)
from matchloop.usecase import load_use_cases

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from matchloop.snapshot import Snapshot
    from matchloop.usecase import UseCase

USE_CASE = "developer_startup"
LENGTH = 10
"""Items of a list."""
DAYS = 90
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
PART_LISTS = 200_000
"""Lists in a part, as an export has them; the interactions of its time are a part too."""
BLOCK = 50_000
"""Rows appended at a time, as the database gives them: Parquet is read in parallel by them."""
ERASED = 0.005
"""So many more ids than entities there are in the record."""
CATEGORIES = 25
LISTED = {"view": 0.3, "click": 0.2, "like": 0.05, "apply": 0.02, "interest": 0.01, "dislike": 0.02}
"""Chances of what comes of an item of a list that is looked at; what is left of 1: nothing."""
ORGANIC = {"view": 0.6, "click": 0.25, "like": 0.08, "favorite": 0.03, "apply": 0.03, "dislike": 0.01}


@dataclass(frozen=True, slots=True)
class Size:
    """How many of each."""

    interactions: int
    sessions: int
    subjects: int
    items: int


def record_of(folder: Path, size: Size, advance: Callable[[int], object] = lambda _: None) -> Snapshot:
    """Return a record of this size: the one in the folder, when it is whole, else a new one.

    Parameters
    ----------
    advance
        Told how many more interactions there are.
    """
    name = "drawn/" + "-".join(map(str, astuple(size)))
    made = SnapshotManifest.read(folder) if (folder / "manifest.json").is_file() else None
    if made is None or made.store != name:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        files = _write(folder, size, advance)
        taken = BEGAN + timedelta(days=DAYS + 1)
        publish(folder, SnapshotManifest.of(files, watermark=size.interactions, created=taken, store=name))
    return read_snapshot(folder)


def _write(folder: Path, size: Size, advance: Callable[[int], object]) -> dict[str, FileEntry]:
    files: dict[str, FileEntry] = {}

    def add(name: TableName, table: pa.Table) -> None:
        file = FileWriter(folder, name, as_of=size.interactions)
        for at in range(0, max(len(table), 1), BLOCK):
            file.append(table.slice(at, BLOCK))
        written, files[written] = file.finish()

    people, rng = _People.of(size), np.random.default_rng(0)
    parts = -(-size.sessions // PART_LISTS)
    steps = [
        np.linspace(0, n, parts + 1).astype(int) for n in (DAYS * 86_400, size.sessions, size.interactions)
    ]
    dislikes = []
    for begin, end in zip(*(np.column_stack(steps)[at:][:parts] for at in (0, 1)), strict=True):
        sessions = _sessions(people, begin, end, rng)
        interactions = _interactions(people, sessions, begin, end, rng)
        add(TableName.SESSIONS, sessions)
        add(TableName.INTERACTIONS, interactions)
        dislikes.append(_dislikes(interactions))
        advance(interactions.num_rows)
    whole = {TableName.DISLIKES: pa.concat_tables(dislikes), **people.tables()}
    for name in TableName:
        if name not in (TableName.SESSIONS, TableName.INTERACTIONS):
            add(name, whole.get(name, SCHEMAS[name].empty_table()))
    return files


@dataclass(frozen=True, slots=True)
class _People:
    """Ids of both sides, erased ones at the end, and how likely each item is met, cumulated."""

    use_case: UseCase
    size: Size
    subjects: pa.Array
    items: pa.Array
    popularity: NDArray[np.float64]

    @classmethod
    def of(cls, size: Size) -> Self:
        use_case = load_use_cases()[USE_CASE]
        sides = ((use_case.subject, size.subjects), (use_case.item, size.items))
        subjects, items = (_numbered(kind, 0, count + int(count * ERASED)) for kind, count in sides)
        worth = np.cumsum(1.0 / (np.random.default_rng(1).permutation(len(items)) + 20.0))
        return cls(use_case, size, subjects, items, worth / worth[-1])

    def drawn(self, count: int, rng: np.random.Generator) -> tuple[pa.Array, NDArray[np.int64]]:
        """Return so many subjects, the first ones more often, and rows of items, popular ones more often."""
        subject = (rng.random(count) ** 1.5 * len(self.subjects)).astype(np.int64)
        return self.subjects.take(pa.array(subject)), np.searchsorted(self.popularity, rng.random(count))

    def tables(self) -> dict[TableName, pa.Table]:
        """Return the entities that are there, and two features of each."""
        entities, features = [], []
        sides = (
            (self.use_case.subject, self.subjects[: self.size.subjects]),
            (self.use_case.item, self.items[: self.size.items]),
        )
        categories = _numbered("category", 0, CATEGORIES)
        for kind, ids in sides:
            key = {"kind": _same(kind, len(ids)), "id": ids}
            entities.append(_table(TableName.ENTITIES, key | {"active": np.ones(len(ids), np.bool_)}))
            values = _lists(categories.take(pa.array(np.arange(len(ids)) % CATEGORIES)), 1)
            for name, type_ in (("country", "categorical"), ("tags", "multi")):
                told = {"name": _same(name, len(ids)), "type": _same(type_, len(ids)), "values": values}
                features.append(_table(TableName.FEATURES, key | told))
        return {
            TableName.ENTITIES: pa.concat_tables(entities),
            TableName.FEATURES: pa.concat_tables(features),
        }


def _sessions(
    people: _People, begin: NDArray[np.int64], end: NDArray[np.int64], rng: np.random.Generator
) -> pa.Table:
    """Return lists in order of time; `begin` and `end` hold second, list and interaction."""
    count, names = int(end[1] - begin[1]), people.use_case.ranking.features
    subject, first = people.drawn(count, rng)
    step = rng.integers(1, len(people.items) // LENGTH, count)
    item = (first[:, None] + np.arange(LENGTH) * step[:, None]).reshape(-1) % len(people.items)
    score = -np.sort(-rng.random((count, LENGTH)), axis=1).reshape(-1)
    features = rng.random((count * LENGTH, len(names)), dtype=np.float32)
    features[:, names.index("original_score")] = np.clip(score, 0.01, 0.99)
    columns = {
        "sequence": np.arange(begin[1], end[1]),
        "session_id": _hexadecimal(count, rng),
        "use_case": _same(people.use_case.id, count),
        "subject_id": subject,
        "reranked": rng.random(count) < 0.9,
        "source": _same("ranking", count),
        "serve_time": np.sort(_times(begin, end, count, rng)),
        "item_ids": _lists(people.items.take(pa.array(item)), LENGTH),
        "scores": _lists(pa.array(score), LENGTH),
        "methods": _lists(_same("als", len(item)), LENGTH),
        "feature_names": _lists(pa.array(list(names) * count), len(names)),
        "feature_values": _lists(pa.array(features.reshape(-1)), LENGTH * len(names)),
        "retrieval_scores": _lists(pa.array(score), LENGTH),
    }
    return _table(TableName.SESSIONS, columns)


def _interactions(
    people: _People,
    sessions: pa.Table,
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    rng: np.random.Generator,
) -> pa.Table:
    """Return the reactions to these lists, and organic ones, in order of time."""
    wanted = int(end[2] - begin[2])
    listed = _reactions(sessions, rng).slice(0, wanted)
    count = wanted - len(listed)
    subject, item = people.drawn(count, rng)
    organic = {
        "subject_id": subject,
        "item_id": people.items.take(pa.array(item)),
        "event_type": rng.choice(list(ORGANIC), count, p=list(ORGANIC.values())),
        "event_time": _times(begin, end, count, rng),
        "source": _same("organic", count),
    }
    both = pa.concat_tables([listed, _unnumbered(people.use_case.id, organic)]).sort_by("event_time")
    both = both.set_column(0, "sequence", pa.array(np.arange(begin[2], end[2])))
    return both.set_column(1, "interaction_id", _hexadecimal(wanted, rng))


def _reactions(sessions: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Return what comes of lists, by list."""
    count = len(sessions) * LENGTH
    rank = np.arange(count) % LENGTH + 1
    kinds = np.array([*LISTED, ""])
    drawn = np.searchsorted(np.cumsum(list(LISTED.values())), rng.random(count), side="right")
    at = np.flatnonzero((rng.random(count) < examination(rank)) & (drawn < len(LISTED)))
    of_list, flat = pa.array(at // LENGTH), pa.array(at)
    later = rng.integers(1, 600, len(at)).astype("timedelta64[s]")
    told = {
        "subject_id": sessions["subject_id"].take(of_list),
        "item_id": pc.list_flatten(sessions["item_ids"]).take(flat),
        "event_type": kinds[drawn[at]],
        "event_time": sessions["serve_time"].to_numpy()[at // LENGTH] + later,
        "source": _same("recommendation", len(at)),
        "session_id": sessions["session_id"].take(of_list),
        "rank": rank[at],
        "score": pc.list_flatten(sessions["scores"]).take(flat),
        "method": _same("als", len(at)),
    }
    return _unnumbered(sessions["use_case"][0].as_py(), told)


def _unnumbered(use_case: str, columns: Mapping[str, Any]) -> pa.Table:
    """Return interactions whose `sequence` and `interaction_id` are null yet."""
    count, time = len(columns["event_time"]), columns["event_time"]
    return _table(
        TableName.INTERACTIONS, {**columns, "use_case": _same(use_case, count), "receive_time": time}
    )


def _dislikes(interactions: pa.Table) -> pa.Table:
    found = interactions.filter(pc.equal(interactions["event_type"], "dislike"))
    kept = {name: found[name] for name in ("use_case", "subject_id", "item_id", "session_id", "event_time")}
    reason = _same("not_interested", len(found))
    return _table(TableName.DISLIKES, {**kept, "dislike_id": found["interaction_id"], "reason": reason})


def _table(name: TableName, columns: Mapping[str, Any]) -> pa.Table:
    """Return a table with these columns; the others are null."""
    count = len(next(iter(columns.values())))
    made = []
    for field in SCHEMAS[name]:
        column = columns.get(field.name, pa.nulls(count))
        made.append((pa.array(column) if isinstance(column, np.ndarray) else column).cast(field.type))
    return pa.table(made, names=SCHEMAS[name].names)


def _times(
    begin: NDArray[np.int64], end: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.datetime64]:
    seconds = rng.integers(begin[0], end[0], count).astype("timedelta64[s]")
    return np.asarray(np.datetime64(BEGAN.replace(tzinfo=None), "us") + seconds)


def _numbered(prefix: str, first: int, end: int) -> pa.Array:
    return pa.array([f"{prefix}-{number}" for number in range(first, end)])


def _hexadecimal(count: int, rng: np.random.Generator) -> pa.Array:
    """Return ids as long as a UUID's digits."""
    digits = rng.bytes(count * 16).hex().encode()
    offsets = np.arange(0, len(digits) + 1, 32, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(digits))


def _same(value: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value), count)


def _lists(flat: pa.Array, size: int) -> pa.Array:
    return pa.ListArray.from_arrays(np.arange(0, len(flat) + 1, size, dtype=np.int32), flat)
