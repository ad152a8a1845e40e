"""CatalogService over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feedback_svc.convert import catalog as convert
from feedback_svc.erasure import roles_of
from matchloop.catalog.v1 import catalog_service_pb2 as calls
from matchloop.catalog.v1 import catalog_service_pb2_grpc as wire
from matchloop.rpc.convert import entity_to_proto
from matchloop.rpc.server import Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import grpc

    from feedback_svc.convert.shared import Schema
    from feedback_svc.store.protocol import Store
    from matchloop.observe.metrics import Metrics

SERVICE = "matchloop.catalog.v1.CatalogService"


class CatalogServicer(wire.CatalogServiceServicer):
    """Answers CatalogService from a store."""

    def __init__(
        self, store: Store, schema: Schema, clock: Callable[[], datetime], *, metrics: Metrics
    ) -> None:
        self._store = store
        self._roles = roles_of(schema.use_cases)
        self._metrics = metrics
        self._schema = schema
        self._clock = clock

    def UpsertEntities(  # noqa: N802
        self, request: calls.UpsertEntitiesRequest, context: grpc.ServicerContext
    ) -> calls.UpsertEntitiesResponse:
        """See the contract."""
        now = self._clock()
        entities = convert.entities_to_upsert(request, self._schema, now)
        return convert.upsert_reply(self._store.upsert_entities(entities, now=now))

    def GetEntity(  # noqa: N802
        self, request: calls.GetEntityRequest, context: grpc.ServicerContext
    ) -> calls.GetEntityResponse:
        """See the contract."""
        key = convert.key_to_get(request, self._clock())
        return calls.GetEntityResponse(entity=entity_to_proto(self._store.get_entity(key)))

    def ListEntities(  # noqa: N802
        self, request: calls.ListEntitiesRequest, context: grpc.ServicerContext
    ) -> calls.ListEntitiesResponse:
        """See the contract."""
        kinds, after, limit = convert.entities_page(request, self._schema, self._clock())
        page = self._store.list_entities(
            kinds=kinds,
            after=after,
            limit=limit,
            include_inactive=request.include_inactive,
            erased_only=request.erased_only,
        )
        return convert.entities_reply(request, page)

    def ListItemStats(  # noqa: N802
        self, request: calls.ListItemStatsRequest, context: grpc.ServicerContext
    ) -> calls.ListItemStatsResponse:
        """See the contract."""
        now = self._clock()
        use_case = self._schema.use_case(request.use_case, now)
        after, limit = convert.stats_page(request, now)
        return convert.stats_reply(
            request, self._store.list_item_stats(use_case.id, after=after, limit=limit)
        )

    def DeactivateEntities(  # noqa: N802
        self, request: calls.DeactivateEntitiesRequest, context: grpc.ServicerContext
    ) -> calls.DeactivateEntitiesResponse:
        """See the contract."""
        now = self._clock()
        keys = convert.keys_to_deactivate(request, now)
        return convert.deactivate_reply(self._store.deactivate_entities(keys, now=now))

    def EraseEntity(  # noqa: N802
        self, request: calls.EraseEntityRequest, context: grpc.ServicerContext
    ) -> calls.EraseEntityResponse:
        """See the contract."""
        now = self._clock()
        key = convert.key_to_erase(request, self._schema, now)
        erased = self._store.erase_entity(key, roles=self._roles, now=now)
        if erased.anything:
            self._metrics.erasures.labels(key.kind).inc()
        return convert.erase_reply(erased)


def service(servicer: CatalogServicer) -> Service:
    """Return what a `Server` serves."""
    return Service(SERVICE, wire.add_CatalogServiceServicer_to_server, servicer)
