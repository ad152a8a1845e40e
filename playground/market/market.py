"""A simulated two-sided market: entities, what happened before, and how subjects react to lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import NotFound, Reason
from matchloop.usecase import Tier
from playground.market.clicks import ClickModel, Reaction, Shown, outcomes, reactions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from matchloop.entities import Entity
    from matchloop.usecase import UseCase
    from playground.dataset import Dataset
    from playground.market.clicks import Outcomes
    from playground.market.direction import Direction
    from playground.market.generated import Sizes

PANEL_SHARES = {Tier.HOT: 0.3, Tier.WARM: 0.5, Tier.COLD: 0.2}
"""How a panel is mixed, as far as there are subjects of each tier."""


@dataclass(frozen=True, slots=True)
class MarketEvent:
    """An organic event before the first list; `event_time` is aware UTC."""

    interaction_id: str
    use_case: str
    subject_id: str
    item_id: str
    event_type: str
    event_time: datetime


class Market:
    """A market with a hidden preference per (subject, item), which only the market knows.

    Made by `Market.generated` or `Market.fitted`.

    Parameters
    ----------
    entities
        By kind.
    directions
        By use case id: a forward and its reverse, or more.
    past
        Draws the organic history.
    seed
        Fixes every reaction, together with round, use case and pair.
    clicks
        The click model.
    """

    def __init__(
        self,
        *,
        entities: Mapping[str, tuple[Entity, ...]],
        directions: Mapping[str, Direction],
        past: Callable[[np.random.Generator], list[MarketEvent]],
        seed: int,
        clicks: ClickModel | None = None,
    ) -> None:
        self.entities = entities
        self.seed = seed
        self.clicks = clicks or ClickModel()
        self._directions = directions
        self._past = past

    @classmethod
    def generated(
        cls, use_cases: Mapping[str, UseCase], *, seed: int, now: datetime, sizes: Sizes | None = None
    ) -> Market:
        """Generate developers, investors and startups, for the four shipped startup use cases.

        Parameters
        ----------
        use_cases
            Must hold `developer_startup`, `startup_developer`, `investor_startup`, `startup_investor`.
        seed
            Fixes the whole market.
        now
            Aware UTC; all that is generated lies before it.
        sizes
            How many of each kind.
        """
        from playground.market.generated import generate

        return generate(use_cases, seed=seed, now=now, sizes=sizes)

    @classmethod
    def fitted(cls, dataset: Dataset, use_case_ids: Sequence[str], *, seed: int, now: datetime) -> Market:
        """Fit the hidden preference to a data set.

        Parameters
        ----------
        dataset
            Its entities are the market's; its train events are the history, moved in time to end now.
        use_case_ids
            One use case, or a forward and its reverse.
        seed
            Fixes what the data do not say.
        now
            Aware UTC; all that happened lies before it.
        """
        from playground.market.fitted import fit

        return fit(dataset, use_case_ids, seed=seed, now=now)

    def only(self, use_case_ids: Sequence[str]) -> Market:
        """Return the market with these use cases alone: their kinds, their history.

        Raises
        ------
        NotFound
            One of them is not of this market.
        """
        directions = {name: self.direction(name) for name in use_case_ids}
        kinds = {kind for d in directions.values() for kind in (d.use_case.subject, d.use_case.item)}
        return Market(
            entities={kind: entities for kind, entities in self.entities.items() if kind in kinds},
            directions=directions,
            past=lambda rng: [event for event in self._past(rng) if event.use_case in directions],
            seed=self.seed,
            clicks=self.clicks,
        )

    @property
    def use_cases(self) -> Mapping[str, UseCase]:
        """The market's use cases by id."""
        return {name: direction.use_case for name, direction in self._directions.items()}

    def direction(self, use_case: str) -> Direction:
        """Return a direction of the market.

        Raises
        ------
        NotFound
            The market does not run that use case.
        """
        if use_case not in self._directions:
            raise NotFound(
                f"the market has no use case `{use_case}`; there are: {', '.join(self._directions)}",
                reason=Reason.USE_CASE_NOT_FOUND,
            )
        return self._directions[use_case]

    def history(self, rng: np.random.Generator) -> list[MarketEvent]:
        """Return the organic events of all use cases before the first list, oldest first."""
        return self._past(rng)

    def panel(self, use_case: str, n: int, rng: np.random.Generator) -> list[str]:
        """Choose at most `n` subjects who come back every round: hot, warm and cold mixed, shuffled."""
        direction = self.direction(use_case)
        tiers = np.array([direction.use_case.tiers.of(int(count)) for count in direction.activity])
        chosen: list[int] = []
        for tier, share in PANEL_SHARES.items():
            rows = rng.permutation(np.flatnonzero(tiers == tier))
            chosen += rows[: round(share * n)].tolist()
        others = rng.permutation(np.setdiff1d(np.arange(len(tiers)), chosen))
        # Subjects who act at all come before those who were never seen.
        others = others[np.argsort(direction.activity[others] == 0, kind="stable")]
        chosen += others[: max(0, n - len(chosen))].tolist()
        return [direction.subject_ids[row] for row in rng.permutation(chosen)[:n].astype(int)]

    def relevance(self, use_case: str, subject_id: str) -> NDArray[np.float32]:
        """Return the hidden preference in [0, 1] of one subject by item, in `direction(...).item_ids` order.

        Raises
        ------
        KeyError
            No such subject.
        """
        direction = self.direction(use_case)
        row: NDArray[np.float32] = direction.preferences(np.array([direction.subject_row[subject_id]]))[0]
        return row

    def truth_ndcg(
        self, use_case: str, shown: Shown, *, k: int = 10, excluded: frozenset[str] = frozenset()
    ) -> float:
        """Return NDCG@k of a list against the hidden preference, in [0, 1].

        Gains are the preferences themselves. The ideal is the best list of `k` among all items but `excluded`
        (what could not be shown any more).
        """
        direction = self.direction(use_case)
        row = self.relevance(use_case, shown.subject_id).astype(np.float64)
        gains = row[[direction.item_row[item_id] for item_id in shown.item_ids[:k]]]
        allowed = np.ones(len(row), dtype=bool)
        allowed[[direction.item_row[item_id] for item_id in excluded]] = False
        best = np.sort(np.partition(row[allowed], -min(k, allowed.sum()))[-k:])[::-1]
        discount = 1.0 / np.log2(np.arange(2, k + 2))
        ideal = float(best @ discount[: len(best)])
        return float(gains @ discount[: len(gains)]) / ideal if ideal > 0 else 0.0

    def play(self, use_case: str, lists: Sequence[Shown], round_: int) -> Outcomes:
        """Return what happens to every shown item: the same for a pair and rank in any list of the round.

        Raises
        ------
        KeyError
            A subject or an item that is not in the market.
        """
        return outcomes(self.direction(use_case), lists, model=self.clicks, seed=self.seed, round_=round_)

    def react(self, use_case: str, subject_id: str, item_ids: Sequence[str], round_: int) -> list[Reaction]:
        """Return the reactions of one subject to one list, in rank order."""
        return self.react_all(use_case, [Shown(subject_id, tuple(item_ids))], round_)[0]

    def react_all(self, use_case: str, lists: Sequence[Shown], round_: int) -> list[list[Reaction]]:
        """Return the reactions to each of many lists, as `react` would."""
        happened = self.play(use_case, lists, round_)
        return self.told(use_case, happened, len(lists))

    def told(self, use_case: str, happened: Outcomes, lists: int) -> list[list[Reaction]]:
        """Return outcomes as reactions, list by list."""
        grouped: list[list[Reaction]] = [[] for _ in range(lists)]
        for index, reaction in reactions(self.direction(use_case), happened):
            grouped[index].append(reaction)
        return grouped
