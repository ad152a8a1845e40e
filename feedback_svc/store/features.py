"""Feature values as the catalogue table keeps them: ``{name: [tag, value]}``, a vector as base64 of float32.

A derived vector has its embedder's name as the third part.

Values of a multi are sorted: their order has no meaning, and equal entities have to be equal rows.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from matchloop.entities import Categorical, Embedding, FeatureValue, Multi, Numeric, Text

FLOAT32 = np.dtype("<f4")


def write_features(features: Mapping[str, FeatureValue]) -> str:
    """Return the JSON text of a row's features."""
    return json.dumps({name: _written(value) for name, value in features.items()}, ensure_ascii=False)


def read_features(stored: str | Mapping[str, Any]) -> Mapping[str, FeatureValue]:
    """Return the features of a row, by name in order."""
    row: Mapping[str, Any] = json.loads(stored) if isinstance(stored, str) else stored
    return MappingProxyType({name: _read(*row[name]) for name in sorted(row)})


def canonical(features: Mapping[str, FeatureValue]) -> Mapping[str, FeatureValue]:
    """Return the features as the store gives them back."""
    return read_features(write_features(features))


def sent(features: Mapping[str, FeatureValue]) -> Mapping[str, FeatureValue]:
    """Return what a client sent of the features: all but derived vectors."""
    return {
        name: value
        for name, value in features.items()
        if not (isinstance(value, Embedding) and value.embedder)
    }


def _written(value: FeatureValue) -> list[Any]:
    match value:
        case Categorical():
            return ["c", value.value]
        case Multi():
            return ["m", sorted(value.values)]
        case Numeric():
            return ["n", value.value]
        case Text():
            return ["t", value.value]
        case Embedding():
            written = base64.b64encode(np.asarray(value.vector, FLOAT32).tobytes()).decode()
            return ["e", written, value.embedder] if value.embedder else ["e", written]


def _read(tag: str, value: Any, embedder: str = "") -> FeatureValue:
    match tag:
        case "c":
            return Categorical(value)
        case "m":
            return Multi(tuple(value))
        case "n":
            return Numeric(float(value))
        case "t":
            return Text(value)
        case _:
            return Embedding(tuple(np.frombuffer(base64.b64decode(value), FLOAT32).tolist()), embedder)
