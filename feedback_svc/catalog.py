"""The catalogue's values: pages by change sequence, item counts, and how counts decay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from matchloop.entities import EntityKey, Tombstone

T = TypeVar("T")

LEAST_EXPONENT = -500.0
"""Halvings beyond this many count as this many: a float8 in the store never underflows."""


@dataclass(frozen=True, slots=True)
class UpsertCounts:
    """What an upsert did; the three add up to the entities sent."""

    created: int
    updated: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Deactivated:
    """What a deactivation did: entities that were active, and keys that are not stored."""

    deactivated: int
    unknown: tuple[EntityKey, ...]


@dataclass(frozen=True, slots=True)
class ChangePosition:
    """Where a listing by change sequence goes on: after this row."""

    sequence: int = -1
    kind: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class ChangePage(Generic[T]):
    """One page of a listing by change sequence.

    Parameters
    ----------
    rows
        In order of change sequence, then kind and id.
    position
        Of the last row; None on the last page.
    next_sequence
        Changes that are not listed yet have this sequence or a higher one.
    erased
        Tombstones of the same listing, in the same order.
    """

    rows: tuple[T, ...]
    position: ChangePosition | None
    next_sequence: int
    erased: tuple[Tombstone, ...] = ()


@dataclass(frozen=True, slots=True)
class ItemStats:
    """What is counted of an item in one use case.

    Parameters
    ----------
    views
        Events whose type is a view.
    interactions
        Events of every other type with a positive weight.
    decayed_weight
        Sum of positive event weights, each halved once a half-life between its time and `decay_time`.
    decay_time
        The latest event time counted; aware UTC.
    change_sequence
        Grows with every change of these counts.
    """

    use_case: str
    item_id: str
    views: int
    interactions: int
    decayed_weight: float
    decay_time: datetime
    change_sequence: int = 0


def halved(earlier: datetime, later: datetime, half_life_seconds: float) -> float:
    """Return what is left at `later` of 1 at `earlier`: ``2 ** -(age / half-life)``, not under 2^-500."""
    age = (later - earlier).total_seconds()
    return float(2.0 ** max(LEAST_EXPONENT, -age / half_life_seconds))


def merge_decayed(
    one: tuple[float, datetime], other: tuple[float, datetime], half_life_seconds: float
) -> tuple[float, datetime]:
    """Add two decayed sums, each as of its own time.

    Commutative and associative up to rounding, so events may arrive in any order.

    Returns
    -------
    tuple
        The sum and the later of the two times, which it is as of.
    """
    time = max(one[1], other[1])
    total = sum(weight * halved(of, time, half_life_seconds) for weight, of in (one, other))
    return total, time


def split_page(page: ChangePage[T | Tombstone]) -> ChangePage[T]:
    """Return the page with its tombstones apart from the other rows."""
    return ChangePage(
        tuple(row for row in page.rows if not isinstance(row, Tombstone)),
        page.position,
        page.next_sequence,
        tuple(row for row in page.rows if isinstance(row, Tombstone)),
    )


def cut_page(rows: Sequence[T], limit: int) -> tuple[tuple[T, ...], bool]:
    """Return the first `limit` rows, and whether there are more."""
    return tuple(rows[:limit]), len(rows) > limit
