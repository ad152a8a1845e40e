"""Where releases are registered: one registered model per use case, a version per release, aliases."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from matchloop.errors import ReleaseRefused
from matchloop.release.manifest import Manifest, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CHAMPION = "champion"
CHALLENGER = "challenger"

PROMOTED = "promoted"
"""Tag: when the release last became champion, ISO 8601 with its offset."""
FORCED = "forced"
"""Tag: which gates the promotion went over, or what else spoke against it; empty: none."""
ROLLED_BACK = "rolled_back"
"""Tag: when the release last lost the champion's place to one before it."""
ROLLBACK_REASON = "rollback_reason"
"""Tag: why it was rolled back."""


@dataclass(frozen=True, slots=True)
class RegisteredRelease:
    """A release as the registry knows it.

    Parameters
    ----------
    use_case, release
        Ids of the use case and the release.
    version
        The registry's version of it within the use case: a whole number, rising, as text.
    source
        Where its files are, in the registry's own terms.
    run_id
        The tracking run it came from; None where there are no runs.
    aliases
        Sorted aliases that point at it when this was read.
    tags
        What was noted about it, by name: its history and what its gates said.
    """

    use_case: str
    release: str
    version: str
    source: str
    run_id: str | None = None
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def promoted(self) -> datetime | None:
        """When it last became champion; None if it never did."""
        return self._time(PROMOTED)

    @property
    def rolled_back(self) -> datetime | None:
        """When it was rolled back; None if it never was, or was made champion again since."""
        found, promoted = self._time(ROLLED_BACK), self.promoted
        return None if found and promoted and promoted > found else found

    @property
    def rollback_reason(self) -> str:
        """Why it was rolled back; empty where `rolled_back` is None."""
        return self.tags.get(ROLLBACK_REASON, "") if self.rolled_back else ""

    @property
    def forced(self) -> str:
        """What spoke against its promotion, which was forced; else empty."""
        return self.tags.get(FORCED, "")

    def _time(self, tag: str) -> datetime | None:
        told = self.tags.get(tag)
        return datetime.fromisoformat(told) if told else None


class RegistryReader(Protocol):
    """Finds releases by alias and brings them.

    Every method raises `Unavailable` (reason REGISTRY_UNAVAILABLE) when the registry can't be reached.
    """

    def resolve(self, use_case: str, alias: str) -> RegisteredRelease | None:
        """Return the release an alias points at; None if it points nowhere."""

    def aliases(self) -> Mapping[str, Mapping[str, str]]:
        """Return every alias there is, in one read: by use case, from the alias to its version."""

    def fetch(self, registered: RegisteredRelease, destination: Path) -> Path:
        """Bring a release's files to ``destination/<release id>`` and return that folder.

        The folder appears whole or not at all; one that is there already and whole is not fetched again.

        Raises
        ------
        ReleaseRefused
            If the files fetched are not what the manifest says; nothing stays behind.
        """

    def manifest(self, registered: RegisteredRelease) -> Manifest:
        """Return what a release's manifest says, without bringing its other files.

        Raises
        ------
        ReleaseRefused
            If there is no manifest, or it is of another release.
        """

    def list(self, use_case: str) -> tuple[RegisteredRelease, ...]:
        """Return every release of a use case, newest version first; none for an unknown use case."""

    def use_cases(self) -> tuple[str, ...]:
        """Return the sorted ids of the use cases that a release is registered for."""


class Registry(RegistryReader, Protocol):
    """Registers releases, and says which of them an alias points at."""

    def register(
        self, folder: Path, use_case: str, *, run_id: str | None, metrics: Mapping[str, float]
    ) -> RegisteredRelease:
        """Store a release's files and make a version of it, once: the same release again changes nothing.

        Parameters
        ----------
        folder
            A whole release, ``manifest.json`` written.
        run_id
            The run to log the files to; None starts one of its own.
        metrics
            Logged to the run.

        Raises
        ------
        ReleaseRefused
            If the folder is not what its manifest says, or is of another use case.
        """

    def set_alias(self, use_case: str, alias: str, version: str) -> None:
        """Point an alias at a version; it leaves the version it pointed at.

        Raises
        ------
        NotFound
            If there is no such version (reason RELEASE_NOT_FOUND).
        """

    def drop_alias(self, use_case: str, alias: str) -> None:
        """Take an alias away; nothing happens if it points nowhere."""

    def tag(self, use_case: str, version: str, tags: Mapping[str, str]) -> None:
        """Note something about a version, one tag after the other; tags of the same name are overwritten.

        Raises
        ------
        NotFound
            If there is no such version (reason RELEASE_NOT_FOUND).
        """


def check_before_register(folder: Path, use_case: str) -> Manifest:
    """Verify a release's folder against itself and the use case it is to be registered for.

    Raises
    ------
    ReleaseRefused
        Naming every fault.
    """
    manifest = verify(folder, None)
    if manifest.use_case != use_case:
        raise ReleaseRefused(
            f"release {manifest.release}: is for use case {manifest.use_case}, not {use_case}"
        )
    return manifest


def place_verified(
    registered: RegisteredRelease, destination: Path, download: Callable[[Path], Path]
) -> Path:
    """Do what `Registry.fetch` promises, given how to download.

    Parameters
    ----------
    download
        Downloads the files into the empty folder it is given, and returns the folder they are in.
    """
    target = destination / registered.release
    if target.is_dir():
        try:
            return _verified(target, registered)
        except ReleaseRefused:
            shutil.rmtree(target)
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=destination) as unfinished:
        folder = _verified(download(Path(unfinished)), registered)
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            return _verified(target, registered)  # another process fetched it meanwhile
    return target


def read_manifest(registered: RegisteredRelease, folder: Path) -> Manifest:
    """Do what `Registry.manifest` promises, given a folder that holds the file."""
    manifest = Manifest.read(folder)
    _check_same(manifest, registered)
    return manifest


def _verified(folder: Path, registered: RegisteredRelease) -> Path:
    _check_same(verify(folder, None), registered)
    return folder


def _check_same(manifest: Manifest, registered: RegisteredRelease) -> None:
    if (manifest.release, manifest.use_case) != (registered.release, registered.use_case):
        raise ReleaseRefused(
            f"release {registered.release} of {registered.use_case}: the files are those of "
            f"release {manifest.release} of {manifest.use_case}"
        )
