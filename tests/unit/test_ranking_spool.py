"""The spool: order, bounds, and what a crash may do to it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from matchloop.errors import Conflict
from ranking_svc import spool as module
from ranking_svc.spool import HEADER, Spool


def make(folder: Path, **bounds: Any) -> Spool:
    return Spool(folder, **{"max_records": 1000, "max_bytes": 1 << 20, **bounds})


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def drained(spool: Spool) -> list[bytes]:
    found: list[bytes] = []
    while batch := spool.peek(3):
        found += batch
        spool.remove(len(batch))
    return found


def test_records_leave_in_order_and_stay_until_removed(tmp_path: Path) -> None:
    with make(tmp_path) as spool:
        assert all(spool.append(b"%d" % i) for i in range(10))
        assert spool.peek(4) == [b"0", b"1", b"2", b"3"]
        assert spool.peek(4) == [b"0", b"1", b"2", b"3"]
        spool.remove(4)
        assert len(spool) == 6
        assert drained(spool) == [b"%d" % i for i in range(4, 10)]
        assert segments(tmp_path) == []


def test_records_survive_a_restart(tmp_path: Path) -> None:
    with make(tmp_path, segment_bytes=40) as spool:
        for i in range(20):
            spool.append(b"record%d" % i)
        spool.remove(7)
        assert len(segments(tmp_path)) > 2
    with make(tmp_path) as spool:
        found = drained(spool)
    # What was removed within a segment that still holds others comes again: delivery is idempotent.
    assert found[-13:] == [b"record%d" % i for i in range(7, 20)]


@pytest.mark.parametrize("cut", range(1, HEADER.size + 6))
def test_a_torn_tail_loses_the_torn_record_alone(tmp_path: Path, cut: int) -> None:
    with make(tmp_path) as spool:
        for payload in (b"first", b"second", b"third!"):
            spool.append(payload)
    (path,) = segments(tmp_path)
    os.truncate(path, path.stat().st_size - cut)
    with make(tmp_path) as spool:
        assert len(spool) == 2
        assert spool.append(b"fourth")
        assert drained(spool) == [b"first", b"second", b"fourth"]


def test_a_damaged_record_ends_its_segment(tmp_path: Path) -> None:
    with make(tmp_path, segment_bytes=1) as spool:
        for payload in (b"first", b"second", b"third"):
            spool.append(payload)
    damaged = segments(tmp_path)[1]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"X")
    with make(tmp_path) as spool:
        assert drained(spool) == [b"first", b"third"]


def test_a_header_that_promises_too_much_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / f"{1:020d}.spool").write_bytes(HEADER.pack(2**32 - 1, 0) + b"abc")
    with make(tmp_path) as spool:
        assert len(spool) == 0
        assert segments(tmp_path) == []
        assert spool.append(b"x")


def test_a_record_that_vanishes_is_dropped_and_the_rest_delivered(tmp_path: Path) -> None:
    with make(tmp_path, segment_bytes=1) as spool:
        for payload in (b"first", b"second", b"third"):
            spool.append(payload)
        segments(tmp_path)[0].unlink()
        assert spool.peek(5) == [b"second", b"third"]
        assert len(spool) == 2


def test_bounds_hold_and_room_comes_back(tmp_path: Path) -> None:
    with make(tmp_path, max_records=2) as spool:
        assert [spool.append(b"x") for _ in range(3)] == [True, True, False]
        spool.remove(1)
        assert spool.append(b"x")
    with make(tmp_path / "bytes", max_bytes=10) as spool:
        assert [spool.append(b"12345") for _ in range(3)] == [True, True, False]
        spool.remove(1)
        assert spool.append(b"12345")


def test_bounds_count_what_an_earlier_run_left(tmp_path: Path) -> None:
    with make(tmp_path) as spool:
        for _ in range(5):
            spool.append(b"x")
    with make(tmp_path, max_records=5) as spool:
        assert not spool.append(b"x")


def test_one_spool_at_a_time(tmp_path: Path) -> None:
    with make(tmp_path), pytest.raises(Conflict):
        make(tmp_path)
    make(tmp_path).close()


def test_a_full_disk_is_told_and_harms_no_other_record(tmp_path: Path, monkeypatch: Any) -> None:
    spool = make(tmp_path)
    spool.append(b"before")

    class Full:
        def __init__(self, file: Any) -> None:
            self.file, self.name = file, file.name

        def write(self, content: bytes) -> int:
            return int(self.file.write(content[:5]))

    original = module._write
    full: Any = Full
    monkeypatch.setattr(module, "_write", lambda file, content, **rest: original(full(file), content, **rest))
    with pytest.raises(OSError, match="No space"):
        spool.append(b"lost")
    monkeypatch.undo()
    assert spool.append(b"after")
    assert spool.peek(9) == [b"before", b"after"]
    spool.close()
    with make(tmp_path) as again:
        assert drained(again) == [b"before", b"after"]


def test_many_threads_append_and_every_record_is_flushed(tmp_path: Path, monkeypatch: Any) -> None:
    flushes = []
    lock = threading.Lock()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        with lock:
            flushes.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with make(tmp_path, segment_bytes=2000) as spool, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(spool.append, (b"%03d" % i for i in range(400))))
        assert flushes
        assert sorted(drained(spool)) == [b"%03d" % i for i in range(400)]
