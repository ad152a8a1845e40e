"""The place a service reads its release from: polled, verified, warmed up, swapped while requests run."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import structlog

from matchloop.errors import MatchloopError, Reason, Unavailable
from matchloop.release.gentle import gentle
from matchloop.release.golden import Answerer, check_golden
from matchloop.release.manifest import Manifest, check_fits, verify
from matchloop.release.registry import CHAMPION

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from matchloop.release.registry import RegisteredRelease
    from matchloop.usecase import UseCase

T = TypeVar("T")


class ReleaseSource(Protocol):
    """What a slot asks of a registry; see `matchloop.release.registry.Registry`."""

    def resolve(self, use_case: str, alias: str) -> RegisteredRelease | None:
        """Return the release an alias points at; None if it points nowhere."""

    def fetch(self, registered: RegisteredRelease, destination: Path) -> Path:
        """Bring a release's files, verified against its manifest, to a folder and return it."""


Clock = Callable[[], datetime]

GOOD_FILE = "good.json"
KEPT = 2
"""Releases kept on disk and in memory: the one served and the one before."""


class ReleaseMetrics(Protocol):
    """What a slot counts; called from the polling thread."""

    def release_loaded(self, use_case: str, alias: str, release: str, created: datetime) -> None:
        """Count a swap; `release` (made at `created`) is served from now on."""

    def release_emptied(self, use_case: str, alias: str) -> None:
        """Note that none is served under this alias any more."""

    def release_fault(self, use_case: str, alias: str, reason: str) -> None:
        """Count a poll that failed; `reason` is one of `matchloop.errors.Reason`."""


class SilentMetrics:
    """Counts nothing."""

    def release_loaded(self, use_case: str, alias: str, release: str, created: datetime) -> None:
        """Do nothing."""

    def release_emptied(self, use_case: str, alias: str) -> None:
        """Do nothing."""

    def release_fault(self, use_case: str, alias: str, reason: str) -> None:
        """Do nothing."""


