"""Chance in served lists: which items change places, and how likely each came to stand where it does.

A list is parted into blocks of neighbouring ranks, in one of two ways. Which of them is no matter of chance:
it follows from the subject and the list. With the probability `share` every block is shuffled, each order of
it as likely as another; else the list stays as it was ordered. So an item of a block of w ranks stands at its
own rank with probability 1 − share + share / w and at each other rank of the block with share / w, whether
or not the list was shuffled; and it moves w − 1 = `reach` ranks at most. Together the two ways of parting
link all ranks of a list, so that examination can be compared over all of them (Agarwal, Zaitsev, Wang, Li,
Najork, Joachims 2019, "Estimating position bias without intrusive interventions").
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import InvalidInput, Violation
from matchloop.position import examination

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matchloop.usecase import Exploration, UseCases
    from ranking_svc.domain import ListItem

TILINGS = 2
"""In how many ways a list is parted into blocks."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """An order of n places, with the probability of what stands where.

    Parameters
    ----------
    order
        n places before, from 0, by place now.
    propensities
        n probabilities, in (0, 1]: that this item stands at this place, over all that chance could have done.
    """

    order: tuple[int, ...]
    propensities: tuple[float, ...]

    @property
    def changed(self) -> bool:
        """Whether anything stands elsewhere than before."""
        return any(now != before for now, before in enumerate(self.order))


def blocks_of(count: int, reach: int, tiling: int) -> tuple[range, ...]:
    """Return the places, from 0, of each block of a list; places in no block are not left to chance.

    Blocks are complete and alike: reach + 1 places, or the whole of a shorter list.

    Parameters
    ----------
    count
        Length of the list, 0 or more.
    tiling
        0: blocks begin with the first place. 1: blocks end with the last place, or, where they would be the
        same, begin half a block later.
    """
    width = min(reach + 1, count)
    if width < 2:
        return ()
    start = 0
    if tiling:
        start = count % width or (width // 2 if count >= 2 * width else 0)
    return tuple(range(begin, begin + width) for begin in range(start, count - width + 1, width))


def arrange(count: int, policy: Exploration, *, tiling: int, rng: np.random.Generator) -> Arrangement:
    """Draw an order of a list.

    Parameters
    ----------
    count
        Length of the list, 0 or more.
    tiling
        See `blocks_of`.
    """
    order = list(range(count))
    propensities = [1.0] * count
    shuffled = bool(rng.random() < policy.share)
    for block in blocks_of(count, policy.reach, tiling):
        width = len(block)
        if shuffled:
            order[block.start : block.stop] = (block.start + rng.permutation(width)).tolist()
        for place in block:
            left = 1.0 - policy.share if order[place] == place else 0.0
            propensities[place] = left + policy.share / width
    return Arrangement(tuple(order), tuple(propensities))


def largest_cost(policy: Exploration) -> float:
    """Return what share of a list's DCG exploration takes on average at most, whatever its items are worth.

    At worst all the worth stands at rank 1: in `share` of lists it gets the mean discount of its block.
    """
    discounts = examination(np.arange(1, policy.reach + 2))
    return float(policy.share * (1.0 - discounts.mean()))


def explored(
    items: Sequence[ListItem],
    policy: Exploration,
    *,
    use_case: str,
    subject_id: str,
    request_id: str,
    fixed: bool = False,
) -> tuple[ListItem, ...]:
    """Return the list as it is shown, each item with its propensity and otherwise as it was.

    The same request gives the same list again.

    Parameters
    ----------
    items
        In the order they were placed.
    policy
        With share 0 nothing happens: propensity 0, not logged.
    request_id
        Seeds chance; a new one for each request, but for a retry.
    fixed
        The order must stay: every propensity is 1.
    """
    if policy.share <= 0.0:
        return tuple(items)
    if fixed:
        return tuple(replace(item, propensity=1.0) for item in items)
    tiling = _number(use_case, subject_id, *(item.item_id for item in items)) % TILINGS
    rng = np.random.Generator(np.random.PCG64(_number(use_case, subject_id, request_id)))
    drawn = arrange(len(items), policy, tiling=tiling, rng=rng)
    return tuple(
        replace(items[before], propensity=propensity)
        for before, propensity in zip(drawn.order, drawn.propensities, strict=True)
    )


def policies(
    use_cases: UseCases, *, shares: Mapping[str, float], reach: int | None
) -> dict[str, Exploration]:
    """Return each use case's policy: as it declares, but for what the settings say.

    Parameters
    ----------
    shares
        By use case, in place of its own share.
    reach
        In place of every use case's own; None: its own.

    Raises
    ------
    InvalidInput
        Naming each use case that there is not.
    """
    unknown = [name for name in shares if name not in use_cases]
    if unknown:
        known = ", ".join(use_cases)
        raise InvalidInput.of(
            [
                Violation(f"exploration_shares.{name}", f"there is no such use case; there are: {known}")
                for name in unknown
            ]
        )
    found = {}
    for name, use_case in use_cases.items():
        declared = use_case.ranking.exploration
        told = {"share": shares.get(name, declared.share), "reach": reach or declared.reach}
        found[name] = declared.model_copy(update=told)
    return found


def _number(*texts: str) -> int:
    digest = hashlib.sha256("\x1f".join(texts).encode()).digest()
    return int.from_bytes(digest[:16], "big")
