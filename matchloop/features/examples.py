"""Made-up entities that reach every column of an encoder, and their form in JSON."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from matchloop.entities import Categorical, Embedding, Entity, EntityId, EntityKey, Kind, Multi, Numeric, Text
from matchloop.usecase import FeatureType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from matchloop.entities import FeatureValue
    from matchloop.features.encoder import EntityEncoder

KIND = Kind("example")
MISSING_SHARE = 0.25
MOST_VALUES = 4
UNKNOWN = "never seen in training"

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def example_entities(encoder: EntityEncoder, count: int, rng: np.random.Generator) -> list[Entity]:
    """Draw entities that nobody is: known and unknown values, numbers, words, vectors, and missing ones."""
    state = encoder.to_state()
    return [
        Entity(
            EntityKey(KIND, EntityId(f"example{at}")),
            MappingProxyType(
                {
                    name: _draw(encoder.schema[name], fitted, int(state["embedding_width"]), rng)
                    for name, fitted in state["columns"].items()
                    if rng.random() >= MISSING_SHARE
                }
            ),
        )
        for at in range(count)
    ]


def features_to_json(entity: Entity) -> dict[str, dict[str, Any]]:
    """Return an entity's features as JSON can hold them: by name, its type and value."""
    return {name: _to_json(value) for name, value in entity.features.items()}


def entities_from_json(features: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[Entity]:
    """Rebuild entities from what `features_to_json` gave; a KeyError or TypeError if it is something else."""
    return [
        Entity(
            EntityKey(KIND, EntityId(f"example{at}")),
            MappingProxyType({name: _from_json(value) for name, value in each.items()}),
        )
        for at, each in enumerate(features)
    ]


def _draw(
    type_: FeatureType, fitted: Mapping[str, Any], embedding_width: int, rng: np.random.Generator
) -> FeatureValue:
    if type_ is FeatureType.NUMERIC:
        return Numeric(float(rng.normal(fitted["mean"], fitted["deviation"])))
    if type_ is FeatureType.TEXT:
        return Text(" ".join(_word(rng) for _ in range(MOST_VALUES)))
    if type_ is FeatureType.EMBEDDING:
        return Embedding(tuple(rng.normal(size=embedding_width).round(4).tolist()))
    known = [*fitted["vocabulary"], UNKNOWN]
    most = 1 if type_ is FeatureType.CATEGORICAL else min(MOST_VALUES, len(known))
    picked = rng.choice(len(known), size=int(rng.integers(1, most + 1)), replace=False)
    values = tuple(known[at] for at in picked.tolist())
    return Categorical(values[0]) if type_ is FeatureType.CATEGORICAL else Multi(values)


def _word(rng: np.random.Generator) -> str:
    return "".join(_LETTERS[at] for at in rng.integers(0, len(_LETTERS), size=6).tolist())


def _to_json(value: FeatureValue) -> dict[str, Any]:
    match value:
        case Categorical(text):
            return {FeatureType.CATEGORICAL.value: text}
        case Multi(values):
            return {FeatureType.MULTI.value: list(values)}
        case Numeric(number):
            return {FeatureType.NUMERIC.value: number}
        case Text(text):
            return {FeatureType.TEXT.value: text}
        case Embedding(vector):
            return {FeatureType.EMBEDDING.value: list(vector)}


_READ: Mapping[str, Callable[[Any], FeatureValue]] = {
    FeatureType.CATEGORICAL.value: Categorical,
    FeatureType.MULTI.value: lambda values: Multi(tuple(values)),
    FeatureType.NUMERIC.value: Numeric,
    FeatureType.TEXT.value: Text,
    FeatureType.EMBEDDING.value: lambda vector: Embedding(tuple(vector)),
}


def _from_json(typed: Mapping[str, Any]) -> FeatureValue:
    ((type_, value),) = typed.items()
    return _READ[type_](value)
