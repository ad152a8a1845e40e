"""What a release's ``manifest.json`` says, and the check that the folder is what it says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from matchloop.errors import ReleaseRefused, SchemaMismatch
from matchloop.release.golden import GOLDEN_FILE
from matchloop.usecase import UseCase

MANIFEST_FILE = "manifest.json"
PARTS = ("als", "two_tower", "popular", "ranker")
"""Names of the parts a release may have; each is a folder. ``encoder/`` belongs to two_tower."""

RELEASE_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Frozen):
    """One file's checksum and size."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class SnapshotReference(_Frozen):
    """The snapshot a release was trained on: its watermark and the SHA-256 of its manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    watermark: str
    manifest_sha256: str


class Manifest(_Frozen):
    """What a release is.

    Parameters
    ----------
    release
        Its id: 1 to 128 letters, digits, ``.``, ``_``, ``-``.
    use_case, schema_fingerprint
        What it serves, and under which schema it was trained.
    created
        UTC.
    snapshot
        What it was trained on.
    parts
        Which of `PARTS` it has; each has a folder of that name.
    files
        Checksum and size by path relative to the folder, ``/`` between; every file but the manifest.
    metrics
        Offline metrics by name.
    """

    release: Annotated[str, Field(pattern=RELEASE_ID.pattern)]
    use_case: str
    created: AwareDatetime
    schema_fingerprint: str
    snapshot: SnapshotReference
    parts: tuple[str, ...]
    files: dict[str, FileEntry]
    metrics: dict[str, float] = Field(default_factory=dict)

    @classmethod
    def write(
        cls,
        folder: Path,
        *,
        release: str,
        use_case: UseCase,
        created: datetime,
        snapshot: SnapshotReference,
        parts: Sequence[str],
        metrics: Mapping[str, float],
    ) -> Manifest:
        """Checksum every file in `folder` and write ``manifest.json``, last of all files.

        Raises
        ------
        ReleaseRefused
            If a part is unknown or has no files, or ``golden.json`` is missing.
        """
        manifest = cls(
            release=release,
            use_case=use_case.id,
            created=created,
            schema_fingerprint=use_case.schema_fingerprint,
            snapshot=snapshot,
            parts=tuple(parts),
            files={path: _entry(folder / path) for path in _files(folder)},
            metrics=dict(metrics),
        )
        faults = _part_faults(manifest)
        if faults:
            raise ReleaseRefused(f"release {release}: " + "; ".join(faults))
        unfinished = folder / (MANIFEST_FILE + ".tmp")
        unfinished.write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        unfinished.replace(folder / MANIFEST_FILE)
        return manifest

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read ``manifest.json`` without looking at the other files.

        Raises
        ------
        ReleaseRefused
            If it is missing or not what it should be.
        """
        try:
            return cls.model_validate_json((folder / MANIFEST_FILE).read_bytes())
        except (OSError, ValidationError) as error:
            raise ReleaseRefused(f"{MANIFEST_FILE}: {error}") from error


def verify(folder: Path, use_case: UseCase | None) -> Manifest:
    """Check that a release's folder is whole, and fits the use case unless that is None.

    Raises
    ------
    SchemaMismatch
        If the only fault is that it was trained under another schema.
    ReleaseRefused
        Naming every fault: files missing, extra, links, of another size or checksum; parts without files;
        another use case or schema.
    """
    manifest = Manifest.read(folder)
    faults = [*_file_faults(folder, manifest), *_part_faults(manifest)]
    if use_case is not None:
        try:
            check_fits(manifest, use_case)
        except ReleaseRefused as misfit:
            if not faults:
                raise
            faults.append(misfit.message)
    if faults:
        raise ReleaseRefused(f"release {manifest.release}: " + "; ".join(faults))
    return manifest


def check_fits(manifest: Manifest, use_case: UseCase) -> None:
    """Check that a release is for a use case as it is declared here.

    Raises
    ------
    SchemaMismatch
        If it was trained under another schema.
    ReleaseRefused
        If it is for another use case.
    """
    what = f"release {manifest.release}"
    if manifest.use_case != use_case.id:
        raise ReleaseRefused(f"{what}: is for use case {manifest.use_case}, not {use_case.id}")
    if manifest.schema_fingerprint != use_case.schema_fingerprint:
        raise SchemaMismatch(
            what=what, expected=use_case.schema_fingerprint, found=manifest.schema_fingerprint
        )


def _file_faults(folder: Path, manifest: Manifest) -> list[str]:
    present = set(_files(folder))
    faults = [f"{path}: missing" for path in sorted(manifest.files.keys() - present)]
    faults += [f"{path}: not in the manifest" for path in sorted(present - manifest.files.keys())]
    for path in sorted(present & manifest.files.keys()):
        if (folder / path).is_symlink():
            faults.append(f"{path}: is a link")
            continue
        found, stated = _entry(folder / path), manifest.files[path]
        if found.bytes != stated.bytes:
            faults.append(f"{path}: {found.bytes} bytes instead of {stated.bytes}")
        elif found != stated:
            faults.append(f"{path}: SHA-256 {found.sha256[:12]}… instead of {stated.sha256[:12]}…")
    return faults


def _part_faults(manifest: Manifest) -> list[str]:
    faults = [f"{part}: no such part" for part in manifest.parts if part not in PARTS]
    faults += [
        f"{part}: a part without files"
        for part in manifest.parts
        if not any(path.startswith(f"{part}/") for path in manifest.files)
    ]
    if GOLDEN_FILE not in manifest.files:
        faults.append(f"{GOLDEN_FILE}: missing from the manifest")
    return faults


def _files(folder: Path) -> list[str]:
    """Return every file in the folder but the manifest, relative, sorted; links count as files."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if (path.is_symlink() or not path.is_dir()) and path != folder / MANIFEST_FILE
    )


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), bytes=path.stat().st_size)
