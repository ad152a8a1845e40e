"""What an operator watches of learning and experiments, as gauges: read from the store when they are scraped.

A scrape that comes within `LASTING` seconds of a reading is answered from it, so that scrapers, however
many, cost one reading a minute. While the store cannot be read the gauges say NaN: unknown, not zero.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from feedback_svc.answers import judge_status
from feedback_svc.retraining import RetrainingBounds
from feedback_svc.store.protocol import Store
from matchloop.observe import faults
from matchloop.observe.logs import get_logger
from matchloop.observe.metrics import Metrics
from matchloop.usecase import UseCases

V = TypeVar("V")
Clock = Callable[[], datetime]

LASTING = timedelta(seconds=60)
EXPERIMENTS = 500
"""Looked at, those that run first: more than there are use cases."""

_log = get_logger()


class _Lasting(Generic[V]):
    """Readings by use case, read again when older than `LASTING`; empty while they cannot be read."""

    def __init__(self, clock: Clock, read: Callable[[datetime], Mapping[str, V]]) -> None:
        self._clock, self._read = clock, read
        self._lock = threading.Lock()
        self._read_time: datetime | None = None
        self._readings: Mapping[str, V] = {}

    def fresh(self) -> Mapping[str, V]:
        with self._lock:
            now = self._clock()
            if self._read_time is None or not timedelta() <= now - self._read_time < LASTING:
                self._read_time = now
                self._readings = self._read_or_none(now)
            return self._readings

    def _read_or_none(self, now: datetime) -> Mapping[str, V]:
        try:
            return self._read(now)
        except Exception as error:  # noqa: BLE001 - the other metrics must be scraped all the same
            _log.warning("gauges_unread", error=f"{type(error).__name__}: {faults.said(error)}")
            return {}


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
        clock: Clock,
        *,
        bounds: RetrainingBounds,
        metrics: Metrics,
    ) -> None:
        self._store, self._use_cases, self._bounds = store, use_cases, bounds
        self._lasting = _Lasting(clock, self._read)
        for name in use_cases:
            metrics.negatives_waiting.labels(name).set_function(self._reader(name, "waiting"))
            metrics.negatives_mean_error.labels(name).set_function(self._reader(name, "mean_error"))
            metrics.retraining_due.labels(name).set_function(self._reader(name, "due"))

    def _reader(self, use_case: str, number: str) -> Callable[[], float]:
        return lambda: float(getattr(self._lasting.fresh().get(use_case, _Reading()), number))

    def _read(self, now: datetime) -> Mapping[str, _Reading]:
        readings = {}
        for name, use_case in self._use_cases.items():
            status = judge_status(self._store, use_case, self._bounds, now=now)
            numbers = status.numbers
            readings[name] = _Reading(numbers.unused, numbers.mean_error, float(status.due))
        return readings


class ExperimentGauges:
    """Keeps `experiment_running` of every use case."""

    def __init__(self, store: Store, use_cases: UseCases, clock: Clock, *, metrics: Metrics) -> None:
        self._store, self._use_cases = store, use_cases
        self._lasting = _Lasting(clock, self._read)
        for name in use_cases:
            metrics.experiment_running.labels(name).set_function(self._reader(name))

    def _reader(self, use_case: str) -> Callable[[], float]:
        return lambda: self._lasting.fresh().get(use_case, math.nan)

    def _read(self, _now: datetime) -> Mapping[str, float]:
        latest = self._store.list_experiments("", after=None, limit=EXPERIMENTS)
        running = {experiment.use_case for experiment in latest if experiment.runs}
        return {name: float(name in running) for name in self._use_cases}
