"""What a backup's folder holds, and whether it still does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from matchloop.errors import BackupRefused
from matchloop.snapshot.manifest import sha256_of, write_whole

CONTENTS_FILE = "backup.json"
DUMP_FOLDER = "dump"


class FileEntry(BaseModel):
    """One file's checksum and size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class Backup(BaseModel):
    """What ``backup.json`` says; it is written last.

    Parameters
    ----------
    moment
        What was acknowledged before it is in the backup.
    revision
        Version of the schema.
    postgres, pg_dump
        Major versions of the server and of the program that wrote the dump.
    rows
        Rows by table, as of the moment of the dump.
    files
        Checksum and size of every other file, by path relative to the folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    moment: AwareDatetime
    revision: str
    postgres: int
    pg_dump: int
    rows: dict[str, int]
    files: dict[str, FileEntry]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``backup.json`` and hold every file against it.

        Raises
        ------
        BackupRefused
            Naming every file that is missing, extra, or of another size or checksum.
        """
        try:
            backup = cls.model_validate_json((folder / CONTENTS_FILE).read_bytes())
        except FileNotFoundError:
            raise BackupRefused(
                f"{folder}: no {CONTENTS_FILE}, so no backup, or one that was broken off"
            ) from None
        except (OSError, ValidationError) as error:
            raise BackupRefused(f"{folder / CONTENTS_FILE}: {error}") from error
        found = entries_of(folder)
        faults = [
            f"{path}: {_fault(backup.files.get(path), found.get(path))}"
            for path in sorted(backup.files.keys() | found.keys())
            if backup.files.get(path) != found.get(path)
        ]
        if faults:
            raise BackupRefused(f"{folder} is not as it was written: {'; '.join(faults)}")
        return backup

    def write(self, folder: Path) -> None:
        """Write ``backup.json`` in one step."""
        write_whole(folder / CONTENTS_FILE, self.model_dump_json(indent=1))

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(entry.bytes for entry in self.files.values())


def entries_of(folder: Path) -> dict[str, FileEntry]:
    """Return checksum and size of every file of a backup but ``backup.json``."""
    return {
        path.relative_to(folder).as_posix(): FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / CONTENTS_FILE
    }


def _fault(stated: FileEntry | None, found: FileEntry | None) -> str:
    if stated is None:
        return "was not there"
    if found is None:
        return "missing"
    if found.bytes != stated.bytes:
        return f"{found.bytes} bytes instead of {stated.bytes}"
    return f"SHA-256 {found.sha256[:12]}… instead of {stated.sha256[:12]}…"
