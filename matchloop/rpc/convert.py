"""Entities, feature values and times between proto and domain: what every service converts alike.

The ``*_from_proto`` functions with a `Violations` check what a client sent against the contract's limits and,
given a schema, the types. The ``read_*`` functions take messages of our own services, checked when they were
written.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from matchloop.catalog.v1 import entity_pb2, tombstone_pb2
from matchloop.days import SECONDS_A_DAY
from matchloop.entities import (
    Categorical,
    Embedding,
    Entity,
    EntityId,
    EntityKey,
    FeatureValue,
    Kind,
    Multi,
    Numeric,
    Text,
    Tombstone,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matchloop.rpc.validation import Violations

MAX_FEATURES = 64
MAX_VALUES = 64
MAX_VALUE_LENGTH = 256
MAX_TEXT_LENGTH = 8192
MAX_EMBEDDING_WIDTH = 4096

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Return a time as proto (microseconds); None stays None, which leaves a field unset.

    Raises
    ------
    ValueError
        If the time is naive.
    """
    if moment is None:
        return None
    message = Timestamp()
    set_timestamp(message, moment)
    return message


def set_timestamp(message: Timestamp, moment: datetime) -> None:
    """Set a message, also one within another, to what `timestamp` returns."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    since = moment - _EPOCH
    message.seconds = since.days * SECONDS_A_DAY + since.seconds
    message.nanos = since.microseconds * 1000


def read_time(message: Timestamp) -> datetime:
    """Return the time of a message that is known to be valid: aware UTC, microseconds."""
    return _EPOCH + timedelta(0, message.seconds, message.nanos // 1000)


def read_micros(micros: int) -> datetime:
    """Return the time so many microseconds after 1970: aware UTC."""
    return _EPOCH + timedelta(0, 0, micros)


def key_from_proto(message: entity_pb2.EntityKey, violations: Violations, field: str = "key") -> EntityKey:
    """Check and convert an entity's key."""
    each = violations.within(field)
    kind = each.name("kind", message.kind)
    return EntityKey(Kind(kind), EntityId(each.identifier("id", message.id)))


def tombstone_to_proto(tombstone: Tombstone) -> tombstone_pb2.Tombstone:
    """Convert a tombstone."""
    return tombstone_pb2.Tombstone(
        kind=tombstone.kind,
        id_hash=tombstone.id_hash,
        erase_time=timestamp(tombstone.erase_time),
        change_sequence=tombstone.change_sequence,
    )


def read_tombstone(message: tombstone_pb2.Tombstone) -> Tombstone:
    """Convert a tombstone that a service sent."""
    return Tombstone(
        Kind(message.kind), message.id_hash, read_time(message.erase_time), message.change_sequence
    )


def key_to_proto(key: EntityKey) -> entity_pb2.EntityKey:
    """Convert an entity's key."""
    return entity_pb2.EntityKey(kind=key.kind, id=key.id)


def entity_from_proto(
    message: entity_pb2.Entity,
    violations: Violations,
    *,
    schemas: Mapping[str, Mapping[str, str]] | None = None,
    embedding_width: int | None = None,
) -> Entity:
    """Check and convert an entity that a client sent; the output-only fields are not read.

    Parameters
    ----------
    violations
        Already within the entity's own path, e.g. ``violations.within("entities[3]")``.
    schemas
        Feature types by kind and name (`UseCases.kinds`): unknown kinds, unknown names and other types are
        violations. None leaves that to the caller.
    embedding_width
        As for `features_from_proto`.

    Returns
    -------
    Entity
        Not to be used before `violations.raise_if_any`.
    """
    before = len(violations.found)
    key = key_from_proto(message.key, violations)
    schema = None
    if schemas is not None:
        schema = schemas.get(key.kind)
        told = any(fault.field.endswith("key.kind") for fault in violations.found[before:])
        if schema is None and not told:
            violations.add("key.kind", f"{key.kind!r} is no kind of a loaded use case")
    created = violations.time("create_time", message.create_time, given=message.HasField("create_time"))
    features = features_from_proto(
        message.features, violations, schema=schema, embedding_width=embedding_width
    )
    return Entity(key, features, create_time=created)


