"""An experiment: a share of subjects, always the same ones, gets the challenger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Experiment:
    """A comparison of two releases on live subjects.

    Parameters
    ----------
    experiment_id
        Also deals the subjects.
    challenger_share
        Of subjects, over 0 and under 1.
    champion_release, challenger_release
        When it was started.
    stop_time, stop_reason
        None and empty while it runs.
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
    def runs(self) -> bool:
        """Whether it has not been stopped."""
        return self.stop_time is None
