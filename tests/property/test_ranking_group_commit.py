"""Whatever fails and whoever is in a hurry: each caller learns the truth of its own session."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st

from matchloop.errors import DeadlinePassed, InvalidInput, MatchloopError, Unavailable
from ranking_svc.group_commit import GroupCommit

MOST = 3
THREADS = 8
BUSY_SECONDS = 0.001

SESSIONS = st.lists(st.sampled_from(["good", "bad", "hasty"]), min_size=1, max_size=24)
FAULTS = st.lists(st.sampled_from([None, None, Unavailable, DeadlinePassed, ZeroDivisionError]), max_size=24)


class Store:
    """Takes batches without a bad session; its calls fail as they are told to, then no more."""

    def __init__(self, faults: Sequence[type[Exception] | None]) -> None:
        self._faults = list(faults)
        self._lock = threading.Lock()
        self._own = threading.local()
        self.stored: Counter[bytes] = Counter()
        self.sizes: list[int] = []
        self.failed: set[bytes] = set()

    def hurry(self, hasty: bool) -> None:
        """Say whether this thread's caller has less time than a call takes."""
        self._own.seconds = BUSY_SECONDS / 2 if hasty else 5.0

    def patience(self) -> float:
        return float(self._own.seconds)

    def record(self, encoded: Sequence[bytes], *, seconds: float) -> None:
        del seconds
        threading.Event().wait(BUSY_SECONDS)
        with self._lock:
            self.sizes.append(len(encoded))
            fault = self._faults.pop() if self._faults else None
            if fault is not None:
                self.failed.update(encoded)
                raise fault("away")
            if any(each.startswith(b"bad") for each in encoded):
                raise InvalidInput("a bad one")
            self.stored.update(encoded)


@settings(max_examples=60, deadline=None)
@given(sessions=SESSIONS, faults=FAULTS, calls=st.integers(1, 2))
def test_each_caller_learns_what_became_of_its_own(
    sessions: list[str], faults: list[type[Exception] | None], calls: int
) -> None:
    store = Store(faults)
    group = GroupCommit(store, most=MOST, calls=calls)

    def caller(session: bytes) -> Exception | None:
        store.hurry(session.startswith(b"hasty"))
        try:
            group.record(session)
        except (MatchloopError, ZeroDivisionError) as error:
            return error
        return None

    names = [f"{kind}-{number}".encode() for number, kind in enumerate(sessions)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = dict(zip(names, pool.map(caller, names), strict=True))
    for name, error in found.items():
        if error is None:
            assert store.stored[name] == 1
        elif isinstance(error, InvalidInput):
            assert name.startswith(b"bad")
        else:
            assert name in store.failed or name.startswith(b"hasty")
    assert max(store.sizes) <= MOST
    store.hurry(False)
    store._faults.clear()
    group.record(b"after")  # whatever went before, the way is free
    assert store.stored[b"after"] == 1
    assert not group._waiting
    assert group._under_way == 0
