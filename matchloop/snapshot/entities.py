"""Entities to and from the tables of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

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
)
from matchloop.snapshot.reader import Snapshot
from matchloop.snapshot.schemas import ENTITIES, FEATURES, TableName


def entity_tables(entities: Iterable[Entity]) -> dict[TableName, pa.Table]:
    """Return the `entities` and `features` tables of these entities, in their order."""
    rows: list[dict[str, Any]] = []
    features: list[dict[str, Any]] = []
    for entity in entities:
        key = {"kind": entity.key.kind, "id": entity.key.id}
        rows.append(
            {
                **key,
                "active": entity.active,
                "create_time": entity.create_time,
                "update_time": entity.update_time,
            }
        )
        features += [{**key, "name": n, **feature_columns(v)} for n, v in entity.features.items()]
    return {
        TableName.ENTITIES: pa.Table.from_pylist(rows, schema=ENTITIES),
        TableName.FEATURES: pa.Table.from_pylist(features, schema=FEATURES),
    }


def feature_columns(value: FeatureValue) -> dict[str, Any]:
    """Return the columns `type`, `values`, `number` and `vector` of one feature value.

    A derived vector's `values` hold its embedder's name.
    """
    columns: dict[str, Any] = {"type": type(value).__name__.lower()}
    match value:
        case Categorical() | Text():
            columns["values"] = [value.value]
        case Multi():
            columns["values"] = list(value.values)
        case Numeric():
            columns["number"] = value.value
        case Embedding():
            columns["vector"] = list(value.vector)
            columns["values"] = [value.embedder] if value.embedder else None
    return columns


def entities_of(snapshot: Snapshot, kind: str) -> list[Entity]:
    """Return the entities of a kind, in the order they were written, inactive ones too."""
    features: dict[str, dict[str, FeatureValue]] = {}
    table = _of_kind(snapshot.table(TableName.FEATURES), kind)
    columns = (table[c].to_pylist() for c in ("id", "name", "type", "values", "number", "vector"))
    for id_, name, type_, values, number, vector in zip(*columns, strict=True):
        features.setdefault(id_, {})[name] = _value(type_, values, number, vector)
    rows = _of_kind(snapshot.table(TableName.ENTITIES), kind)
    columns = (rows[c].to_pylist() for c in ("id", "active", "create_time", "update_time"))
    return [
        Entity(
            key=EntityKey(Kind(kind), EntityId(id_)),
            features=MappingProxyType(features.get(id_, {})),
            create_time=create,
            update_time=update,
            active=active,
        )
        for id_, active, create, update in _typed(zip(*columns, strict=True))
    ]


def _typed(rows: Iterable[tuple[Any, ...]]) -> Iterable[tuple[str, bool, datetime | None, datetime | None]]:
    return rows


def _of_kind(table: pa.Table, kind: str) -> pa.Table:
    return table.filter(pc.equal(table["kind"], kind))


def _value(
    type_: str, values: list[str] | None, number: float | None, vector: list[float] | None
) -> FeatureValue:
    match type_:
        case "categorical":
            return Categorical((values or [""])[0])
        case "text":
            return Text((values or [""])[0])
        case "multi":
            return Multi(tuple(values or ()))
        case "numeric":
            return Numeric(float(number if number is not None else "nan"))
        case _:
            return Embedding(tuple(vector or ()), (values or [""])[0])
