"""The one encoder: raw features to a dense row, the same in training and in serving."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from matchloop.entities import Categorical, Embedding, Multi, Numeric, Text
from matchloop.errors import InvalidInput, ReleaseRefused, Violation
from matchloop.features.columns import (
    Columns,
    DiscreteColumns,
    EmbeddingColumns,
    NumericColumns,
    TextColumns,
)
from matchloop.usecase import FeatureType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from matchloop.entities import Entity, FeatureValue
    from matchloop.features.text import TextEmbedder

VERSION = 1
"""Version of the state; another one is refused."""

_TYPES: dict[FeatureType, type] = {
    FeatureType.CATEGORICAL: Categorical,
    FeatureType.MULTI: Multi,
    FeatureType.NUMERIC: Numeric,
    FeatureType.TEXT: Text,
    FeatureType.EMBEDDING: Embedding,
}

_WORDS = frozenset((Categorical, Multi, Text))


class EntityEncoder:
    """Turns entities of one kind into dense rows for the towers; made by `fit` or `from_state`.

    Features stand in the order of their names. Categorical and multi values have a column each, unknown
    and rare ones share hash buckets; numbers are standardised; text and embeddings stand as they are.
    Each feature ends with a column that is 1 when it is missing. A feature that no fitted entity had gets
    no columns at all: a network could not have learnt what they mean. Features that the schema does not
    name are ignored, and so are vectors derived from texts, which have columns of their own.
    """

    def __init__(
        self,
        schema: Mapping[str, FeatureType],
        columns: Mapping[str, Columns],
        *,
        embedder: TextEmbedder,
        embedding_width: int,
    ) -> None:
        self.schema = dict(sorted(schema.items()))
        self._columns = dict(sorted(columns.items()))
        self._embedder = embedder
        self._embedding_width = embedding_width
        self._expected = {name: _TYPES[type_] for name, type_ in self.schema.items()}
        self._places = _places(self._columns)
        self._width = sum(columns.width for columns in self._columns.values())

    @classmethod
    def fit(
        cls,
        schema: Mapping[str, FeatureType],
        entities: Sequence[Entity],
        *,
        embedder: TextEmbedder,
        embedding_width: int,
        max_values: int = 512,
        min_count: int = 2,
        buckets: int = 16,
    ) -> EntityEncoder:
        """Fit vocabularies, means and deviations.

        Parameters
        ----------
        schema
            Feature types of the kind, by name.
        entities
            Entities of that kind; only features that one of them has get columns.
        embedder
            For text features.
        embedding_width
            Length of the vectors in embedding features.
        max_values
            Most values of one feature with a column of their own; the most frequent are kept.
        min_count
            Values that fewer entities have go to the hash buckets, so that the buckets are trained.
        buckets
            Hash buckets per discrete feature, 1 or more.

        Raises
        ------
        InvalidInput
            For a value of another type than the schema's, one that is not finite, a vector of a wrong length.
        """
        if min(max_values, min_count, buckets) < 1:
            raise InvalidInput("max_values, min_count and buckets must be 1 or more")
        _check({name: _TYPES[type_] for name, type_ in schema.items()}, entities, embedding_width)
        columns: dict[str, Columns] = {}
        for name, type_ in schema.items():
            values = [_own(entity, name) for entity in entities]
            if all(value is None for value in values):
                continue
            if type_ in (FeatureType.CATEGORICAL, FeatureType.MULTI):
                columns[name] = DiscreteColumns.fit(
                    values, max_values=max_values, min_count=min_count, buckets=buckets
                )
            elif type_ is FeatureType.NUMERIC:
                columns[name] = NumericColumns.fit(values)
            else:
                columns[name] = _vector_columns(type_, embedder, embedding_width)
        return cls(schema, columns, embedder=embedder, embedding_width=embedding_width)

    @property
    def width(self) -> int:
        """Length of an encoded row."""
        return self._width

    @property
    def slices(self) -> dict[str, slice]:
        """Where each feature stands in a row, by name."""
        return dict(self._places)

    def encode(self, entities: Sequence[Entity]) -> NDArray[np.float32]:
        """Encode entities; a row does not depend on the others in the batch.

        Returns
        -------
        ndarray of float32, shape (len(entities), width)
            In the order given.

        Raises
        ------
        InvalidInput
            For a value of another type than the schema's, one that is not finite, a vector of a wrong length;
            every violation is named.
        """
        _check(self._expected, entities, self._embedding_width)
        out = np.zeros((len(entities), self._width), dtype=np.float32)
        for name, place in self._places.items():
            self._columns[name].fill(out[:, place], [_own(entity, name) for entity in entities])
        return out

    def to_state(self) -> dict[str, Any]:
        """Return all that was fitted, as JSON can hold it."""
        return {
            "version": VERSION,
            "embedder": self._embedder.name,
            "embedding_width": self._embedding_width,
            "schema": {name: str(type_) for name, type_ in self.schema.items()},
            "columns": {name: columns.to_state() for name, columns in self._columns.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], embedder: TextEmbedder) -> EntityEncoder:
        """Rebuild an encoder that encodes as the one that gave `state`.

        Raises
        ------
        ReleaseRefused
            If the state has another version, was made with another embedder, or is malformed.
        """
        if state.get("version") != VERSION:
            raise ReleaseRefused(f"encoder: state version {state.get('version')}, {VERSION} is read")
        if state.get("embedder") != embedder.name:
            raise ReleaseRefused(
                f"encoder: made with embedder `{state.get('embedder')}`, `{embedder.name}` is here"
            )
        try:
            schema = {name: FeatureType(type_) for name, type_ in state["schema"].items()}
            width = int(state["embedding_width"])
            columns = {
                name: _columns_from(schema[name], fitted, embedder, width)
                for name, fitted in state["columns"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError, InvalidInput) as error:
            raise ReleaseRefused(f"encoder: malformed state: {error!r}") from error
        return cls(schema, columns, embedder=embedder, embedding_width=width)

    def save(self, path: Path) -> None:
        """Write the state to a JSON file; folders are made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_state()), encoding="utf-8")

    @classmethod
    def load(cls, path: Path, embedder: TextEmbedder) -> EntityEncoder:
        """Read what `save` wrote.

        Raises
        ------
        ReleaseRefused
            If the file is missing, no JSON, or its state is refused.
        """
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ReleaseRefused(f"encoder: {path.name} cannot be read: {error}") from error
        if not isinstance(state, dict):
            raise ReleaseRefused(f"encoder: {path.name} holds no object")
        return cls.from_state(state, embedder)


