"""CatalogService's messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from feedback_svc.catalog import ChangePage, ChangePosition, Deactivated, ItemStats, UpsertCounts
from feedback_svc.convert.shared import Schema
from feedback_svc.erasure import Erased
from matchloop.catalog.v1 import catalog_service_pb2 as calls
from matchloop.catalog.v1 import item_stats_pb2
from matchloop.entities import Entity, EntityKey
from matchloop.rpc.convert import (
    entity_from_proto,
    entity_to_proto,
    key_from_proto,
    key_to_proto,
    timestamp,
    tombstone_to_proto,
)
from matchloop.rpc.paging import fitting, write_page_token
from matchloop.rpc.validation import Violations

MAX_BATCH = 500
MAX_KINDS = 32


def entities_to_upsert(
    request: calls.UpsertEntitiesRequest, schema: Schema, now: datetime
) -> tuple[Entity, ...]:
    """Check and convert an upsert.

    Raises
    ------
    InvalidInput
        With every violation of every entity.
    """
    violations = Violations(now=now)
    entities: list[Entity] = []
    if violations.count("entities", request.entities, least=1, most=MAX_BATCH):
        kinds = schema.use_cases.kinds
        for index, message in enumerate(request.entities):
            each = violations.within(f"entities[{index}]")
            width = schema.widths.get(message.key.kind)
            entities.append(entity_from_proto(message, each, schemas=kinds, embedding_width=width))
        violations.distinct(
            "entities", [f"{entity.key.kind} {entity.key.id}" for entity in entities], part="key"
        )
    violations.raise_if_any()
    return tuple(entities)


def upsert_reply(counts: UpsertCounts) -> calls.UpsertEntitiesResponse:
    """Convert what an upsert did."""
    return calls.UpsertEntitiesResponse(
        created=counts.created, updated=counts.updated, unchanged=counts.unchanged
    )


def key_to_get(request: calls.GetEntityRequest, now: datetime) -> EntityKey:
    """Check and convert the key of one entity."""
    violations = Violations(now=now)
    key = key_from_proto(request.key, violations)
    violations.raise_if_any()
    return key


def key_to_erase(request: calls.EraseEntityRequest, schema: Schema, now: datetime) -> EntityKey:
    """Check and convert the key of an entity to erase, whose kind has to be a use case's."""
    violations = Violations(now=now)
    key = key_from_proto(request.key, violations)
    if not any(fault.field == "key.kind" for fault in violations.found):
        violations.one_of("key.kind", key.kind, schema.use_cases.kinds)
    violations.raise_if_any()
    return key


def erase_reply(erased: Erased) -> calls.EraseEntityResponse:
    """Convert what an erasure removed."""
    return calls.EraseEntityResponse(
        erased=erased.anything,
        interactions=erased.interactions,
        dislikes=erased.dislikes,
        sessions=erased.sessions,
        erase_time=timestamp(erased.erase_time),
    )


def keys_to_deactivate(request: calls.DeactivateEntitiesRequest, now: datetime) -> tuple[EntityKey, ...]:
    """Check and convert the keys of entities."""
    violations = Violations(now=now)
    keys: Sequence[EntityKey] = ()
    if violations.count("keys", request.keys, least=1, most=MAX_BATCH):
        keys = [key_from_proto(key, violations, f"keys[{index}]") for index, key in enumerate(request.keys)]
    violations.raise_if_any()
    return tuple(keys)


def deactivate_reply(done: Deactivated) -> calls.DeactivateEntitiesResponse:
    """Convert what a deactivation did."""
    return calls.DeactivateEntitiesResponse(
        deactivated=done.deactivated, unknown=[key_to_proto(key) for key in done.unknown]
    )


def entities_page(
    request: calls.ListEntitiesRequest, schema: Schema, now: datetime
) -> tuple[tuple[str, ...], ChangePosition, int]:
    """Check and convert a listing: the kinds, where it starts, and the page size."""
    violations = Violations(now=now)
    if violations.count("kinds", request.kinds, most=MAX_KINDS):
        for index, kind in enumerate(request.kinds):
            violations.one_of(f"kinds[{index}]", kind, schema.use_cases.kinds)
    limit = violations.page_size(request.page_size, default=500, most=2000)
    position = _position(request, violations)
    violations.raise_if_any()
    return tuple(request.kinds), position, limit


def entities_reply(
    request: calls.ListEntitiesRequest, page: ChangePage[Entity]
) -> calls.ListEntitiesResponse:
    """Convert a page of entities."""
    entities = fitting(entity_to_proto(entity) for entity in page.rows)
    position, next_sequence = page.position, page.next_sequence
    if len(entities) < len(page.rows):
        last = page.rows[len(entities) - 1]
        position = ChangePosition(last.change_sequence, last.key.kind, last.key.id)
        next_sequence = last.change_sequence
    return calls.ListEntitiesResponse(
        entities=entities,
        next_page_token=_token(request, position),
        next_change_sequence=next_sequence,
        erased=[tombstone_to_proto(each) for each in page.erased],
    )


def stats_page(request: calls.ListItemStatsRequest, now: datetime) -> tuple[ChangePosition, int]:
    """Check and convert a listing of counts: where it starts, and the page size."""
    violations = Violations(now=now)
    limit = violations.page_size(request.page_size, default=2000, most=5000)
    position = _position(request, violations)
    violations.raise_if_any()
    return position, limit


def stats_reply(
    request: calls.ListItemStatsRequest, page: ChangePage[ItemStats]
) -> calls.ListItemStatsResponse:
    """Convert a page of counts."""
    return calls.ListItemStatsResponse(
        stats=[
            item_stats_pb2.ItemStats(
                use_case=row.use_case,
                item_id=row.item_id,
                views=row.views,
                interactions=row.interactions,
                decayed_weight=row.decayed_weight,
                decay_time=timestamp(row.decay_time),
                change_sequence=row.change_sequence,
            )
            for row in page.rows
        ],
        next_page_token=_token(request, page.position),
        next_change_sequence=page.next_sequence,
    )


def _position(
    request: calls.ListEntitiesRequest | calls.ListItemStatsRequest, violations: Violations
) -> ChangePosition:
    if request.from_change_sequence < 0:
        violations.add("from_change_sequence", f"is {request.from_change_sequence}, negative")
    position = violations.page_token(request, request.page_token, parts=3)
    if position is None:
        return ChangePosition(request.from_change_sequence)
    return ChangePosition(int(position[0]), position[1], position[2])


def _token(
    request: calls.ListEntitiesRequest | calls.ListItemStatsRequest, position: ChangePosition | None
) -> str:
    if position is None:
        return ""
    return write_page_token(request, str(position.sequence), position.kind, position.id)
