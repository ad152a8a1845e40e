"""What validation chose for a release: method orders and ensembles by tier, in ``routing.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from matchloop.entities import EntityId
from matchloop.errors import InvalidInput, ReleaseRefused
from matchloop.release.golden import GoldenCase
from matchloop.retrieval.fusion import Fusion, fuse
from matchloop.usecase import Method, Tier

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ROUTING_FILE = "routing.json"

VERSION = 2
"""Of the file. The first had no version, and an order by tier and nothing else."""

ENSEMBLE = "ensemble"
"""Under this name the golden requests ask for it."""


@dataclass(frozen=True, slots=True)
class Choices:
    """Orders and ensembles by tier.

    Parameters
    ----------
    orders
        Methods, the first asked first; the use case's order holds for a tier that is not named.
    fusions
        What `ensemble` is made of; als, two_tower and content alike for a tier that is not named.
    """

    orders: Mapping[Tier, tuple[Method, ...]] = field(default_factory=lambda: MappingProxyType({}))
    fusions: Mapping[Tier, Fusion] = field(default_factory=lambda: MappingProxyType({}))

    def fusion(self, tier: Tier) -> Fusion:
        """Return what the ensemble of a tier is made of."""
        return self.fusions.get(tier) or Fusion()

    def write(self, folder: Path) -> None:
        """Write ``routing.json``."""
        stated: dict[str, Any] = {
            "version": VERSION,
            "orders": {tier.value: [method.value for method in order] for tier, order in self.orders.items()},
            "ensemble": {
                tier.value: {
                    "constant": fusion.constant,
                    "weights": {method.value: weight for method, weight in fusion.weights.items()},
                }
                for tier, fusion in self.fusions.items()
            },
        }
        (folder / ROUTING_FILE).write_text(json.dumps(stated, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Choices:
        """Read what `write` wrote; nothing is chosen where there is no such file.

        Raises
        ------
        ReleaseRefused
            If the file is corrupt, or of a version that is not known here.
        """
        path = folder / ROUTING_FILE
        if not path.is_file():
            return cls()
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))
            if "version" not in stated:
                return cls(_orders(stated))
            if stated["version"] != VERSION:
                raise ReleaseRefused(f"{path.name} is of version {stated['version']}, known is {VERSION}")
            return cls(_orders(stated["orders"]), _fusions(stated["ensemble"]))
        except (OSError, KeyError, ValueError, TypeError, AttributeError, InvalidInput) as error:
            raise ReleaseRefused(f"{path.name} cannot be read: {error}") from error

    def answer(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer a golden request.

        Parameters
        ----------
        inputs
            ``rankings``: item ids by method, best first.

        Returns
        -------
        mapping
            By tier that has an ensemble: ``<tier>_items`` and ``<tier>_scores``, best first.
        """
        rankings = {
            Method(method): [EntityId(item) for item in items] for method, items in inputs["rankings"].items()
        }
        answers: dict[str, Any] = {}
        for tier, fusion in self.fusions.items():
            hits = fuse(rankings, len(Method), fusion=fusion)
            answers[f"{tier.value}_items"] = [str(hit.item) for hit in hits]
            answers[f"{tier.value}_scores"] = [hit.score for hit in hits]
        return answers

    def golden_case(self) -> GoldenCase:
        """Return a golden request in which every method ranks the same items otherwise, and its answers."""
        methods = [method for method in Method if method is not Method.ENSEMBLE]
        items = [f"item{at}" for at in range(len(methods) + 2)]
        rankings = {method.value: [*items[at:], *items[:at]] for at, method in enumerate(methods)}
        inputs = {"rankings": rankings}
        return GoldenCase(inputs=inputs, outputs=dict(self.answer(inputs)))


def _orders(stated: Mapping[str, Any]) -> dict[Tier, tuple[Method, ...]]:
    return {Tier(tier): tuple(Method(each) for each in order) for tier, order in stated.items()}


def _fusions(stated: Mapping[str, Any]) -> dict[Tier, Fusion]:
    return {
        Tier(tier): Fusion(
            {Method(method): float(weight) for method, weight in each["weights"].items()},
            float(each["constant"]),
        )
        for tier, each in stated.items()
    }
