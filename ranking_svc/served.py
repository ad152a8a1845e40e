"""Lists counted and timed by arm and release, so that a guard can tell what a release does to requests."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from matchloop.errors import InvalidInput, NotImplementedYet, Unavailable
from ranking_svc.domain import Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from matchloop.observe.metrics import Metrics
    from ranking_svc.domain import Recommendation

KEPT = 6
"""Pairs of arm and release that are shown for a use case: the latest ones."""
SKIPPED_FAILED = 2
"""The contract's SKIP_REASON_FAILED."""


class Outcome(StrEnum):
    """What became of a list."""

    OK = "ok"
    METHOD_FAILED = "method_failed"
    """A retrieval method of the release raised; another one answered."""
    RANKER_FAILED = "ranker_failed"
    """The release's ranker raised; the rule ordered the list."""
    ERROR = "error"
    """No list was made."""


class Served:
    """Counts lists, with a bounded number of releases in the labels: those served last stay.

    What fails because another service is away is counted with no release: it is not the release's fault.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._latest: dict[str, OrderedDict[tuple[str, str], None]] = {}

    def made(self, use_case: str, answer: Recommendation, seconds: float) -> None:
        """Count a list."""
        self._count(use_case, answer.arm, answer.release, _outcome(answer), seconds)

    def failed(self, use_case: str, arm: str, release: str, error: Exception, seconds: float) -> None:
        """Count a list that was not made; `release` is the one that should have made it."""
        at_fault = "" if isinstance(error, Unavailable) else release
        self._count(use_case, arm, at_fault, Outcome.ERROR, seconds)

    def _count(self, use_case: str, arm: str, release: str, outcome: Outcome, seconds: float) -> None:
        with self._lock:
            latest = self._latest.setdefault(use_case, OrderedDict())
            latest[arm, release] = None
            latest.move_to_end((arm, release))
            if len(latest) > KEPT:
                self._forget(use_case, *latest.popitem(last=False)[0])
            self._metrics.served.labels(use_case, arm, release, outcome.value).inc()
            self._metrics.served_latency.labels(use_case, arm, release).observe(seconds)

    def _forget(self, use_case: str, arm: str, release: str) -> None:
        labels = {"use_case": use_case, "arm": arm, "release": release}
        self._metrics.served.remove_by_labels(labels)
        self._metrics.served_latency.remove_by_labels(labels)


class Telling:
    """One list, from when it is asked for: a context that counts it, made or not.

    What the client has done wrong is not counted.

    Parameters
    ----------
    expected
        The release that should make the list; asked when it was not made.
    """

    def __init__(self, served: Served, use_case: str, arm: str, expected: Callable[[], str]) -> None:
        self._served = served
        self._use_case = use_case
        self.arm = arm
        self._expected = expected
        self._began = time.perf_counter()

    def made(self, answer: Recommendation) -> Recommendation:
        """Count the list that was made, and return it."""
        self._served.made(self._use_case, answer, time.perf_counter() - self._began)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, InvalidInput | NotImplementedYet):
            seconds = time.perf_counter() - self._began
            self._served.failed(self._use_case, self.arm, self._expected(), error, seconds)


def _outcome(answer: Recommendation) -> Outcome:
    if Part.RANKER.value in answer.degraded:
        return Outcome.RANKER_FAILED
    if any(skip.reason == SKIPPED_FAILED for skip in answer.skipped):
        return Outcome.METHOD_FAILED
    return Outcome.OK
