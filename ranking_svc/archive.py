"""Manifests of releases that are not loaded here, asked of the registry: in time, or not at all."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING

from matchloop.errors import MatchloopError, NotFound, Reason, Unavailable
from matchloop.observe.logs import get_logger
from matchloop.rpc import deadline

if TYPE_CHECKING:
    from matchloop.release.manifest import Manifest
    from matchloop.release.registry import RegistryReader

KEPT = 256
"""Manifests kept; a manifest never changes."""
LOOKUPS = 4
"""Lookups in flight at most: a registry that hangs does not gather threads."""
WAIT_SECONDS = 2.0
RESERVE_SECONDS = 0.05
"""Of the caller's time, kept for the answer."""

_log = get_logger()


class Archive:
    """Reads manifests from a registry, each once while it is kept.

    A lookup runs in a thread of its own; one that takes longer than its caller can wait goes on, and its
    answer is there for the next.

    Parameters
    ----------
    registry
        Where releases are registered.
    kept
        Manifests kept, those asked for last.
    wait_seconds
        Longest wait for the registry; the caller's own time may be shorter.
    """

    def __init__(
        self, registry: RegistryReader, *, kept: int = KEPT, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._registry = registry
        self._most = kept
        self._wait = wait_seconds
        self._kept: OrderedDict[tuple[str, str], Manifest] = OrderedDict()
        self._running: dict[tuple[str, str], Future[Manifest]] = {}
        self._lock = threading.Lock()

    def manifest(self, use_case: str, release: str) -> Manifest:
        """Return the manifest of a registered release.

        Raises
        ------
        NotFound
            If no such release is registered (RELEASE_NOT_FOUND).
        Unavailable
            If the registry does not answer in time (REGISTRY_UNAVAILABLE).
        MatchloopError
            If what is registered is no release.
        """
        key = (use_case, release)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            found = self._running.get(key) or self._begin(key)
        left = deadline.remaining()
        wait = self._wait if left is None else min(self._wait, max(left - RESERVE_SECONDS, 0.0))
        try:
            return found.result(timeout=wait)
        except TimeoutError:
            raise _unavailable(f"no answer in {wait:.2f} s") from None

    def _begin(self, key: tuple[str, str]) -> Future[Manifest]:
        """Start a lookup; the lock is held."""
        if len(self._running) >= LOOKUPS:
            raise _unavailable(f"{LOOKUPS} lookups wait for it")
        found: Future[Manifest] = Future()
        self._running[key] = found
        threading.Thread(target=self._look_up, args=(key, found), name="release-lookup", daemon=True).start()
        return found

    def _look_up(self, key: tuple[str, str], found: Future[Manifest]) -> None:
        use_case, release = key
        error: MatchloopError | None = None
        manifest: Manifest | None = None
        try:
            registered = next((r for r in self._registry.list(use_case) if r.release == release), None)
            if registered is None:
                error = NotFound(f"no release {release} is registered", reason=Reason.RELEASE_NOT_FOUND)
            else:
                manifest = self._registry.manifest(registered)
        except MatchloopError as failed:
            error = failed
        except Exception as failed:  # noqa: BLE001 - whatever a registry's client dies of, the caller is told
            _log.exception("release_lookup_failed", use_case=use_case, release=release)
            error = _unavailable(type(failed).__name__)
        with self._lock:
            del self._running[key]
            if manifest is not None:
                self._kept[key] = manifest
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
        if manifest is not None:
            found.set_result(manifest)
        else:
            found.set_exception(error or _unavailable("no answer"))


def _unavailable(why: str) -> Unavailable:
    return Unavailable(f"registry: {why}", reason=Reason.REGISTRY_UNAVAILABLE)
