"""Which ranges an export reads again, and where it cuts parts."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_svc.export.plan import SMALL_PARTS, Reading, amended, cut, readings
from feedback_svc.export.record import libpq_url
from matchloop.snapshot import FileEntry, TableName


def part(first: int, last: int, rows: int = 100, as_of: int = 10 << 9) -> FileEntry:
    return FileEntry(
        table=TableName.INTERACTIONS,
        sha256="",
        bytes=0,
        rows=rows,
        as_of=as_of,
        first_sequence=first,
        last_sequence=last,
    )


FILES = {"a": part(0, 9), "b": part(10, 19), "c": part(20, 29), "d": part(30, 39)}


def amendments(*rows: tuple[int, int]) -> pa.Table:
    sequences, changes = zip(*rows, strict=True) if rows else ((), ())
    return pa.table(
        {"sequence": pa.array(sequences, pa.int64()), "change_sequence": pa.array(changes, pa.int64())}
    )


@pytest.mark.parametrize(
    ("rows", "pruned", "stale"),
    [
        ([], 0, set()),
        ([(9, 11)], 0, {"a"}),
        ([(30, 11), (10, 11), (19, 12)], 0, {"b", "d"}),
        ([(15, 10)], 0, set()),
        ([(15, 11), (15, 10)], 0, {"b"}),
        ([(40, 11)], 0, set()),
        ([], 11, set()),
        ([], 12, {"a", "b", "c", "d"}),
    ],
)
def test_parts_amended_after_they_were_read_are_stale(
    rows: list[tuple[int, int]], pruned: int, stale: set[str]
) -> None:
    assert amended(FILES, amendments(*rows), pruned=pruned) == stale


def test_stale_neighbours_are_read_together_as_far_as_a_part_goes() -> None:
    assert readings(FILES, {"a", "b", "d"}, part_rows=200) == [
        Reading(0, 19, ("a", "b")),
        Reading(30, 39, ("d",)),
    ]
    assert readings(FILES, {"a", "b", "c"}, part_rows=200) == [
        Reading(0, 19, ("a", "b")),
        Reading(20, 29, ("c",)),
    ]


def test_small_parts_are_joined_when_there_are_many() -> None:
    small = {f"{n:02d}": part(n, n, rows=1) for n in range(1, SMALL_PARTS + 1)}
    files = {"large": part(0, 0, rows=1000), **small}
    assert readings(files, set(), part_rows=1000) == []
    files["more"] = part(50, 60, rows=1)
    assert readings(files, set(), part_rows=1000) == [Reading(1, 60, (*small, "more"))]


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=6),
    st.integers(1, 7),
)
def test_parts_hold_all_rows_and_no_sequence_is_in_two(steps: list[list[int]], part_rows: int) -> None:
    sequence, blocks = 0, []
    for block in steps:
        rows = []
        for step in block:
            sequence += step
            rows.append(sequence)
        blocks.append(pa.table({"sequence": pa.array(rows, pa.int64())}))
    parts: list[list[int]] = []
    for begins, piece in cut(blocks, part_rows):
        assert piece.num_rows
        if begins:
            parts.append([])
        parts[-1] += piece["sequence"].to_pylist()
    assert [n for p in parts for n in p] == [n for block in blocks for n in block["sequence"].to_pylist()]
    assert all(one[-1] < other[0] for one, other in pairwise(parts))
    assert all(len(p) >= part_rows for p in parts[:-1])
    assert all(len(p) <= part_rows or p[part_rows - 1] == p[-1] for p in parts)


def test_the_driver_is_taken_out_of_the_url() -> None:
    assert libpq_url("postgresql+psycopg2://u@/d?host=%2Ftmp") == "postgresql://u@/d?host=%2Ftmp"
    assert libpq_url("postgresql://u@h/d") == "postgresql://u@h/d"
