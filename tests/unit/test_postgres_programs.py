"""PostgreSQL's programs are found in a version that fits, and no password stands on a command line."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from feedback_svc.backup import programs
from feedback_svc.backup.programs import Program, find_program, run_program
from matchloop.errors import Unavailable


@pytest.fixture
def old_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only pg_dump there is: of version 12, it writes down how it was called."""
    program = tmp_path / "bin" / "pg_dump"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'pg_dump (PostgreSQL) 12.9' && exit\n"
        'echo "$PGPASSWORD $@" >&2; exit 1\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(programs, "DEBIAN", tmp_path / "none")
    monkeypatch.setattr(programs, "PACKAGE", "no_such_package")
    return program


def test_a_program_that_is_too_old_is_named(old_program: Path) -> None:
    assert find_program("pg_dump", at_least=12) == Program(old_program, 12)
    with pytest.raises(
        Unavailable, match=f"needed, and {old_program} is of version 12: install postgresql-client-16"
    ):
        find_program("pg_dump", at_least=16)
    with pytest.raises(Unavailable, match="needed, and there is none: install"):
        find_program("pg_restore", at_least=16)


def test_the_password_is_on_no_command_line(old_program: Path) -> None:
    url = "postgresql+psycopg2://somebody:se%40cret@host:5433/matchloop?sslmode=require"
    with pytest.raises(Unavailable) as raised:
        run_program(Program(old_program, 12), url, "--jobs=1")
    called = (
        "--dbname=host=host dbname=matchloop user=somebody port=5433 sslmode=require --no-password --jobs=1"
    )
    assert raised.value.message == f"se@cret {called}"
