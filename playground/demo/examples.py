"""A few recommended lists with their explanations, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from matchloop.entities import Entity, EntityKey, Text, discrete_values
from matchloop.feedback.v1.session_pb2 import Method, Tier
from matchloop.ranking.v1 import ranking_service_pb2 as ranking_pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matchloop.ranking.v1.recommendation_pb2 import RankedItem
    from playground.clients import Clients
    from playground.market import Market

_ITEMS = 5
_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class ExampleItem:
    """One line of a recommended list, in words."""

    rank: int
    item_id: str
    about: str
    method: str
    score: float
    why: str
    truth: float


@dataclass(frozen=True, slots=True)
class Example:
    """A recommended list to look at."""

    use_case: str
    subject_id: str
    about: str
    tier: str
    items: tuple[ExampleItem, ...]

    def as_table(self) -> Table:
        """Return the list as a table for the terminal."""
        title = f"{self.use_case}: {self.subject_id} ({self.tier}; {self.about})"
        table = Table(title=title, title_justify="left", header_style="bold")
        for name in ("", "item", "about", "method", "score", "why", "truth"):
            table.add_column(name)
        for item in self.items:
            table.add_row(
                str(item.rank),
                item.item_id,
                item.about,
                item.method,
                f"{item.score:.3f}",
                item.why,
                f"{item.truth:.2f}",
            )
        return table


def examples_of(
    market: Market, clients: Clients, use_case: str, subjects: Sequence[str], *, count: int = 2
) -> list[Example]:
    """Ask for the lists of the first `count` subjects of different tiers, with explanations."""
    found: dict[int, Example] = {}
    for subject_id in subjects[:40]:
        reply = clients.ranking.Recommend(
            ranking_pb.RecommendRequest(
                use_case=use_case, subject_id=subject_id, count=_ITEMS, explain=True, preview=True
            ),
            timeout=_TIMEOUT,
        )
        if reply.tier not in found and reply.items:
            found[reply.tier] = _example(market, use_case, subject_id, reply)
        if len(found) == count:
            break
    return list(found.values())


def _example(market: Market, use_case: str, subject_id: str, reply: ranking_pb.RecommendResponse) -> Example:
    declared = market.use_cases[use_case]
    by_key = {entity.key: entity for kind in market.entities.values() for entity in kind}
    relevance = market.relevance(use_case, subject_id)
    rows = market.direction(use_case).item_row
    return Example(
        use_case=use_case,
        subject_id=subject_id,
        about=_about(by_key.get(EntityKey(declared.subject, subject_id))),  # type: ignore[arg-type]
        tier=Tier.Name(reply.tier).removeprefix("TIER_").lower(),
        items=tuple(
            ExampleItem(
                rank=item.rank,
                item_id=item.item_id,
                about=_about(by_key.get(EntityKey(declared.item, item.item_id))),  # type: ignore[arg-type]
                method=Method.Name(item.method).removeprefix("METHOD_").lower(),
                score=item.score,
                why=_why(item),
                truth=float(relevance[rows[item.item_id]]),
            )
            for item in reply.items
        ),
    )


def _about(entity: Entity | None, *, most: int = 3) -> str:
    """Say what an entity is in a few of its values."""
    if entity is None:
        return ""
    words = [
        value.value if isinstance(value, Text) else "/".join(discrete_values(value)[:2])
        for value in entity.features.values()
        if isinstance(value, Text) or discrete_values(value)
    ]
    return ", ".join(word[:28] for word in words[:most])


def _why(item: RankedItem, *, most: int = 2) -> str:
    """Say what spoke for an item: the fields that met, else its strongest ranking features."""
    contributions = sorted(item.explanation.contributions, key=lambda part: -part.amount)[:most]
    if contributions:
        return "; ".join(f"{part.field} {'/'.join(part.values[:2])}".strip() for part in contributions)
    features = sorted(item.explanation.features, key=lambda feature: -feature.value)[:most]
    return "; ".join(f"{feature.name} {feature.value:.2f}" for feature in features)
