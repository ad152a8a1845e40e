"""The gauges of learning: read when scraped, at most once a minute, unknown while the store is away."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from feedback_svc.gauges import LASTING, ExperimentGauges, RetrainingGauges
from feedback_svc.retraining import NegativeNumbers, RetrainingBounds
from feedback_svc.store.memory import MemoryStore
from matchloop.errors import Reason, Unavailable
from matchloop.experiments.experiment import Experiment
from matchloop.observe.metrics import Metrics
from tests.feedback_worlds import NOW, USE_CASE, use_cases


class CountedStore(MemoryStore):
    """Has two negatives waiting, and may be away."""

    away = False
    reads = 0

    def negative_numbers(self, use_case: str) -> NegativeNumbers:
        self.reads += use_case == USE_CASE
        if self.away:
            raise Unavailable("the store cannot be reached", reason=Reason.STORE_UNAVAILABLE)
        return NegativeNumbers(2, 2, 0.75, None, "")


def test_a_scrape_reads_once_a_minute_and_says_unknown_while_the_store_is_away() -> None:
    metrics, store, now = Metrics(), CountedStore(), NOW

    def clock() -> datetime:
        return now

    bounds = RetrainingBounds(error_negatives=1)
    RetrainingGauges(store, use_cases(), clock, bounds=bounds, metrics=metrics)
    assert store.reads == 0

    def scraped() -> list[float]:
        names = ("negatives_waiting", "negatives_mean_error", "retraining_due")
        return [metrics.value(f"matchloop_{name}", use_case=USE_CASE) for name in names]

    assert scraped() == [2.0, 0.75, 1.0]
    assert scraped() == [2.0, 0.75, 1.0]
    assert store.reads == 1
    store.away = True
    now += LASTING
    assert all(math.isnan(value) for value in scraped())
    store.away = False
    now += LASTING + timedelta(seconds=1)
    assert scraped() == [2.0, 0.75, 1.0]


def test_it_says_where_an_experiment_runs() -> None:
    metrics, store, now = Metrics(), MemoryStore(), NOW

    def clock() -> datetime:
        return now

    def running(use_case: str = USE_CASE) -> float:
        return metrics.value("matchloop_experiment_running", use_case=use_case)

    ExperimentGauges(store, use_cases(), clock, metrics=metrics)
    assert running() == 0.0
    store.start_experiment(Experiment("e", USE_CASE, 0.5, "r1", "r2", NOW))
    assert running() == 0.0  # as read less than a minute ago
    now += LASTING
    assert (running(), running("user_movie")) == (1.0, 0.0)
    store.stop_experiment("e", reason="r", now=now)
    now += LASTING
    assert running() == 0.0
