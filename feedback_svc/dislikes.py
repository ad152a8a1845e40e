"""Dislikes: what a rejection hides, which of the subject's feature weights it cuts, and how cuts decay.

A cut multiplies a value's factor, never under `FLOOR`; the distance from 1 halves every `HALF_LIFE_DAYS`.
A subject's factors are a function of the set of its dislikes, taken by event time, so the order of
arrival changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from matchloop.entities import Entity, discrete_values
from matchloop.errors import Conflict
from matchloop.usecase import DislikeReason

FLOOR = 0.2
HALF_LIFE_DAYS = 90.0
HALF_LIFE = timedelta(days=HALF_LIFE_DAYS)
EXAMPLE_WEIGHT = 0.8
"""Of a fresh negative example; training multiplies it by a time decay."""
SPENT = 1e-3
"""A factor nearer to 1 than this is 1."""


@dataclass(frozen=True, slots=True)
class Dislike:
    """One explicit rejection; `predicted_score` in [0, 1], None when the client did not say."""

    dislike_id: str
    use_case: str
    subject_id: str
    item_id: str
    reason: str
    comment: str
    session_id: str
    predicted_score: float | None
    event_time: datetime


@dataclass(frozen=True, slots=True)
class Cut:
    """What one dislike takes from one feature value: the share `cut`, at `event_time`."""

    feature: str
    value: str
    cut: float
    event_time: datetime
    dislike_id: str


@dataclass(frozen=True, slots=True)
class Factor:
    """A feature value's factor for one subject, in [FLOOR, 1], as of a time."""

    feature: str
    value: str
    factor: float
    as_of: datetime


@dataclass(frozen=True, slots=True)
class WeightChange:
    """A factor before and after a dislike, as of the dislike's event time."""

    feature: str
    value: str
    before: float
    after: float
    half_life_time: datetime


@dataclass(frozen=True, slots=True)
class StoredDislike:
    """A dislike as it is kept.

    Parameters
    ----------
    dislike
        Its `predicted_score` is the client's, else the session's, else None.
    error
        Predicted score minus the target 0; None when nothing was predicted.
    changes
        What it did when it arrived.
    cut
        The share it took from each value in `changes`.
    used_by_release
        Empty: no training has used it.
    """

    dislike: Dislike
    error: float | None
    example_weight: float
    changes: tuple[WeightChange, ...]
    cut: float
    receive_time: datetime
    sequence: int = 0
    used_by_release: str = ""

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """What it takes from each value."""
        return tuple(
            Cut(change.feature, change.value, self.cut, self.dislike.event_time, self.dislike.dislike_id)
            for change in self.changes
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a dislike did; `duplicate`: it was stored before, or is late, and nothing changed now."""

    stored: StoredDislike
    duplicate: bool


def decayed_factor(factor: float, as_of: datetime, now: datetime) -> float:
    """Return a factor at `now`: its distance from 1 halves every `HALF_LIFE_DAYS`; never grows backwards."""
    age = max(0.0, (now - as_of) / HALF_LIFE)
    return 1.0 - (1.0 - factor) * float(2.0**-age)


def fold(cuts: Iterable[Cut], *, start: datetime | None = None) -> Factor | None:
    """Apply the cuts of one feature value by event time (then dislike id); None for no cuts.

    Parameters
    ----------
    start
        Cuts after this time are left out.
    """
    state: Factor | None = None
    for cut in sorted(cuts, key=lambda c: (c.event_time, c.dislike_id)):
        if start is not None and cut.event_time > start:
            break
        before = decayed_factor(state.factor, state.as_of, cut.event_time) if state else 1.0
        state = Factor(cut.feature, cut.value, max(FLOOR, before * (1.0 - cut.cut)), cut.event_time)
    return state


def values_cut(reason: DislikeReason, item: Entity | None) -> tuple[tuple[str, str], ...]:
    """Return the (feature, value) pairs that a dislike of `item` cuts; none for an unknown item."""
    if item is None or not reason.cut:
        return ()
    return tuple(
        (name, value) for name in reason.fields for value in discrete_values(item.features.get(name))
    )


def judge(
    dislike: Dislike,
    *,
    reason: DislikeReason,
    item: Entity | None,
    earlier: Sequence[Cut],
    session_score: float | None,
    receive_time: datetime,
) -> tuple[StoredDislike, tuple[Factor, ...]]:
    """Say what a dislike does.

    Parameters
    ----------
    earlier
        Cuts of the subject's other dislikes in the use case.
    session_score
        The item's score in the dislike's session; used, brought into [0, 1], when the client predicted
        nothing.

    Returns
    -------
    tuple
        The dislike to store, and the new factors of the values it cuts.
    """
    predicted = dislike.predicted_score
    if predicted is None and session_score is not None:
        predicted = min(1.0, max(0.0, session_score))
    changes, factors = [], []
    for feature, value in values_cut(reason, item):
        others = [cut for cut in earlier if (cut.feature, cut.value) == (feature, value)]
        own = Cut(feature, value, reason.cut, dislike.event_time, dislike.dislike_id)
        at = fold(others, start=dislike.event_time)
        before = decayed_factor(at.factor, at.as_of, dislike.event_time) if at else 1.0
        after = max(FLOOR, before * (1.0 - reason.cut))
        changes.append(WeightChange(feature, value, before, after, dislike.event_time + HALF_LIFE))
        folded = fold([*others, own])
        if folded is not None:
            factors.append(folded)
    stored = StoredDislike(
        dislike=replace(dislike, predicted_score=predicted),
        error=predicted,
        example_weight=EXAMPLE_WEIGHT,
        changes=tuple(changes),
        cut=reason.cut,
        receive_time=receive_time,
    )
    return stored, tuple(factors)


def dropped(dislike: Dislike, *, receive_time: datetime) -> Receipt:
    """Answer a dislike about an entity that was erased since: it has no effect."""
    stored = StoredDislike(
        dislike, error=None, example_weight=0.0, changes=(), cut=0.0, receive_time=receive_time
    )
    return Receipt(stored, duplicate=True)


def replayed(found: StoredDislike, sent: Dislike) -> Receipt:
    """Answer a dislike whose id is stored.

    Raises
    ------
    Conflict
        When the id was given to a rejection of something else, or by someone else.
    """
    stored = found.dislike
    if (stored.use_case, stored.subject_id, stored.item_id) != (sent.use_case, sent.subject_id, sent.item_id):
        raise Conflict(f"`{sent.dislike_id}` is the id of another dislike")
    return Receipt(found, duplicate=True)
