"""An item's discrete values as ranking features weigh them, and what values a subject took to."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from matchloop.entities import discrete_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from matchloop.entities import Entity

DiscreteValues = Mapping[str, Sequence[str]]
"""The discrete values of one item by feature name."""


ValueShares = Sequence[tuple[str, tuple[str, ...], float]]
"""One item's discrete values, ready to be weighed: by feature, in the order of their names, the distinct
values, sorted, and the share of each, 1/√count. Of `value_shares`; worth keeping with the item."""


def discrete_features(item: Entity) -> dict[str, tuple[str, ...]]:
    """Return an item's categorical and multi values by feature name; features without values are left out."""
    found = {name: discrete_values(value) for name, value in item.features.items()}
    return {name: values for name, values in found.items() if values}


def value_shares(values: DiscreteValues) -> ValueShares:
    """Return an item's values ready to be weighed; features without values are left out."""
    found = []
    for name in sorted(values):
        held = tuple(values[name])
        if len(held) > 1:
            held = tuple(sorted(set(held)))
        if held:
            found.append((name, held, 1.0 / math.sqrt(len(held))))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class ValueProfile:
    """What values the items had that a subject reacted to.

    Parameters
    ----------
    weights
        Weight by item feature name and value, each feature's weights of Euclidean length 1; negative
        for values the subject pushed away. Empty for a subject that reacted to nothing.
    """

    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, reactions: Iterable[tuple[ValueShares, float]]) -> ValueProfile:
        """Build the profile from (the item's values, the reaction's weight) pairs, in any order.

        The weight is the event's, decayed as the caller sees fit; a dislike's is negative. An item's
        weight is shared by the values of a feature (1/√count each), so an item with many values does
        not drown the others.
        """
        sums: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        for shares, weight in reactions:
            for name, values, share in shares:
                bucket, each = sums[name], weight * share
                for value in values:
                    bucket[value] += each
        weights = {}
        for name in sorted(sums):
            length = math.sqrt(sum([weight * weight for weight in sums[name].values()]))
            if length > 0.0:
                weights[name] = {value: weight / length for value, weight in sums[name].items()}
        return cls(weights)


def field_match(
    subject: DiscreteValues, fields: Sequence[str], items: Sequence[ValueShares], item_field: str
) -> NDArray[np.float32]:
    """Return the cosine between a subject's values and each item's, (n,) float32 in [0, 1].

    Parameters
    ----------
    fields
        Features of the subject; their values count as one set.
    items
        n items' values.
    item_field
        Feature of the items; 0 where either side has no value.
    """
    wanted = {value for name in fields for value in subject.get(name, ())}
    if not wanted:
        return np.zeros(len(items), dtype=np.float32)
    found = [
        sum(
            share * sum(value in wanted for value in values)
            for name, values, share in own
            if name == item_field
        )
        for own in items
    ]
    return np.asarray(found, dtype=np.float32) / np.float32(math.sqrt(len(wanted)))
