"""The folder that a benchmark works in: a new one that goes, or one that is kept for more runs."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

Folder = Annotated[
    Path | None, typer.Option(help="Keeps what takes long to make, for more runs; left out: nothing is kept.")
]
"""The option of benchmarks that fill something first."""


@contextmanager
def data_folder(given: Path | None) -> Iterator[Path]:
    """Give a folder that another user can enter: the one named, which stays, or a new one, which goes."""
    folder = given or Path(tempfile.mkdtemp(prefix="benchmark-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # PostgreSQL may run as another user
    try:
        yield folder
    finally:
        if given is None:
            shutil.rmtree(folder, ignore_errors=True)
