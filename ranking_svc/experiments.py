"""The experiments that run: learnt from the store, remembered while it is away and over restarts."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from matchloop.errors import DeadlinePassed, MatchloopError, Overloaded, Unavailable
from matchloop.experiments.arms import NO_ARM, arm_of
from matchloop.experiments.experiment import Experiment
from matchloop.observe import faults
from matchloop.observe.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

_log = get_logger()


def arm_in(experiment: Experiment | None, subject_id: str) -> str:
    """Return the arm of a subject; `NO_ARM` while no experiment runs."""
    if experiment is None:
        return NO_ARM
    return arm_of(
        experiment.use_case,
        subject_id,
        share=experiment.challenger_share,
        salt=experiment.experiment_id,
    )


class ExperimentSource(Protocol):
    """Who keeps the record of experiments."""

    def latest(self, use_case: str) -> Experiment | None:
        """Return the experiment that runs, else the latest; None when there never was one.

        Raises MatchloopError when it can't.
        """


class Experiments:
    """The running experiment of each use case.

    Subjects are dealt by a pure function of experiment and subject, so every process that knows the
    experiment deals alike. What was heard last holds until something else is heard: while the store is away,
    and after a restart, from disk.

    Parameters
    ----------
    use_cases
        Ids of the ones asked about.
    folder
        One JSON file each; made if missing.
    poll_seconds
        Pause between two looks. For so long after a start or a stop, processes may differ.
    after_poll
        Called in the polling thread after each look.
    """

    def __init__(
        self,
        use_cases: Collection[str],
        source: ExperimentSource,
        folder: Path,
        *,
        poll_seconds: float,
        after_poll: Callable[[], None] = lambda: None,
    ) -> None:
        self._use_cases = tuple(use_cases)
        self._source = source
        self._folder = folder
        self._poll_seconds = poll_seconds
        self._after_poll = after_poll
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._running = {name: found for name in self._use_cases if (found := self._read(name))}

    def running(self, use_case: str) -> Experiment | None:
        """Return the experiment that runs, as far as is known."""
        return self._running.get(use_case)

    def poll(self) -> bool:
        """Look once at every use case; tells whether the store answered for all. What it did not say stays.

        A store that is away is not asked again in this look.
        """
        answered = True
        for use_case in self._use_cases:
            try:
                self._take(use_case, self._source.latest(use_case))
            except MatchloopError as error:
                _log.info("experiments_not_read", use_case=use_case, reason=error.reason.value)
                answered = False
                if isinstance(error, Unavailable | DeadlinePassed | Overloaded):
                    break
        return answered

    def start(self) -> None:
        """Look once, then in a thread at every pause; never raises for a store that is away."""
        self._guarded_poll()
        self._thread = threading.Thread(target=self._run, name="experiments", daemon=True)
        self._thread.start()

    def close(self, timeout: float = 5.0) -> None:
        """Stop looking; waits at most `timeout` seconds."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._closed.wait(self._poll_seconds):
            self._guarded_poll()

    def _guarded_poll(self) -> None:
        try:
            self.poll()
            self._after_poll()
        except Exception:  # noqa: BLE001 - the thread must outlive a bug
            _log.exception("experiments_not_read")

    def _take(self, use_case: str, latest: Experiment | None) -> None:
        running = latest if latest is not None and latest.runs else None
        before = self._running.get(use_case)
        if running == before:
            return
        if running is None:
            self._running.pop(use_case, None)
        else:
            self._running[use_case] = running
        _log.info(
            "experiment_changed",
            use_case=use_case,
            running=running.experiment_id if running else None,
            before=before.experiment_id if before else None,
        )
        try:
            self._write(use_case, running)
        except OSError as error:
            _log.error("experiment_not_kept", use_case=use_case, error=faults.said(error))

    def _path(self, use_case: str) -> Path:
        return self._folder / f"{use_case}.json"

    def _write(self, use_case: str, running: Experiment | None) -> None:
        path = self._path(use_case)
        if running is None:
            path.unlink(missing_ok=True)
            return
        unfinished = path.with_suffix(".tmp")
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(
                {
                    "experiment_id": running.experiment_id,
                    "challenger_share": running.challenger_share,
                    "champion_release": running.champion_release,
                    "challenger_release": running.challenger_release,
                    "start_time": running.start_time.isoformat(),
                },
                file,
            )
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)

    def _read(self, use_case: str) -> Experiment | None:
        try:
            return _experiment(use_case, json.loads(self._path(use_case).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            _log.warning("experiment_unreadable", use_case=use_case, error=faults.said(error))
            return None


def _experiment(use_case: str, kept: Any) -> Experiment:
    share = float(kept["challenger_share"])
    if not 0.0 < share < 1.0:
        raise ValueError(f"challenger_share {share} is not between 0 and 1")
    return Experiment(
        experiment_id=str(kept["experiment_id"]),
        use_case=use_case,
        challenger_share=share,
        champion_release=str(kept["champion_release"]),
        challenger_release=str(kept["challenger_release"]),
        start_time=datetime.fromisoformat(kept["start_time"]).astimezone(UTC),
    )
