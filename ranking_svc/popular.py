"""The last popular list of each use case: what is left to answer with when candidate_svc is down.

Kept in memory and on disk, so that a restart finds it too.
"""

from __future__ import annotations

import json
import math
import os
import threading
from typing import TYPE_CHECKING, Any, Protocol

from matchloop.entities import EntityId, EntityKey, Kind
from matchloop.errors import MatchloopError
from matchloop.observe import faults
from matchloop.observe.logs import get_logger
from matchloop.usecase import Method
from ranking_svc.domain import Candidate

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from matchloop.entities import Tombstone
    from matchloop.usecase import UseCase

LENGTH = 500
RETRY_SECONDS = 2.0

_log = get_logger()


class TrendingSource(Protocol):
    """Who knows what is popular now."""

    def trending(self, use_case: UseCase, count: int) -> tuple[Candidate, ...]:
        """Return at most `count` items, best first; raises MatchloopError when it can't."""


class ErasedSource(Protocol):
    """Who knows which entities were erased."""

    def erased(self, kinds: Sequence[str], from_sequence: int) -> tuple[tuple[Tombstone, ...], int]:
        """Return the tombstones from a change sequence on, and where to go on from.

        Raises MatchloopError when it can't.
        """


class PopularLists:
    """Keeps one list per use case, refreshed in the background; what is erased leaves it.

    Parameters
    ----------
    use_cases
        The ones to keep a list of.
    source
        Asked every `refresh_seconds`; sooner for use cases that it fails for or has nothing for yet. An
        empty answer does not take the place of a list.
    graves
        Asked every `RETRY_SECONDS`. An erased item stays out for two refreshes, in which the lists' source
        learns of it too.
    folder
        Where lists are kept, one JSON file each; made if missing.
    refresh_seconds
        Pause between two refreshes.
    """

    def __init__(
        self,
        use_cases: Mapping[str, UseCase],
        source: TrendingSource,
        graves: ErasedSource,
        folder: Path,
        *,
        refresh_seconds: float,
    ) -> None:
        self._use_cases = use_cases
        self._source = source
        self._graves = graves
        self._kinds = {use_case.id: Kind(use_case.item) for use_case in use_cases.values()}
        self._erased: tuple[set[str], set[str]] = (set(), set())
        self._next_sequence = 0
        self._folder = folder
        self._refresh_seconds = refresh_seconds
        self._lists: dict[str, tuple[Candidate, ...]] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for use_case in use_cases:
            kept = self._read(use_case)
            if kept:
                self._lists[use_case] = kept

    def last(self, use_case: str) -> tuple[Candidate, ...] | None:
        """Return the last list, best first; None when there never was one."""
        return self._lists.get(use_case) or None

    def refresh(self, which: Collection[str] | None = None) -> set[str]:
        """Ask for the lists of these use cases once (None: of all).

        Returns
        -------
        set
            Use cases that want another try soon: not answered, or still without a list.
        """
        wanting: set[str] = set()
        self._forget_erased(whole=which is None)
        for use_case in self._use_cases.values():
            if which is None or use_case.id in which:
                answered = self._refresh_one(use_case)
                if not answered or use_case.id not in self._lists:
                    wanting.add(use_case.id)
        return wanting

    def _refresh_one(self, use_case: UseCase) -> bool:
        """Ask for one list; returns whether the answer came. If not, the last list stays."""
        try:
            found = self._living(use_case.id, self._source.trending(use_case, LENGTH))
            if found and found != self._lists.get(use_case.id):
                self._lists[use_case.id] = found
                self._write(use_case.id, found)
        except MatchloopError as error:
            _log.info("popular_not_refreshed", use_case=use_case.id, reason=error.reason.value)
            return False
        except OSError as error:
            _log.error("popular_not_kept", use_case=use_case.id, error=faults.said(error))
            return False
        return True

    def _forget_erased(self, *, whole: bool) -> None:
        """Learn what was erased, and take it off every list, in memory and on disk."""
        if whole:
            self._erased = (set(), self._erased[0])
        try:
            kinds = sorted(set(self._kinds.values()))
            tombstones, self._next_sequence = self._graves.erased(kinds, self._next_sequence)
        except MatchloopError as error:
            _log.info("erased_not_read", reason=error.reason.value)
            return
        self._erased[0].update(each.id_hash for each in tombstones)
        for use_case, items in list(self._lists.items()) if tombstones else ():
            left = self._living(use_case, items)
            if len(left) < len(items):
                self._lists[use_case] = left
                self._keep(use_case, left)

    def _living(self, use_case: str, items: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        erased, kind = self._erased[0] | self._erased[1], self._kinds[use_case]
        if not erased:
            return items
        return tuple(item for item in items if EntityKey(kind, EntityId(item.item_id)).digest not in erased)

    def _keep(self, use_case: str, items: tuple[Candidate, ...]) -> None:
        try:
            self._write(use_case, items)
        except OSError as error:
            _log.error("popular_not_kept", use_case=use_case, error=faults.said(error))

    def start(self) -> None:
        """Refresh in a thread, at once and then at every pause."""
        self._thread = threading.Thread(target=self._run, name="popular-lists", daemon=True)
        self._thread.start()

    def close(self, timeout: float = 5.0) -> None:
        """Stop refreshing; waits at most `timeout` seconds."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        wanting: set[str] | None = None
        since_all, pause = 0.0, 0.0
        while not self._closed.wait(pause):
            since_all += pause
            if since_all >= self._refresh_seconds:
                wanting, since_all = None, 0.0
            try:
                wanting = self.refresh(wanting)
            except Exception:  # noqa: BLE001 - the thread must outlive a bug in the source's client
                _log.exception("popular_not_refreshed")
            pause = min(RETRY_SECONDS, self._refresh_seconds - since_all)

    def _path(self, use_case: str) -> Path:
        return self._folder / f"{use_case}.json"

    def _write(self, use_case: str, items: Sequence[Candidate]) -> None:
        path = self._path(use_case)
        unfinished = path.with_suffix(".tmp")
        rows = [[item.item_id, item.score, item.diversity_values] for item in items]
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(rows, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)

    def _read(self, use_case: str) -> tuple[Candidate, ...]:
        path = self._path(use_case)
        try:
            return tuple(_candidate(row) for row in json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError) as error:
            _log.warning("popular_unreadable", use_case=use_case, error=faults.said(error))
            return ()


def _candidate(row: Any) -> Candidate:
    item_id, score, diversity_values = row
    if not isinstance(item_id, str) or not math.isfinite(score):
        raise ValueError(f"{row!r} is no popular item")
    values = tuple(tuple(str(value) for value in field) for field in diversity_values)
    return Candidate(item_id, Method.POPULAR, float(score), diversity_values=values)
