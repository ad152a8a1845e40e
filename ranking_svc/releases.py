"""The ranker of each use case's release, as the slots hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from matchloop.release.manifest import Manifest
from matchloop.release.slot import Loaded, ReleaseSlot
from matchloop.rerank.scorer import PART, Ranker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from matchloop.release.golden import Answerer
    from matchloop.usecase import UseCase


@dataclass(frozen=True, slots=True)
class RankingPart:
    """What ranking_svc uses of a release: its ranker, None when the release has none."""

    ranker: Ranker | None


LoadedRanking = Loaded[RankingPart]


def loader(use_case: UseCase) -> Callable[[Path, Manifest], RankingPart]:
    """Return what loads the ranking part of a release of `use_case`; see `ReleaseSlot.load`."""

    def load(folder: Path, manifest: Manifest) -> RankingPart:
        return RankingPart(Ranker.load(folder / PART, use_case) if PART in manifest.parts else None)

    return load


def answers(part: RankingPart) -> Mapping[str, Answerer]:
    """Return what answers the golden requests of the parts that are used here."""
    return {} if part.ranker is None else {PART: part.ranker.answer}


class Slot(Protocol):
    """What is used of a `ReleaseSlot`."""

    def current(self) -> LoadedRanking | None:
        """Return the release to serve with."""

    def find(self, release: str) -> LoadedRanking | None:
        """Return the release of that id while it is still loaded."""


class Releases:
    """The slots by use case; a use case without a slot has no release.

    Parameters
    ----------
    slots
        The champions'.
    challengers
        The challengers', which serve in experiments.
    """

    def __init__(self, slots: Mapping[str, Slot], challengers: Mapping[str, Slot] | None = None) -> None:
        self._slots = slots
        self._challengers = challengers or {}

    def choose(self, use_case: str, release: str) -> LoadedRanking | None:
        """Return the release that found the candidates if it is loaded here, else the current champion."""
        slot = self._slots.get(use_case)
        return None if slot is None else self._find(use_case, release) or slot.current()

    def expected(self, use_case: str, *, challenger: bool) -> str:
        """Return the id of the champion's release, or of the challenger's if there is one; else empty."""
        found = [self._challengers.get(use_case)] if challenger else []
        for slot in (*found, self._slots.get(use_case)):
            loaded = slot.current() if slot is not None else None
            if loaded is not None:
                return loaded.release
        return ""

    def manifest(self, use_case: str, release: str) -> Manifest | None:
        """Return the manifest of a release that is loaded here."""
        loaded = self._find(use_case, release)
        return None if loaded is None else loaded.manifest

    def _find(self, use_case: str, release: str) -> LoadedRanking | None:
        for slot in (self._slots.get(use_case), self._challengers.get(use_case)):
            loaded = slot.find(release) if slot is not None else None
            if loaded is not None:
                return loaded
        return None


__all__ = [
    "LoadedRanking",
    "RankingPart",
    "ReleaseSlot",
    "Releases",
    "Slot",
    "answers",
    "loader",
]
