"""Subject states, and what stands in for them while the store does not answer."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from matchloop.entities import EntityKey
from matchloop.errors import MatchloopError
from matchloop.observe.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from candidate_svc.domain import SubjectState
    from matchloop.entities import EntityId, Kind, Tombstone

_log = get_logger()


class SubjectStates(Protocol):
    """The store."""

    def lookup(self, use_case: str, subject_id: EntityId) -> SubjectState:
        """Return all that retrieval needs of a subject.

        Raises
        ------
        MatchloopError
            When the store cannot tell.
        """


@dataclass(frozen=True, slots=True)
class KnownState:
    """A state, and whether the store told it just now.

    Parameters
    ----------
    state
        None when the store does not answer and nothing is remembered.
    fresh
        False: the store does not answer.
    """

    state: SubjectState | None
    fresh: bool


class RememberedStates:
    """Asks the store each time (a subject reads its own writes), and remembers for when it cannot be asked.

    Parameters
    ----------
    kinds
        The subject kind by use case.
    seconds
        A state older than this is not used.
    most
        States kept; the one asked for longest ago goes first.
    monotonic
        Seconds of a clock that never goes back.
    """

    def __init__(
        self,
        store: SubjectStates,
        kinds: Mapping[str, Kind],
        *,
        seconds: float = 300.0,
        most: int = 10_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._seconds = seconds
        self._most = most
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, EntityId], tuple[float, SubjectState]] = OrderedDict()

    def lookup(self, use_case: str, subject_id: EntityId) -> KnownState:
        """Return the state as the store tells it, else the remembered one; never raises MatchloopError."""
        try:
            state = self._store.lookup(use_case, subject_id)
        except MatchloopError as error:
            _log.warning("subject state not read", use_case=use_case, reason=error.reason.value)
            return KnownState(self._recall(use_case, subject_id), fresh=False)
        self._keep((use_case, subject_id), state)
        return KnownState(state, fresh=True)

    def _recall(self, use_case: str, subject_id: EntityId) -> SubjectState | None:
        with self._lock:
            kept = self._kept.get((use_case, subject_id))
        if kept is None or self._monotonic() - kept[0] > self._seconds:
            return None
        return kept[1]

    def subjects_erased(self, tombstones: Sequence[Tombstone]) -> None:
        """Forget the states of erased subjects; see `mirror.ErasureListener`."""
        gone = {(each.kind, each.id_hash) for each in tombstones}
        with self._lock:
            for key in list(self._kept):
                kind = self._kinds[key[0]]
                if (kind, EntityKey(kind, key[1]).digest) in gone:
                    del self._kept[key]

    def _keep(self, key: tuple[str, EntityId], state: SubjectState) -> None:
        with self._lock:
            self._kept[key] = (self._monotonic(), state)
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
