"""What one policy chose by chance and what came of it, and what another would have chosen in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import InvalidInput, Violation

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Log:
    """What the logging policy did.

    Parameters
    ----------
    reward
        (n,) float64, finite.
    propensity
        (n,) float64 in (0, 1]: with which probability it took the action it took.
    unit
        (n,) int64 from 0: rows of one unit (a subject, a list) are resampled together.

    Raises
    ------
    InvalidInput
        Naming every array of another length or out of range.
    """

    reward: NDArray[np.float64]
    propensity: NDArray[np.float64]
    unit: NDArray[np.int64]

    def __post_init__(self) -> None:
        faults = _lengths(len(self.reward), propensity=self.propensity, unit=self.unit)
        if not np.isfinite(self.reward).all():
            faults.append(Violation("reward", "must be finite"))
        if not ((self.propensity > 0.0) & (self.propensity <= 1.0)).all():
            faults.append(Violation("propensity", "must be over 0 and at most 1"))
        if len(self.unit) and self.unit.min() < 0:
            faults.append(Violation("unit", "must be 0 or more"))
        if faults:
            raise InvalidInput.of(faults)

    def __len__(self) -> int:
        return len(self.reward)

    def take(self, rows: NDArray[np.int64]) -> Log:
        """Return some rows."""
        return Log(self.reward[rows], self.propensity[rows], self.unit[rows])

    @classmethod
    def of(cls, reward: ArrayLike, propensity: ArrayLike, unit: ArrayLike | None = None) -> Log:
        """Make it of anything array-like; without `unit` each row is a unit of its own."""
        rewards = np.asarray(reward, dtype=np.float64)
        units = np.arange(len(rewards)) if unit is None else np.asarray(unit)
        return cls(rewards, np.asarray(propensity, dtype=np.float64), units.astype(np.int64))


@dataclass(frozen=True, slots=True)
class Policy:
    """What the policy in question would have done in each row of a log.

    Parameters
    ----------
    chance
        (n,) float64 in [0, 1]: with which probability it takes the logged action.
    predicted, expected
        (n,) float64: q(a), the modelled reward of the logged action, and q(π), that of the policy's own. The
        model must not have seen the row: `reward_model.cross_fitted`. None: there is no DR.

    Raises
    ------
    InvalidInput
        Naming every array of another length or out of range.
    """

    chance: NDArray[np.float64]
    predicted: NDArray[np.float64] | None = None
    expected: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        given = {"predicted": self.predicted, "expected": self.expected}
        faults = _lengths(len(self.chance), **{n: v for n, v in given.items() if v is not None})
        if not ((self.chance >= 0.0) & (self.chance <= 1.0 + 1e-9)).all():
            faults.append(Violation("chance", "must be in [0, 1]"))
        if (self.predicted is None) is not (self.expected is None):
            faults.append(Violation("expected", "goes with predicted"))
        faults += [Violation(n, "must be finite") for n, v in given.items() if _infinite(v)]
        if faults:
            raise InvalidInput.of(faults)

    def take(self, rows: NDArray[np.int64]) -> Policy:
        """Return what it would have done in some rows."""
        if self.predicted is None or self.expected is None:
            return Policy(self.chance[rows])
        return Policy(self.chance[rows], self.predicted[rows], self.expected[rows])


def _lengths(wanted: int, **arrays: NDArray[np.float64] | NDArray[np.int64]) -> list[Violation]:
    return [
        Violation(name, f"shape {array.shape} instead of ({wanted},)")
        for name, array in arrays.items()
        if array.shape != (wanted,)
    ]


def _infinite(values: NDArray[np.float64] | None) -> bool:
    return values is not None and not bool(np.isfinite(values).all())
