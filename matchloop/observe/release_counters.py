"""What a release slot does, as metrics: which release serves, how old it is, refusals, failed polls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matchloop.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from matchloop.observe.metrics import Metrics


class ReleaseCounters:
    """`matchloop.release.ReleaseMetrics` on the table of metrics.

    Parameters
    ----------
    use_cases
        Those whose releases are followed.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], datetime], use_cases: Iterable[str]) -> None:
        for use_case in use_cases:
            metrics.release_refused.labels(use_case, Reason.RELEASE_REFUSED.value)
            metrics.release_poll_failures.labels(use_case)
        self._metrics = metrics
        self._clock = clock
        self._serving: dict[tuple[str, str], str] = {}

    def release_loaded(self, use_case: str, alias: str, release: str, created: datetime) -> None:
        """See `ReleaseMetrics`."""
        before = self._serving.get((use_case, alias))
        if before is not None and before != release:
            self._metrics.release_info.remove(use_case, alias, before)
        self._serving[use_case, alias] = release
        self._metrics.release_info.labels(use_case, alias, release).set(1)
        age = self._metrics.release_age.labels(use_case, alias)
        age.set_function(lambda: (self._clock() - created).total_seconds())

    def release_emptied(self, use_case: str, alias: str) -> None:
        """See `ReleaseMetrics`."""
        before = self._serving.pop((use_case, alias), None)
        if before is not None:
            self._metrics.release_info.remove(use_case, alias, before)
            self._metrics.release_age.remove(use_case, alias)

    def release_fault(self, use_case: str, alias: str, reason: str) -> None:  # noqa: ARG002
        """See `ReleaseMetrics`."""
        if reason == Reason.REGISTRY_UNAVAILABLE:
            self._metrics.release_poll_failures.labels(use_case).inc()
        else:
            self._metrics.release_refused.labels(use_case, reason).inc()
