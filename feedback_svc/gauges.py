"""What an operator watches of learning, as gauges: read from the store when they are scraped.

A scrape that comes within `LASTING` seconds of a reading is answered from it, so that scrapers, however
many, cost one reading a minute. While the store cannot be read the gauges say NaN: unknown, not zero.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from feedback_svc.answers import judge_status
from feedback_svc.retraining import RetrainingBounds
from feedback_svc.store.protocol import Store
from matchloop.observe.logs import get_logger
from matchloop.observe.metrics import Metrics
from matchloop.usecase import UseCases

LASTING = timedelta(seconds=60)

_log = get_logger()


@dataclass(frozen=True, slots=True)
class _Reading:
    waiting: float = math.nan
    mean_error: float = math.nan
    due: float = math.nan


class RetrainingGauges:
    """Keeps `negatives_waiting`, `negatives_mean_error` and `retraining_due` of every use case."""

    def __init__(
        self,
        store: Store,
        use_cases: UseCases,
        clock: Callable[[], datetime],
        *,
        bounds: RetrainingBounds,
        metrics: Metrics,
    ) -> None:
        self._store, self._use_cases, self._clock, self._bounds = store, use_cases, clock, bounds
        self._lock = threading.Lock()
        self._read_time: datetime | None = None
        self._readings: dict[str, _Reading] = {}
        for name in use_cases:
            metrics.negatives_waiting.labels(name).set_function(self._reader(name, "waiting"))
            metrics.negatives_mean_error.labels(name).set_function(self._reader(name, "mean_error"))
            metrics.retraining_due.labels(name).set_function(self._reader(name, "due"))

    def _reader(self, use_case: str, number: str) -> Callable[[], float]:
        return lambda: float(getattr(self._fresh().get(use_case, _Reading()), number))

    def _fresh(self) -> dict[str, _Reading]:
        with self._lock:
            now = self._clock()
            if self._read_time is None or not timedelta() <= now - self._read_time < LASTING:
                self._read_time = now
                self._readings = self._read(now)
            return self._readings

    def _read(self, now: datetime) -> dict[str, _Reading]:
        readings = {}
        for name, use_case in self._use_cases.items():
            try:
                status = judge_status(self._store, use_case, self._bounds, now=now)
            except Exception as error:  # noqa: BLE001 - the other metrics must be scraped all the same
                _log.warning(
                    "retraining_gauges_unread", use_case=name, error=f"{type(error).__name__}: {error}"
                )
                return {}
            numbers = status.numbers
            readings[name] = _Reading(numbers.unused, numbers.mean_error, float(status.due))
        return readings
