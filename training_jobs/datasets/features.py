"""Both sides' features beside the pairs of a data set, for looking at it and for training elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis

from matchloop.usecase import FeatureType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matchloop.usecase import UseCase
    from training_jobs.datasets.tables import SnapshotTables, Table


def with_features(pairs: Table, tables: SnapshotTables, use_case: UseCase) -> Table:
    """Add a column for each feature that the use case declares.

    Parameters
    ----------
    pairs
        With columns `subject_id` and `item_id`.

    Returns
    -------
    Table
        The columns of `pairs`, then ``subject_<feature>``, then ``item_<feature>``: a string for
        categorical and text, an array of strings for multi, a float for numeric, an array of floats for
        embedding; null where the entity has no such value.
    """
    sides = (
        ("subject", use_case.subject, use_case.subject_features),
        ("item", use_case.item, use_case.item_features),
    )
    for side, kind, schema in sides:
        if schema:
            wide = feature_columns(tables, kind, schema, prefix=f"{side}_")
            key = f"{side}_id"
            pairs = pairs.left_join(wide, pairs[key] == wide.entity_id).drop("entity_id")
    return pairs


def feature_columns(
    tables: SnapshotTables, kind: str, schema: Mapping[str, FeatureType], *, prefix: str = ""
) -> Table:
    """Return one row an entity of `kind` that has a feature: entity_id, and a column for each of `schema`."""
    features = tables.features.filter(
        tables.features.kind == kind, tables.features["name"].isin(sorted(schema))
    )
    columns: dict[str, Any] = {}
    for name, type_ in schema.items():
        columns[f"{prefix}{name}"] = _value(features, type_).arbitrary(where=features["name"] == name)
    return features.group_by(entity_id=features.id).aggregate(**columns)


def _value(features: Table, type_: FeatureType) -> Any:
    match type_:
        case FeatureType.MULTI:
            return features["values"]
        case FeatureType.NUMERIC:
            return features.number
        case FeatureType.EMBEDDING:
            return features.vector
        case _:
            return ibis.ifelse(features["values"].length() > 0, features["values"][0], ibis.null("string"))
