"""What came of experiments, for who asks and for the gauges."""

from __future__ import annotations

import time
from dataclasses import fields
from typing import TYPE_CHECKING, Protocol

from matchloop.errors import MatchloopError, NotFound, Reason
from matchloop.experiments.results import results_of
from matchloop.observe.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from matchloop.experiments.experiment import Experiment
    from matchloop.experiments.intervals import Interval
    from matchloop.experiments.reactions import Reactions
    from matchloop.experiments.results import Rates, Results
    from matchloop.observe.metrics import Metrics

_log = get_logger()


class ReactionSource(Protocol):
    """Who keeps the record. Both calls raise MatchloopError when they can't answer."""

    def latest(self, use_case: str) -> Experiment | None:
        """Return the experiment that runs, else the latest; None when there never was one."""

    def reactions(
        self, use_case: str, from_time: datetime, to_time: datetime | None
    ) -> tuple[Reactions, ...]:
        """Return what came of the lists served in a span of time, by arm."""


class ExperimentResults:
    """Computes results from the record each time they are asked for.

    Parameters
    ----------
    metrics
        The ``experiment_*`` gauges; those of a use case hold the last experiment's end until another starts.
    use_cases
        Whose experiments the gauges show.
    running
        The experiment that runs in a use case, as far as is known here.
    gauge_seconds
        Least pause between two readings of the gauges, each of which costs the store a look at the lists.
    """

    def __init__(
        self,
        source: ReactionSource,
        metrics: Metrics,
        use_cases: Collection[str],
        running: Callable[[str], Experiment | None],
        *,
        gauge_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._metrics = metrics
        self._use_cases = tuple(use_cases)
        self._running = running
        self._gauge_seconds = gauge_seconds
        self._monotonic = monotonic
        self._shown: dict[str, tuple[str, float]] = {}

    def of(self, use_case: str) -> Results:
        """Return the results of the running experiment, else of the latest.

        Raises
        ------
        NotFound
            If the use case never had one.
        """
        experiment = self._source.latest(use_case)
        if experiment is None:
            raise NotFound(f"no experiment of {use_case} was ever run", reason=Reason.EXPERIMENT_NOT_FOUND)
        return self._results(experiment)

    def show(self) -> None:
        """Set the gauges of the experiments that run, where they are due."""
        for use_case in self._use_cases:
            experiment = self._running(use_case)
            self._metrics.experiment_share.labels(use_case).set(
                experiment.challenger_share if experiment else 0.0
            )
            if experiment is not None and self._due(experiment):
                try:
                    self._set(self._results(experiment))
                except MatchloopError as error:
                    _log.info("experiment_not_shown", use_case=use_case, reason=error.reason.value)

    def _due(self, experiment: Experiment) -> bool:
        now = self._monotonic()
        shown, when = self._shown.get(experiment.use_case, ("", 0.0))
        if shown == experiment.experiment_id and now - when < self._gauge_seconds:
            return False
        self._shown[experiment.use_case] = (experiment.experiment_id, now)
        return True

    def _results(self, experiment: Experiment) -> Results:
        return results_of(
            experiment,
            self._source.reactions(experiment.use_case, experiment.start_time, experiment.stop_time),
        )

    def _set(self, results: Results) -> None:
        use_case, metrics = results.experiment.use_case, self._metrics
        metrics.experiment_sample_ratio.labels(use_case).set(results.sample_ratio_p_value)
        for arm in results.arms:
            metrics.experiment_subjects.labels(use_case, arm.arm).set(arm.sums.subjects)
            for reaction, bound, value in _numbers(arm.rates):
                metrics.experiment_rate.labels(use_case, arm.arm, reaction, bound).set(value)
        for reaction, bound, value in _numbers(results.difference) if results.difference else ():
            metrics.experiment_difference.labels(use_case, reaction, bound).set(value)


def _numbers(rates: Rates) -> list[tuple[str, str, float]]:
    found = []
    for field in fields(rates):
        interval: Interval = getattr(rates, field.name)
        reaction = field.name.removesuffix("_rate")
        found += [
            (reaction, "rate", interval.rate),
            (reaction, "low", interval.low),
            (reaction, "high", interval.high),
        ]
    return found