def _places(columns: Mapping[str, Columns]) -> dict[str, slice]:
    found, start = {}, 0
    for name, own in columns.items():
        found[name] = slice(start, start + own.width)
        start += own.width
    return found


def _own(entity: Entity, name: str) -> FeatureValue | None:
    """Return a feature's value; None for a derived vector: the texts it comes from have columns already."""
    value = entity.features.get(name)
    return None if isinstance(value, Embedding) and value.embedder else value


def _vector_columns(type_: FeatureType, embedder: TextEmbedder, embedding_width: int) -> Columns:
    return TextColumns(embedder) if type_ is FeatureType.TEXT else EmbeddingColumns(embedding_width)


def _columns_from(
    type_: FeatureType, state: Mapping[str, Any], embedder: TextEmbedder, embedding_width: int
) -> Columns:
    if type_ in (FeatureType.CATEGORICAL, FeatureType.MULTI):
        return DiscreteColumns([str(value) for value in state["vocabulary"]], int(state["buckets"]))
    if type_ is FeatureType.NUMERIC:
        return NumericColumns(float(state["mean"]), float(state["deviation"]))
    return _vector_columns(type_, embedder, embedding_width)


def _check(expected: Mapping[str, type], entities: Sequence[Entity], embedding_width: int) -> None:
    violations = [
        Violation(f"{entity.key.kind}/{entity.key.id}: {name}", fault)
        for entity in entities
        for name, value in entity.features.items()
        if (type_ := expected.get(name)) is not None
        # Words are of the right type or not: there is nothing more to ask of most values.
        and not (type_ is type(value) and type_ in _WORDS)
        and (fault := _fault(value, type_, embedding_width))
    ]
    if violations:
        raise InvalidInput.of(violations)


def _fault(value: FeatureValue, expected: type, embedding_width: int) -> str:
    if type(value) is not expected:
        return f"is {type(value).__name__}, the schema says {expected.__name__}"
    if isinstance(value, Numeric):
        return "" if math.isfinite(value.value) else f"is {value.value}, not finite"
    if not isinstance(value, Embedding) or value.embedder:
        return ""
    if len(value.vector) != embedding_width:
        return f"has {len(value.vector)} numbers, the schema says {embedding_width}"
    return "" if all(map(math.isfinite, value.vector)) else "holds a number that is not finite"
