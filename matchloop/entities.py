"""Entities: anything in the catalogue, named by kind and id, with typed features."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = NewType("Kind", str)
EntityId = NewType("EntityId", str)

MAX_ID_LENGTH = 128
"""Longest id, in characters; ids are opaque strings of the client's."""


@dataclass(frozen=True, slots=True)
class Categorical:
    """One value of an open set, e.g. a country."""

    value: str


@dataclass(frozen=True, slots=True)
class Multi:
    """Several values of an open set, order without meaning, e.g. genres."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Numeric:
    """A finite number."""

    value: float


@dataclass(frozen=True, slots=True)
class Text:
    """Words for people, embedded by the text embedder."""

    value: str


@dataclass(frozen=True, slots=True)
class Embedding:
    """A vector; finite, float32, as wide as the schema says.

    Parameters
    ----------
    embedder
        Empty: the client brought it. Else the text embedder that the catalogue derived it with, from the
        entity's texts.
    """

    vector: tuple[float, ...]
    embedder: str = ""


FeatureValue = Categorical | Multi | Numeric | Text | Embedding


@dataclass(frozen=True, slots=True)
class EntityKey:
    """What names an entity."""

    kind: Kind
    id: EntityId

    @property
    def digest(self) -> str:
        """What a tombstone keeps: hex SHA-256 of kind, unit separator (U+001F) and id in UTF-8."""
        return hashlib.sha256(f"{self.kind}\x1f{self.id}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What remains of an erased entity.

    Parameters
    ----------
    id_hash
        The erased key's `EntityKey.digest`.
    erase_time
        Aware UTC.
    change_sequence
        Of the erasure, in the order of the entities'.
    """

    kind: Kind
    id_hash: str
    erase_time: datetime
    change_sequence: int


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity as the catalogue holds it.

    Parameters
    ----------
    key
        Kind and id.
    features
        Values by feature name; a missing name is a missing value, not a zero.
    create_time, update_time
        UTC; `create_time` is the client's (when the thing came to be), `update_time` the store's.
    active
        Inactive entities are never candidates.
    change_sequence
        Grows with every change of the catalogue; 0 for one that was not stored yet.
    """

    key: EntityKey
    features: Mapping[str, FeatureValue] = field(default_factory=lambda: MappingProxyType({}))
    create_time: datetime | None = None
    update_time: datetime | None = None
    active: bool = True
    change_sequence: int = 0


def discrete_values(value: FeatureValue | None) -> tuple[str, ...]:
    """Return the discrete values a feature holds: none for numbers, text, embeddings and the missing."""
    if isinstance(value, Categorical):
        return (value.value,)
    if isinstance(value, Multi):
        return value.values
    return ()
