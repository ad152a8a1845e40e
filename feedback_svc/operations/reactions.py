"""What came of lists: which reactions count as what, and how they are summed up by arm and release."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from matchloop.experiments.reactions import Moments, Reactions
from matchloop.usecase import UseCase

DIVERSITY, FRESHNESS = "diversity", "recency"
"""Logged features whose means are told."""


class Grouping(StrEnum):
    """How lists are put together; a subject with lists in two groups counts in both."""

    ARM_AND_RELEASE = "arm_and_release"
    ARM = "arm"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class ServedLists:
    """Lists that ranking_svc served in [from_time, to_time), None: till now; of a release, empty: of all."""

    use_case: str
    from_time: datetime
    to_time: datetime | None = None
    release: str = ""
    grouping: Grouping = Grouping.ARM_AND_RELEASE

    def group_of(self, arm: str, release: str) -> tuple[str, str]:
        """Return the arm and release under which a list is summed up; empty where it does not matter."""
        return (
            "" if self.grouping is Grouping.RELEASE else arm,
            "" if self.grouping is Grouping.ARM else release,
        )


@dataclass(frozen=True, slots=True)
class ReactionKinds:
    """The event types that count as a click, as a strong positive, as a dislike."""

    clicks: frozenset[str]
    strong_positives: frozenset[str]
    dislikes: frozenset[str]

    @classmethod
    def of(cls, use_case: UseCase) -> ReactionKinds:
        """Return those of a use case."""
        return cls(
            frozenset(name for name, event in use_case.events.items() if event.weight > 0 and not event.view),
            frozenset(use_case.strong_events),
            frozenset({use_case.dislike_event}),
        )


class FeatureSum(NamedTuple):
    """Of a feature over the items that have it logged."""

    total: float = 0.0
    items: int = 0

    def plus(self, other: FeatureSum) -> FeatureSum:
        """Return the sum of both."""
        return FeatureSum(self.total + other.total, self.items + other.items)

    @property
    def mean(self) -> float:
        """The mean; 0 for no item."""
        return self.total / self.items if self.items else 0.0


@dataclass(frozen=True, slots=True)
class ListOutcome:
    """What came of one list: how many of its items were clicked, strongly reacted to, disliked."""

    arm: str
    release: str
    subject_id: str
    shown: int
    reranked: bool
    clicked: int
    strong: int
    disliked: int
    diversity: FeatureSum
    freshness: FeatureSum


def sum_up(lists: Iterable[ListOutcome]) -> tuple[Reactions, ...]:
    """Return the sums by arm, then release; the unit is the subject."""
    groups: dict[tuple[str, str], list[ListOutcome]] = {}
    for outcome in lists:
        groups.setdefault((outcome.arm, outcome.release), []).append(outcome)
    return tuple(_of_group(*key, groups[key]) for key in sorted(groups))


def _of_group(arm: str, release: str, lists: Sequence[ListOutcome]) -> Reactions:
    numbers: dict[str, tuple[int, ...]] = {}
    diversity, freshness = FeatureSum(), FeatureSum()
    for each in lists:
        own = (each.shown, each.clicked, each.strong, each.disliked)
        before = numbers.get(each.subject_id, (0, 0, 0, 0))
        numbers[each.subject_id] = tuple(a + b for a, b in zip(before, own, strict=True))
        diversity, freshness = diversity.plus(each.diversity), freshness.plus(each.freshness)
    shown, *reacted = zip(*numbers.values(), strict=True)
    clicks, strong, dislikes = (_moments(each, shown) for each in reacted)
    return Reactions(
        arm=arm,
        release=release,
        subjects=len(numbers),
        sessions=len(lists),
        shown=sum(shown),
        shown_squares=float(sum(number * number for number in shown)),
        clicks=clicks,
        strong_positives=strong,
        dislikes=dislikes,
        reranked_sessions=sum(each.reranked for each in lists),
        mean_diversity=diversity.mean,
        mean_freshness=freshness.mean,
    )


def _moments(numbers: Sequence[int], shown: Sequence[int]) -> Moments:
    return Moments(
        sum(numbers),
        float(sum(number * number for number in numbers)),
        float(sum(number * of for number, of in zip(numbers, shown, strict=True))),
    )
