"""Items' discrete values, unpacked when they are asked for and kept for as long as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matchloop.rerank.values import value_shares

if TYPE_CHECKING:
    from collections.abc import Mapping

    from candidate_svc.packed import FeaturePacker
    from matchloop.rerank.values import ValueShares

MOST = 30_000
"""Items kept; between this many and twice as many when all are asked for."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was worked out of an item as it was when its bytes were these.

    Parameters
    ----------
    discrete
        Its categorical and multi values by feature name.
    shares
        The same, as ranking features weigh them.
    """

    packed: bytes
    discrete: Mapping[str, tuple[str, ...]]
    shares: ValueShares


class UnpackedValues:
    """Values by row, in two generations: who is asked for again moves to the young one, the old one goes."""

    def __init__(self) -> None:
        self._generations: tuple[dict[int, Unpacked], dict[int, Unpacked]] = ({}, {})

    def of(self, row: int, packed: bytes, packer: FeaturePacker) -> Unpacked:
        """Return what the item of a row says in these bytes, which `packer` packed."""
        young, old = self._generations
        found = young.get(row)
        if found is None or found.packed is not packed:
            found = old.get(row)
            if found is None or found.packed is not packed:
                discrete = packer.discrete(packed)
                found = Unpacked(packed, discrete, value_shares(discrete))
            if len(young) >= MOST:
                young, _ = self._generations = ({}, young)
            young[row] = found
        return found

    def forget(self, row: int) -> None:
        """Let go of what is kept of a row."""
        for generation in self._generations:
            generation.pop(row, None)
