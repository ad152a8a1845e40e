"""Content scores taken apart in the words of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from candidate_svc.domain import Contribution, ValueFactor
from matchloop.entities import discrete_values
from matchloop.retrieval.content import EMBEDDING

if TYPE_CHECKING:
    from candidate_svc.query import Query
    from matchloop.retrieval.content import ContentHit
    from matchloop.retrieval.profile import ContentProfile

MOST_VALUES = 8


def contributions_of(
    hit: ContentHit, profile: ContentProfile, query: Query, *, like: bool = False
) -> tuple[Contribution, ...]:
    """Name what met in each field, and what dislikes have cut of it; the field that added most first.

    A field is named ``subject_field~item_field`` when a value that met is one of the subject's own, else
    ``reacted~item_field``; ``item_field~item_field`` when the profile is `like` an item.
    """
    item = query.rows.find(hit.item)
    found = []
    for field, amount in hit.contributions.items():
        if field == EMBEDDING or item is None:
            found.append(Contribution(field, (), amount))
            continue
        wanted, held = profile.weights.get(field, {}), discrete_values(item.features.get(field))
        factors = {value: profile.factors.get((field, value), 1.0) for value in held}
        met = [value for value in held if wanted.get(value) or factors[value] < 1.0]
        met.sort(key=lambda value: (-abs(wanted.get(value, 0.0)), value))
        cut = [ValueFactor(value, factors[value]) for value in met if factors[value] < 1.0]
        cut.sort(key=lambda each: (each.factor, each.value))
        name = f"{field if like else _source(field, met, query)}~{field}"
        found.append(Contribution(name, tuple(met[:MOST_VALUES]), amount, tuple(cut[:MOST_VALUES])))
    return tuple(sorted(found, key=lambda each: (-each.amount, each.field)))


def _source(field: str, met: list[str], query: Query) -> str:
    for match in query.asked.use_case.match if query.subject is not None else ():
        assert query.subject is not None
        if match.item == field and not set(met).isdisjoint(
            discrete_values(query.subject.features.get(match.subject))
        ):
            return match.subject
    return "reacted"
