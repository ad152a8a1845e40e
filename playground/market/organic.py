"""What happened in a generated market before its first list: subjects found items by themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from playground.market.market import MarketEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from matchloop.entities import Entity
    from playground.market.direction import Direction

SEEN_PER_EVENT = 4
"""Items looked at for each that something came of."""

STRONG = 0.5
"""Probability that an organic click becomes a strong positive, at preference 1."""


IDLE = 0.9
"""Probability that an item looked at and left is told as a view: organic views say little."""


class OrganicHistory:
    """Draws the events before the first list.

    A subject looks at items in proportion to their exposure, which has little to do with their quality, and a
    little to what it likes; then it reacts as its hidden preference says.

    Parameters
    ----------
    directions, entities
        The market's.
    now, days
        Events lie in the `days` before `now`, none before its entities were created.
    exposure
        By kind: how much an entity is seen, (n,), positive.
    """

    def __init__(
        self,
        directions: Mapping[str, Direction],
        entities: Mapping[str, Sequence[Entity]],
        *,
        now: datetime,
        days: float,
        exposure: Mapping[str, NDArray[np.float64]],
    ) -> None:
        self._directions = directions
        self._entities = entities
        self._now = now
        self._days = days
        self._exposure = exposure

    def draw(self, rng: np.random.Generator) -> list[MarketEvent]:
        """Return the events of all directions, oldest first; each pair at most once a direction."""
        events = [event for direction in self._directions.values() for event in self._of(direction, rng)]
        return sorted(events, key=lambda event: (event.event_time, event.interaction_id))

    def _of(self, direction: Direction, rng: np.random.Generator) -> list[MarketEvent]:
        use_case = direction.use_case
        strong = sorted(use_case.strong_events, key=lambda name: use_case.events[name].weight)
        views = sorted(use_case.view_events)
        exposure = self._exposure[use_case.item]
        preferences = direction.preferences(np.arange(len(direction.subject_ids)))
        events = []
        for subject, count in enumerate(direction.activity.tolist()):
            preference = preferences[subject]
            weight = exposure * (0.15 + preference)
            looked = min(SEEN_PER_EVENT * count, len(weight) // 2)
            seen = rng.choice(len(weight), size=looked, replace=False, p=weight / weight.sum())
            chances = rng.random((looked, 3))
            reacted = 0
            for item, (click, stronger, which) in zip(seen.tolist(), chances, strict=True):
                if reacted == count:
                    break
                if click < preference[item]:
                    type_ = "click"
                    if stronger < STRONG * preference[item]:
                        type_ = strong[int(which * len(strong))]
                elif which < IDLE and views:
                    type_ = views[0]
                else:
                    continue
                reacted += 1
                events.append(self._event(direction, subject, item, type_, rng))
        return events

    def _event(
        self, direction: Direction, subject: int, item: int, type_: str, rng: np.random.Generator
    ) -> MarketEvent:
        use_case = direction.use_case
        sides = (self._entities[use_case.subject][subject], self._entities[use_case.item][item])
        begun = [self._now - timedelta(days=self._days)]
        begun += [entity.create_time for entity in sides if entity.create_time is not None]
        span = (self._now - max(begun)).total_seconds()
        time = self._now - timedelta(seconds=int(rng.random() * span))
        subject_id, item_id = direction.subject_ids[subject], direction.item_ids[item]
        return MarketEvent(
            f"past-{use_case.id}-{subject_id}-{item_id}", use_case.id, subject_id, item_id, type_, time
        )
