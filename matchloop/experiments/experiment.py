"""An experiment, as the store, the service that deals the subjects and the jobs know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matchloop.experiments.arms import arm_of

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Experiment:
    """A comparison of two releases on live subjects.

    Parameters
    ----------
    experiment_id
        Also deals the subjects.
    challenger_share
        Of subjects that get the challenger, over 0 and under 1.
    champion_release, challenger_release
        The releases when it was started.
    start_time, stop_time
        Aware UTC; no `stop_time` while it runs.
    """

    experiment_id: str
    use_case: str
    challenger_share: float
    champion_release: str
    challenger_release: str
    start_time: datetime
    stop_time: datetime | None = None
    stop_reason: str = ""

    @property
    def running(self) -> bool:
        """Whether it has not been stopped."""
        return self.stop_time is None

    def arm_of(self, subject_id: str) -> str:
        """Return the arm of a subject, the same one for ever."""
        return arm_of(self.use_case, subject_id, share=self.challenger_share, salt=self.experiment_id)