def features_from_proto(
    messages: Mapping[str, entity_pb2.FeatureValue],
    violations: Violations,
    *,
    field: str = "features",
    schema: Mapping[str, str] | None = None,
    embedding_width: int | None = None,
) -> Mapping[str, FeatureValue]:
    """Check and convert features by name.

    Parameters
    ----------
    schema
        Type by feature name; names and types that are not in it are violations.
    embedding_width
        What a client's embedding has to be wide; None: any width up to `MAX_EMBEDDING_WIDTH`.

    Returns
    -------
    Mapping
        In the order of the names: the same entity is the same mapping.
    """
    if not violations.count(field, messages, most=MAX_FEATURES):
        return MappingProxyType({})
    found: dict[str, FeatureValue] = {}
    for name in sorted(messages):
        path = f'{field}["{name[:MAX_VALUE_LENGTH]}"]'
        message = messages[name]
        case = message.WhichOneof("value")
        if schema is not None and name not in schema:
            violations.add(path, "is no feature of this kind")
        elif case is None:
            violations.add(path, "has no value")
        elif schema is not None and schema[name] != case:
            violations.add(path, f"is {case}, not {schema[name]} as the use case declares")
        elif case == "embedding" and message.embedding.embedder:
            continue  # derived by the catalogue, sent back
        else:
            violations.name(path, name)
            found[name] = _value_from_proto(message, case, violations, path, embedding_width)
    return MappingProxyType(found)


def _value_from_proto(
    message: entity_pb2.FeatureValue, case: str, violations: Violations, path: str, width: int | None
) -> FeatureValue:
    match case:
        case "categorical":
            violations.text(path, message.categorical, most=MAX_VALUE_LENGTH, required=True)
        case "multi":
            values = message.multi.values
            if violations.count(path, values, most=MAX_VALUES):
                for index, value in enumerate(values):
                    violations.text(f"{path}[{index}]", value, most=MAX_VALUE_LENGTH, required=True)
                violations.distinct(path, values)
        case "numeric":
            violations.number(path, message.numeric)
        case "text":
            violations.text(path, message.text, most=MAX_TEXT_LENGTH)
        case _:
            _check_embedding(message.embedding, violations, path, width)
    return read_value(message)


def _check_embedding(
    message: entity_pb2.Embedding, violations: Violations, path: str, width: int | None
) -> None:
    found = len(message.values)
    if width is not None and found != width:
        violations.add(path, f"is {found} wide, not {width} as the use case declares")
    elif violations.count(path, message.values, least=1, most=MAX_EMBEDDING_WIDTH):
        violations.numbers(path, message.values)


def read_value(message: entity_pb2.FeatureValue) -> FeatureValue:
    """Return the value of a message that has one.

    Raises
    ------
    ValueError
        If the message has no value, or one of a type this version does not know.
    """
    match message.WhichOneof("value"):
        case "categorical":
            return Categorical(message.categorical)
        case "multi":
            return Multi(tuple(message.multi.values))
        case "numeric":
            return Numeric(message.numeric)
        case "text":
            return Text(message.text)
        case "embedding":
            return Embedding(tuple(message.embedding.values), message.embedding.embedder)
        case _:
            raise ValueError("a feature value without a value")


def read_entity(message: entity_pb2.Entity) -> Entity:
    """Return the entity that one of our services sent, output-only fields too.

    Features of a type this version does not know are left out.
    """
    features = {
        name: read_value(value)
        for name, value in sorted(message.features.items())
        if value.WhichOneof("value") is not None
    }
    return Entity(
        EntityKey(Kind(message.key.kind), EntityId(message.key.id)),
        MappingProxyType(features),
        create_time=read_time(message.create_time) if message.HasField("create_time") else None,
        update_time=read_time(message.update_time) if message.HasField("update_time") else None,
        active=message.active,
        change_sequence=message.change_sequence,
    )


def value_to_proto(value: FeatureValue) -> entity_pb2.FeatureValue:
    """Convert a feature value."""
    match value:
        case Categorical():
            return entity_pb2.FeatureValue(categorical=value.value)
        case Multi():
            return entity_pb2.FeatureValue(multi=entity_pb2.Values(values=value.values))
        case Numeric():
            return entity_pb2.FeatureValue(numeric=value.value)
        case Text():
            return entity_pb2.FeatureValue(text=value.value)
        case Embedding():
            return entity_pb2.FeatureValue(
                embedding=entity_pb2.Embedding(values=value.vector, embedder=value.embedder)
            )


def entity_to_proto(entity: Entity) -> entity_pb2.Entity:
    """Convert an entity, output-only fields too; equal entities give equal messages."""
    return entity_pb2.Entity(
        key=key_to_proto(entity.key),
        features={name: value_to_proto(value) for name, value in entity.features.items()},
        create_time=timestamp(entity.create_time),
        update_time=timestamp(entity.update_time),
        active=entity.active,
        change_sequence=entity.change_sequence,
    )
