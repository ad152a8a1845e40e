"""What came of the latest lists, by arm and release, as gauges.

They are read every so often and never by a scrape: a reading looks at every list of its span. Reactions to
the latest lists are still to come, so that rates are a little low, always by as much.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from feedback_svc.operations.reactions import ReactionKinds, ServedLists
from feedback_svc.store.protocol import Store
from matchloop.experiments.reactions import Reactions
from matchloop.observe.logs import get_logger
from matchloop.observe.metrics import Metrics
from matchloop.usecase import UseCases

CLOSE_SECONDS = 1.0

_log = get_logger()


class ReactionGauges:
    """Keeps `listed_items`, `listed_subjects` and `reaction_rate` of every use case.

    An arm and release without a list in the span has no gauges; nor has any while the store cannot be read.

    Parameters
    ----------
    span
        Age of the oldest list that is looked at.
    seconds
        From the end of a reading to the next one.
    """

    def __init__(
        self,
        store: Store,
        use_cases: UseCases,
        clock: Callable[[], datetime],
        *,
        span: timedelta,
        seconds: float,
        metrics: Metrics,
    ) -> None:
        self._store, self._clock, self._metrics = store, clock, metrics
        self._span, self._seconds = span, seconds
        self._kinds = {name: ReactionKinds.of(use_case) for name, use_case in use_cases.items()}
        self._shown: set[tuple[str, str, str]] = set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reaction-gauges", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Read no more; a reading under way is not waited for."""
        self._closing.set()
        self._thread.join(CLOSE_SECONDS)

    def read(self) -> None:
        """Set the gauges to what came of the span up to now."""
        now, found = self._clock(), set()
        for use_case, kinds in self._kinds.items():
            try:
                told = self._store.sum_reactions(ServedLists(use_case, now - self._span, now), kinds)
            except Exception as error:  # noqa: BLE001 - the next reading may find the store back
                _log.warning(
                    "reactions_not_read", use_case=use_case, error=f"{type(error).__name__}: {error}"
                )
                continue
            for group in told:
                self._show(use_case, group)
                found.add((use_case, group.arm, group.release))
        for gone in self._shown - found:
            self._forget(*gone)
        self._shown = found

    def _run(self) -> None:
        while not self._closing.is_set():
            self.read()
            self._closing.wait(self._seconds)

    def _show(self, use_case: str, group: Reactions) -> None:
        labels = (use_case, group.arm, group.release)
        self._metrics.listed_items.labels(*labels).set(group.shown)
        self._metrics.listed_subjects.labels(*labels).set(group.subjects)
        for reaction, moments in (
            ("click", group.clicks),
            ("strong_positive", group.strong_positives),
            ("dislike", group.dislikes),
        ):
            self._metrics.reaction_rate.labels(*labels, reaction).set(
                moments.total / group.shown if group.shown else 0.0
            )

    def _forget(self, use_case: str, arm: str, release: str) -> None:
        labels = {"use_case": use_case, "arm": arm, "release": release}
        for gauge in (self._metrics.listed_items, self._metrics.listed_subjects, self._metrics.reaction_rate):
            gauge.remove_by_labels(labels)
