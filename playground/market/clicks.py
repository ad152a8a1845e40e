"""The click model: what a subject does with a list it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from playground.market.chance import Purpose, uniforms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from playground.market.direction import Direction


@dataclass(frozen=True, slots=True)
class ClickModel:
    """Position-based: examination 1 / log2(rank + 1) times attraction (Craswell et al. 2008).

    Parameters
    ----------
    strong
        Probability that a click becomes a strong positive, at preference 1; it falls with its square.
    view
        Probability, at preference 1, that an examined item neither clicked nor rejected is told as a view; it
        falls with the root of the preference: what nobody likes is passed over without a trace.
    dislike
        Probability that an examined item of no preference at all is rejected outright.
    dislike_below
        Preference from which on nothing is rejected.
    """

    strong: float = 0.35
    view: float = 0.8
    dislike: float = 0.08
    dislike_below: float = 0.15


@dataclass(frozen=True, slots=True)
class Shown:
    """One list: item ids in rank order (rank 1 first)."""

    subject_id: str
    item_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a subject did with one item of a list.

    Parameters
    ----------
    use_case, subject_id, item_id
        The pair, and the direction.
    rank
        Place in the list, from 1: what ties the reaction to its session.
    event_type
        One of the use case's.
    reason
        Of a dislike, one of the use case's; else None.
    """

    use_case: str
    subject_id: str
    item_id: str
    rank: int
    event_type: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What happened to every shown item, in columns: lists in order, rank 1 first.

    Parameters
    ----------
    list_index, rank, subject_row, item_row
        Where and what.
    examined, clicked, strong, disliked, viewed
        What happened; clicked within examined, strong within clicked, disliked outside it, viewed: neither.
    level
        In [0, 1): which of the strong event types, or of the reasons.
    """

    list_index: NDArray[np.intp]
    rank: NDArray[np.int64]
    subject_row: NDArray[np.intp]
    item_row: NDArray[np.intp]
    examined: NDArray[np.bool_]
    clicked: NDArray[np.bool_]
    strong: NDArray[np.bool_]
    disliked: NDArray[np.bool_]
    viewed: NDArray[np.bool_]
    level: NDArray[np.float64]


def outcomes(
    direction: Direction, lists: Sequence[Shown], *, model: ClickModel, seed: int, round_: int
) -> Outcomes:
    """Play lists against the hidden preference.

    Raises
    ------
    KeyError
        A subject or an item that is not in the market.
    """
    sizes = np.array([len(shown.item_ids) for shown in lists], dtype=np.intp)
    of_list = np.array([direction.subject_row[shown.subject_id] for shown in lists], dtype=np.intp)
    item = np.array(
        [direction.item_row[item_id] for shown in lists for item_id in shown.item_ids], dtype=np.intp
    )
    list_index = np.repeat(np.arange(len(lists), dtype=np.intp), sizes)
    rank = np.arange(len(item), dtype=np.int64) - np.repeat(np.cumsum(sizes) - sizes, sizes) + 1
    subject = of_list[list_index]
    preference = direction.preferences(of_list)[list_index, item].astype(np.float64)

    def chance(purpose: Purpose) -> NDArray[np.float64]:
        return uniforms(
            seed=seed,
            round_=round_,
            use_case=direction.use_case.id,
            subjects=direction.subject_hash[subject],
            items=direction.item_hash[item],
            purpose=purpose,
        )

    examined = chance(Purpose.EXAMINE) < 1.0 / np.log2(rank + 1.0)
    clicked = examined & (chance(Purpose.CLICK) < preference)
    strong = clicked & (chance(Purpose.STRENGTH) < model.strong * preference**2)
    rejected = model.dislike * np.clip(1.0 - preference / model.dislike_below, 0.0, 1.0)
    disliked = examined & ~clicked & (chance(Purpose.DISLIKE) < rejected)
    viewed = examined & ~clicked & ~disliked & (chance(Purpose.VIEW) < model.view * np.sqrt(preference))
    level = np.where(disliked, chance(Purpose.REASON), _leaning_up(chance(Purpose.KIND), preference))
    return Outcomes(list_index, rank, subject, item, examined, clicked, strong, disliked, viewed, level)


def _leaning_up(chance: NDArray[np.float64], preference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lean towards 1 with the preference: the stronger it is, the stronger the event."""
    leaning: NDArray[np.float64] = chance ** (1.5 - preference)
    return np.minimum(leaning, 1.0 - 1e-9)


def reactions(direction: Direction, happened: Outcomes) -> list[tuple[int, Reaction]]:
    """Tell outcomes as events with the list they belong to, in list and rank order.

    A strong positive comes after its click. Items that were not examined leave no trace.
    """
    use_case = direction.use_case
    strong_types = sorted(use_case.strong_events, key=lambda name: use_case.events[name].weight)
    views = sorted(use_case.view_events)
    told = []
    for i in np.flatnonzero(happened.clicked | happened.disliked | happened.viewed).tolist():
        subject, item = int(happened.subject_row[i]), int(happened.item_row[i])
        reason = None
        if happened.clicked[i]:
            types = ["click"] if "click" in use_case.events else []
            if happened.strong[i]:
                types.append(strong_types[int(happened.level[i] * len(strong_types))])
        elif happened.disliked[i]:
            types, reason = [use_case.dislike_event], _reason(direction, subject, item, happened.level[i])
        else:
            types = views[:1]
        told += [
            (
                int(happened.list_index[i]),
                Reaction(
                    use_case.id,
                    direction.subject_ids[subject],
                    direction.item_ids[item],
                    int(happened.rank[i]),
                    type_,
                    reason,
                ),
            )
            for type_ in types
        ]
    return told


def _reason(direction: Direction, subject: int, item: int, level: float) -> str:
    """Choose a reason, mostly one the pair bears out: a field where the item has nothing liked."""
    borne_out = []
    for reason, effect in direction.use_case.dislikes.items():
        for name in effect.fields:
            liked, has = direction.taste(subject, name), direction.item_values(item, name)
            if reason.startswith("wrong_") and liked and has and not liked & has:
                borne_out.append(reason)
                break
    known: list[str] = [*direction.use_case.dislikes]
    general = [name for name in known if name in ("not_interested", "poor_quality", "other")]
    choices = borne_out * 3 + (general or known)
    return choices[int(level * len(choices))]
