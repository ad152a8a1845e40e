"""Where the present champion's files are, and what is read of them without loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matchloop.errors import ReleaseRefused
from matchloop.release import Manifest
from matchloop.release.manifest import verify
from matchloop.rerank.scorer import RankerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matchloop.release import RegisteredRelease, Registry
    from matchloop.rerank.calibration import Platt
    from matchloop.usecase import Method, UseCase


def champion_folder(registry: Registry, champion: RegisteredRelease, work: Path) -> Path:
    """Return a release's folder: where it was built, else where it is fetched to."""
    own = work / champion.use_case
    built = next(own.glob(f"*/release/{champion.release}"), None)
    return built or registry.fetch(champion, own / "fetched")


def usable_folder(
    registry: Registry, champion: RegisteredRelease, use_case: UseCase, work: Path
) -> Path | None:
    """Return a release's folder; None when it can't be used any more (another schema)."""
    folder = champion_folder(registry, champion, work)
    try:
        verify(folder, use_case)
    except ReleaseRefused:
        return None
    return folder


def served_calibration(folder: Path | None) -> Mapping[Method, Platt]:
    """Return the calibration under which a champion's lists were served; {} for none."""
    if folder is None or "ranker" not in Manifest.read(folder).parts:
        return {}
    try:
        return RankerSpec.read(folder / "ranker").calibration
    except ReleaseRefused:  # its ranker is not compared with either: see `champion_ranker`
        return {}
