"""A backup of the registry: every release's files, and what the registry said of them at a moment.

It holds what serving and promotion need, whatever the registry is built on: releases, their order, aliases
and notes. Runs (curves, plots) are the tracking server's, which has means of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from matchloop.errors import BackupRefused, ReleaseRefused
from matchloop.release import RegisteredRelease, Registry, verify
from matchloop.snapshot.manifest import write_whole
from training_jobs.tracking import mlflow_name

RELEASES_FOLDER = "releases"
"""Beside the indexes, and shared by them: a release never changes."""
TIME = "%Y%m%dT%H%M%S.%fZ"
"""An index is called by its moment, UTC: names sort as times do."""


class KeptRelease(BaseModel):
    """A release in a backup: what `RegisteredRelease` says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use_case: str
    release: str
    version: int
    aliases: tuple[str, ...]
    tags: dict[str, str]

    def folder(self, index: Path) -> Path:
        """Return where its files are, beside an index."""
        return index.parent / RELEASES_FOLDER / self.use_case / self.release


class RegistryBackup(BaseModel):
    """What an index says; it is written last.

    Parameters
    ----------
    moment
        What was registered before it is in the backup.
    releases
        By use case and version, rising.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    moment: AwareDatetime
    releases: tuple[KeptRelease, ...]

    @classmethod
    def read(cls, index: Path) -> Self:
        """Read an index and hold every release against its manifest.

        Raises
        ------
        BackupRefused
            Naming every fault of every release.
        """
        try:
            backup = cls.model_validate_json(index.read_bytes())
        except (OSError, ValidationError) as error:
            raise BackupRefused(f"{index} is no backup of a registry: {error}") from error
        faults = [fault for kept in backup.releases if (fault := _fault(kept, index))]
        if faults:
            raise BackupRefused(f"{index.parent} is not as it was written: {'; '.join(faults)}")
        return backup


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a backup.

    Parameters
    ----------
    index
        The file that names what is in it.
    left_out
        Why releases are not in it, by ``<use case>/<release>``: the registry's own copy is damaged.
    """

    backup: RegistryBackup
    index: Path
    left_out: Mapping[str, str]


def back_up(registry: Registry, folder: Path, *, clock: Callable[[], datetime]) -> Written:
    """Write an index of the registry as it is, and fetch the releases that the folder has not yet.

    Taken after the record's, it has every release that the record names.

    Raises
    ------
    Unavailable
        When the registry cannot be reached; backups of before stay as they were.
    """
    now = clock()
    kept: list[KeptRelease] = []
    left_out: dict[str, str] = {}
    for use_case in registry.use_cases():
        for registered in reversed(registry.list(use_case)):
            try:
                registry.fetch(registered, folder / RELEASES_FOLDER / use_case)
            except ReleaseRefused as error:
                left_out[f"{use_case}/{registered.release}"] = error.message
            else:
                kept.append(_kept(registered))
    backup = RegistryBackup(moment=now, releases=tuple(kept))
    index = folder / f"{now.strftime(TIME)}.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(index, backup.model_dump_json(indent=1))
    return Written(backup, index, left_out)


def restore(registry: Registry, index: Path) -> RegistryBackup:
    """Register every release of a backup, in order, with its notes; then set the aliases.

    No service follows a release before all are there. Broken off, it goes on when it is asked again.
    Versions are counted anew.

    Raises
    ------
    BackupRefused
        When the backup is damaged, or the registry has aliases, or releases that the backup has not, for
        one of its use cases.
    Unavailable
        When the registry cannot be reached.
    """
    backup = RegistryBackup.read(index)
    _check_place(registry, backup)
    restored: list[tuple[KeptRelease, RegisteredRelease]] = []
    for kept in backup.releases:
        path = kept.folder(index)
        reached = {mlflow_name(name): value for name, value in verify(path, None).metrics.items()}
        registered = registry.register(path, kept.use_case, run_id=None, metrics=reached)
        registry.tag(kept.use_case, registered.version, kept.tags)
        restored.append((kept, registered))
    for kept, registered in restored:
        for alias in kept.aliases:
            registry.set_alias(kept.use_case, alias, registered.version)
    return backup


def _check_place(registry: Registry, backup: RegistryBackup) -> None:
    ours: dict[str, set[str]] = {}
    for kept in backup.releases:
        ours.setdefault(kept.use_case, set()).add(kept.release)
    faults: list[str] = []
    for use_case, releases in ours.items():
        for known in registry.list(use_case):
            if known.aliases:
                faults.append(f"{known.release} is {', '.join(known.aliases)} of {use_case}")
            elif known.release not in releases:
                faults.append(f"{known.release} of {use_case} is registered")
    if faults:
        raise BackupRefused(f"the registry is not empty: {'; '.join(faults)}")


def _kept(registered: RegisteredRelease) -> KeptRelease:
    known: dict[str, Any] = {name: getattr(registered, name) for name in ("use_case", "release", "aliases")}
    return KeptRelease(**known, version=int(registered.version), tags=dict(registered.tags))


def _fault(kept: KeptRelease, index: Path) -> str | None:
    """Return what speaks against a release of a backup; None when nothing does."""
    try:
        manifest = verify(kept.folder(index), None)
    except ReleaseRefused as error:
        return f"{kept.use_case}/{kept.release}: {error.message}"
    if (manifest.use_case, manifest.release) != (kept.use_case, kept.release):
        return f"{kept.use_case}/{kept.release}: is {manifest.use_case}/{manifest.release}"
    return None
