"""Whether a retraining is due, and the numbers that say so."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from feedback_svc.patterns import Pattern, PatternRules

ROUNDING = 1e-9
"""A mean is over its bound by more than this: the order in which it was summed must not decide."""


class Cause(StrEnum):
    """Why a retraining is due."""

    NEGATIVES = "negatives"
    ERROR = "error"
    PATTERN = "pattern"


@dataclass(frozen=True, slots=True)
class RetrainingBounds:
    """When a retraining is due.

    Parameters
    ----------
    negatives
        Unused negatives that make it due.
    error
        Mean prediction error over which it is due, in [0, 1].
    error_negatives
        Negatives with an error that the mean needs to count.
    patterns
        When a pattern among the unused negatives is one, and when it persists.
    """

    negatives: int = 20
    error: float = 0.7
    error_negatives: int = 10
    patterns: PatternRules = field(default_factory=PatternRules)


@dataclass(frozen=True, slots=True)
class NegativeNumbers:
    """The negatives no training has used, and the last training that used some.

    `with_error` of the `unused` have a prediction error, whose mean is `mean_error` (0 for none).
    """

    unused: int
    with_error: int
    mean_error: float
    last_retrain_time: datetime | None
    last_release: str


@dataclass(frozen=True, slots=True)
class RetrainingStatus:
    """The verdict; `persistent_patterns` are those among the unused negatives."""

    causes: tuple[Cause, ...]
    numbers: NegativeNumbers
    persistent_patterns: tuple[Pattern, ...] = ()

    @property
    def due(self) -> bool:
        """Whether there is a cause."""
        return bool(self.causes)


def judge_retraining(
    numbers: NegativeNumbers, bounds: RetrainingBounds, persistent_patterns: tuple[Pattern, ...] = ()
) -> RetrainingStatus:
    """Say whether a retraining is due."""
    causes = []
    if numbers.unused >= bounds.negatives:
        causes.append(Cause.NEGATIVES)
    if numbers.with_error >= bounds.error_negatives and numbers.mean_error - bounds.error > ROUNDING:
        causes.append(Cause.ERROR)
    if persistent_patterns:
        causes.append(Cause.PATTERN)
    return RetrainingStatus(tuple(causes), numbers, persistent_patterns)
