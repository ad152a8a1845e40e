"""What was read of a file is kept while nobody wrote to it, and not a write longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from matchloop.release.file_changes import WhileUnchanged

WRITTEN = 1_000.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "file", "one")


def write(path: Path, text: str, at: float = WRITTEN) -> Path:
    path.write_text(text)
    os.utime(path, (at, at))
    return path


def test_a_file_is_read_again_once_it_was_written_to(file: Path) -> None:
    kept: WhileUnchanged[str] = WhileUnchanged([file], clock=lambda: WRITTEN + 60.0)
    reads = []

    def read() -> str:
        reads.append(1)
        return file.read_text()

    assert [kept.read(read) for _ in range(3)] == ["one"] * 3
    assert len(reads) == 1
    write(file, "two", WRITTEN + 10.0)
    assert [kept.read(read) for _ in range(3)] == ["two"] * 3
    assert len(reads) == 2


def test_what_was_written_a_moment_ago_may_be_written_again_at_the_same_tick(file: Path) -> None:
    kept: WhileUnchanged[str] = WhileUnchanged([file], clock=lambda: WRITTEN + 0.5)
    assert kept.read(file.read_text) == "one"
    write(file, "two")
    assert kept.read(file.read_text) == "two"


def test_files_that_come_and_go_are_changes(file: Path) -> None:
    journal = file.with_name("journal")
    kept: WhileUnchanged[bool] = WhileUnchanged([file, journal], clock=lambda: WRITTEN + 60.0)
    assert not kept.read(journal.exists)
    write(journal, "")
    assert kept.read(journal.exists)
    journal.unlink()
    assert not kept.read(journal.exists)


def test_what_could_not_be_read_is_not_kept(file: Path) -> None:
    kept: WhileUnchanged[str] = WhileUnchanged([file], clock=lambda: WRITTEN + 60.0)

    def fails() -> str:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        kept.read(fails)
    assert kept.read(file.read_text) == "one"