class Poll(StrEnum):
    """What a poll came to."""

    SWAPPED = "swapped"
    UNCHANGED = "unchanged"
    EMPTIED = "emptied"
    """The alias points nowhere."""
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """A release in memory.

    Parameters
    ----------
    release, version
        Its id; the registry's version of it, empty when it came from the cache.
    value
        What `load` made of it.
    manifest
        Its manifest.
    load_time
        When it was loaded, UTC.
    """

    release: str
    version: str
    value: T
    manifest: Manifest
    load_time: datetime


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ReleaseSlot(Generic[T]):
    """Keeps the release that an alias points at loaded; reading it takes no lock and never waits.

    A new release is fetched, verified against its manifest and the use case, loaded, and asked its golden
    requests before it is swapped in. Whatever goes wrong, the one in place stays, the fault is counted and
    logged. A refused version is not tried again until the alias points elsewhere; an unreachable registry
    is asked again at the next poll. An alias that was taken away empties the slot.

    Parameters
    ----------
    use_case
        Whose release.
    registry
        Where the alias is looked up.
    load
        Makes the value from a verified release's folder; may raise anything, which refuses the release.
        The folder may go away two releases later: read files in, or map them.
    cache
        A folder of this service's own; releases go to ``cache/<use case>/<alias>/<release>``.
    poll_seconds
        Pause between two polls.
    metrics
        Where faults and swaps are counted.
    answers
        From the value to its parts' answers to golden requests, by part name; asked before the swap.
    alias
        ``champion`` or ``challenger``.
    keep_before
        Whether the release before stays in memory too; if not, an alias that points nowhere costs nothing.
    clock
        Time in UTC.
    """

    def __init__(
        self,
        use_case: UseCase,
        registry: ReleaseSource,
        load: Callable[[Path, Manifest], T],
        cache: Path,
        poll_seconds: float,
        metrics: ReleaseMetrics | None = None,
        *,
        answers: Callable[[T], Mapping[str, Answerer]],
        alias: str = CHAMPION,
        keep_before: bool = True,
        clock: Clock = _utc_now,
    ) -> None:
        self._use_case = use_case
        self._registry = registry
        self._load = load
        self._folder = cache / use_case.id / alias
        self._poll_seconds = poll_seconds
        self._metrics = metrics or SilentMetrics()
        self._answers = answers
        self._alias = alias
        self._keep_before = keep_before
        self._clock = clock
        self._log: FilteringBoundLogger = structlog.get_logger("matchloop.release").bind(
            use_case=use_case.id, alias=alias
        )
        # The one served and the one before, replaced as a whole: a reader sees the old pair or the new.
        self._pair: tuple[Loaded[T] | None, Loaded[T] | None] = (None, None)
        self._refused: str | None = None
        self._polling = threading.Lock()
        self._swapping = threading.Lock()
        self._first: Poll | None = None
        self._first_ended = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def current(self) -> Loaded[T] | None:
        """Return the release to serve with; None while there is none."""
        return self._pair[0]

    def find(self, release: str) -> Loaded[T] | None:
        """Return the release of that id if it is the current one or the one before, else None."""
        return next((loaded for loaded in self._pair if loaded and loaded.release == release), None)

    def start(self, *, wait_seconds: float | None = None) -> None:
        """Begin to poll, and `settle`. Never raises for a fault of the registry or of a release."""
        self.begin()
        self.settle(wait_seconds)

    def begin(self) -> None:
        """Poll in a thread, at once and then at every pause."""
        self._thread = threading.Thread(
            target=self._run, name=f"release-{self._use_case.id}-{self._alias}", daemon=True
        )
        self._thread.start()

    def settle(self, wait_seconds: float | None = None) -> bool:
        """Wait for the first poll; load the last good copy if it gave no release for a fault, or no answer.

        Parameters
        ----------
        wait_seconds
            Longest wait, for a registry that hangs; None: however long it takes.

        Returns
        -------
        bool
            Whether the first poll has ended.
        """
        ended = self._first_ended.wait(wait_seconds)
        if self.current() is None and self._first in (None, Poll.UNAVAILABLE, Poll.REFUSED):
            self._load_last_good()
        return ended

    def close(self, timeout: float = 5.0) -> None:
        """Stop polling; the current release can still be read. Waits at most `timeout` seconds."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def poll_once(self) -> Poll:
        """Look the alias up and act on it, now, in this thread; see the class."""
        with self._polling:
            try:
                registered = self._registry.resolve(self._use_case.id, self._alias)
            except Unavailable as error:
                return self._fault(error, Poll.UNAVAILABLE)
            if registered is None:
                return self._empty()
            if registered.version == self._refused:
                return Poll.REFUSED
            self._refused = None
            serving = self.current()
            if serving is not None and serving.release == registered.release:
                return Poll.UNCHANGED
            with gentle():
                return self._take(registered)

    def _take(self, registered: RegisteredRelease) -> Poll:
        try:
            loaded = self.find(registered.release) or self._fetched(registered)
        except (Unavailable, OSError) as error:  # the network, a full disk: worth another try
            return self._fault(error, Poll.UNAVAILABLE, release=registered.release)
        except Exception as error:  # noqa: BLE001 - any fault of a release must leave the old one serving
            self._refused = registered.version
            self._prune()
            return self._fault(error, Poll.REFUSED, release=registered.release)
        with self._swapping:
            self._swap(loaded)
        return Poll.SWAPPED

    def _fetched(self, registered: RegisteredRelease) -> Loaded[T]:
        """Fetch, which verifies the files, and load."""
        folder = self._registry.fetch(registered, self._folder)
        manifest = Manifest.read(folder)
        check_fits(manifest, self._use_case)
        return self._prepare(folder, manifest, registered.version)

    def _prepare(self, folder: Path, manifest: Manifest, version: str) -> Loaded[T]:
        """Load, ask the golden requests."""
        value = self._load(folder, manifest)
        check_golden(folder, self._answers(value))
        return Loaded(manifest.release, version, value, manifest, self._clock())

    def _swap(self, loaded: Loaded[T]) -> None:
        before = self.current()
        self._pair = (loaded, before if self._keep_before else None)
        self._metrics.release_loaded(self._use_case.id, self._alias, loaded.release, loaded.manifest.created)
        self._log.info("release loaded", release=loaded.release, before=before.release if before else None)
        kept = [loaded.release, *(name for name in self._good() if name != loaded.release)][:KEPT]
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._folder / (GOOD_FILE + ".tmp")
        unfinished.write_text(json.dumps(kept), encoding="utf-8")
        unfinished.replace(self._folder / GOOD_FILE)
        self._prune()

    def _empty(self) -> Poll:
        serving = self.current()
        if not self._keep_before:  # what an earlier alias meant is no copy to start from
            (self._folder / GOOD_FILE).unlink(missing_ok=True)
        if serving is None:
            return Poll.EMPTIED
        self._pair = (None, serving if self._keep_before else None)
        self._metrics.release_emptied(self._use_case.id, self._alias)
        self._log.warning("alias points nowhere: no release is served", before=serving.release)
        return Poll.EMPTIED

    def _load_last_good(self) -> None:
        for release in self._good():
            try:
                folder = self._folder / release
                loaded = self._prepare(folder, verify(folder, self._use_case), version="")
            except Exception as error:  # noqa: BLE001 - an older copy may still be good
                self._fault(error, Poll.REFUSED, release=release)
                continue
            with self._swapping:
                if self.current() is None:  # else the registry has answered meanwhile
                    self._log.warning("starting from the last good copy", release=release)
                    self._swap(loaded)
            return

    def _good(self) -> list[str]:
        """Return the releases that were served, the last one first."""
        try:
            names = json.loads((self._folder / GOOD_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    def _prune(self) -> None:
        """Remove every folder but those of the last releases served."""
        kept = {*self._good(), *(loaded.release for loaded in self._pair if loaded)}
        for folder in self._folder.glob("*/"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _fault(self, error: Exception, outcome: Poll, release: str | None = None) -> Poll:
        reason = error.reason if isinstance(error, MatchloopError) else Reason.INTERNAL
        self._metrics.release_fault(self._use_case.id, self._alias, reason.value)
        serving = self.current()
        self._log.error(
            "release not taken",
            outcome=outcome.value,
            reason=reason.value,
            release=release,
            # What is no error of ours, nor the system's, may quote an item: its traceback tells enough.
            fault=str(error) if isinstance(error, MatchloopError | OSError) else type(error).__name__,
            serving=serving.release if serving else None,
            exc_info=None if isinstance(error, MatchloopError) else error,
        )
        return outcome

    def _guarded_poll(self) -> Poll:
        try:
            return self.poll_once()
        except Exception as error:  # noqa: BLE001 - the thread must outlive a bug in a registry's client
            return self._fault(error, Poll.UNAVAILABLE)

    def _run(self) -> None:
        self._first = self._guarded_poll()
        self._first_ended.set()
        while not self._closed.wait(self._poll_seconds):
            self._guarded_poll()
