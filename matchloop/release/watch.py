"""One look at a registry for all the slots of a process."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from matchloop.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from matchloop.release.registry import RegisteredRelease, RegistryReader


class RegistryWatch:
    """What slots ask of a registry, read once for all of them: a process has two slots a use case.

    A registry that can't be reached is not asked again before its time either, so that slots do not wait
    for its timeout one after the other.

    Parameters
    ----------
    registry
        Who is asked.
    fresh_seconds
        How old an answer may be; a slot that polls every so often sees a new alias after two polls at most.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, registry: RegistryReader, fresh_seconds: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._fresh_seconds = fresh_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._looked: float | None = None
        self._aliases: Mapping[str, Mapping[str, str]] = {}
        self._fault: Unavailable | None = None
        self._known: dict[tuple[str, str, str], RegisteredRelease] = {}

    def resolve(self, use_case: str, alias: str) -> RegisteredRelease | None:
        """See `RegistryReader`; aliases and tags are those of when the alias was first seen on a version."""
        with self._lock:
            version = self._look().get(use_case, {}).get(alias)
            if version is None:
                return None
            key = (use_case, alias, version)
            if key not in self._known:
                found = self._registry.resolve(use_case, alias)
                if found is None or found.version != version:  # it moved meanwhile
                    return found
                self._known = {seen: each for seen, each in self._known.items() if seen[:2] != key[:2]}
                self._known[key] = found
            return self._known[key]

    def fetch(self, registered: RegisteredRelease, destination: Path) -> Path:
        """See `RegistryReader`."""
        return self._registry.fetch(registered, destination)

    def _look(self) -> Mapping[str, Mapping[str, str]]:
        now = self._clock()
        if self._looked is None or now - self._looked >= self._fresh_seconds:
            try:
                self._aliases, self._fault = self._registry.aliases(), None
            except Unavailable as error:
                self._fault = error
            self._looked = self._clock()
        if self._fault is not None:
            raise self._fault.with_traceback(None)
        return self._aliases
