"""Acts: what a job or a person did to a use case, with the numbers it was done on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ActKind(StrEnum):
    """What was done."""

    RETRAINED = "retrained"
    NOT_DUE = "not_due"
    PROMOTED = "promoted"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"
    EXPERIMENT_STARTED = "experiment_started"
    EXPERIMENT_STOPPED = "experiment_stopped"
    DRIFTED = "drifted"


@dataclass(frozen=True, slots=True)
class ActNumber:
    """A number that an act rests on; both finite, `threshold` None where it was held against nothing."""

    name: str
    value: float
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """Something done; never changed.

    Parameters
    ----------
    act_id
        Unique over all acts.
    automatic
        No person asked for it.
    release
        The one it is about; may be empty.
    reason
        Why, in a sentence.
    """

    act_id: str
    use_case: str
    kind: ActKind
    automatic: bool
    release: str
    reason: str
    numbers: tuple[ActNumber, ...]
    act_time: datetime
