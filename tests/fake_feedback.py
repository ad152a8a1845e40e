"""feedback_svc as candidate_svc calls it, over real gRPC, on the in-memory store of `candidate_world`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from feedback_svc.insight import microseconds
from matchloop.catalog.v1 import catalog_service_pb2, item_stats_pb2
from matchloop.catalog.v1.catalog_service_pb2_grpc import (
    CatalogServiceServicer,
    add_CatalogServiceServicer_to_server,
)
from matchloop.entities import Entity, EntityId, Tombstone
from matchloop.errors import NotFound, Reason
from matchloop.feedback.v1 import feedback_service_pb2, subject_state_pb2
from matchloop.feedback.v1.feedback_service_pb2_grpc import (
    FeedbackServiceServicer,
    add_FeedbackServiceServicer_to_server,
)
from matchloop.operations.v1 import operations_service_pb2
from matchloop.operations.v1.operations_service_pb2_grpc import (
    OperationsServiceServicer,
    add_OperationsServiceServicer_to_server,
)
from matchloop.rpc.convert import entity_to_proto, timestamp, tombstone_to_proto
from matchloop.rpc.server import Server, Service
from matchloop.rpc.settings import ServerSettings
from tests.candidate_world import FakeStore

SERVING = health_pb2.HealthCheckResponse.SERVING


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return True
        pause.wait(0.02)
    return condition()


class FakeCatalog(CatalogServiceServicer):
    def __init__(self, store: FakeStore) -> None:
        self.store = store

    def ListEntities(self, request: Any, context: grpc.ServicerContext) -> Any:
        listing = self.store.tombstones if request.erased_only else self.store.entities
        page = listing(request.kinds, request.from_change_sequence, request.page_token)
        erased = [each for each in page.items if isinstance(each, Tombstone)]
        return catalog_service_pb2.ListEntitiesResponse(
            entities=[entity_to_proto(each) for each in page.items if isinstance(each, Entity)],
            erased=[tombstone_to_proto(each) for each in erased],
            next_page_token=page.next_page_token,
            next_change_sequence=page.next_change_sequence,
        )

    def ListItemStats(self, request: Any, context: grpc.ServicerContext) -> Any:
        page = self.store.item_stats(request.use_case, request.from_change_sequence, request.page_token)
        return catalog_service_pb2.ListItemStatsResponse(
            stats=[
                item_stats_pb2.ItemStats(
                    use_case=request.use_case,
                    item_id=each.item_id,
                    views=each.views,
                    interactions=each.interactions,
                    decayed_weight=each.decayed_weight,
                    decay_time=timestamp(each.decay_time),
                    change_sequence=each.change_sequence,
                )
                for each in page.items
            ],
            next_page_token=page.next_page_token,
            next_change_sequence=page.next_change_sequence,
        )


class FakeFeedback(FeedbackServiceServicer):
    def __init__(self, store: FakeStore) -> None:
        self.store = store
        self.before_lookup: Callable[[], object] = lambda: None

    def GetSession(self, request: Any, context: grpc.ServicerContext) -> Any:
        raise NotFound("no such session", reason=Reason.SESSION_NOT_FOUND)

    def LookupSubjectState(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.before_lookup()
        state = self.store.lookup(request.use_case, EntityId(request.subject_id))
        types = sorted({event.event_type for event in state.recent_events})
        return feedback_service_pb2.LookupSubjectStateResponse(
            state=subject_state_pb2.SubjectState(
                known=state.entity is not None,
                entity=None if state.entity is None else entity_to_proto(state.entity),
                interaction_count=state.interaction_count,
                recent_events=subject_state_pb2.SubjectEvents(
                    item_ids=[event.item for event in state.recent_events],
                    event_types=types,
                    type_indices=[types.index(event.event_type) for event in state.recent_events],
                    event_micros=[microseconds(event.time) for event in state.recent_events],
                    reasoned_events=[n for n, event in enumerate(state.recent_events) if event.reason],
                    reasons=[event.reason for event in state.recent_events if event.reason],
                ),
                hidden_item_ids=sorted(state.hidden),
                weight_factors=[
                    subject_state_pb2.WeightFactor(feature=feature, value=value, factor=factor)
                    for (feature, value), factor in state.weight_factors.items()
                ],
            )
        )


class FakeOperations(OperationsServiceServicer):
    """Of a store that never saw an experiment."""

    def ListExperiments(self, request: Any, context: grpc.ServicerContext) -> Any:
        return operations_service_pb2.ListExperimentsResponse()


def fake_feedback(store: FakeStore, port: int = 0) -> tuple[Server, FakeFeedback]:
    """Return a server that is not started, and what answers lookups."""
    # What candidate_svc never calls is not there.
    feedback = FakeFeedback(store)  # type: ignore[abstract]
    catalog = FakeCatalog(store)  # type: ignore[abstract]
    services = [
        Service("matchloop.catalog.v1.CatalogService", add_CatalogServiceServicer_to_server, catalog),
        Service("matchloop.feedback.v1.FeedbackService", add_FeedbackServiceServicer_to_server, feedback),
        Service(
            "matchloop.operations.v1.OperationsService",
            add_OperationsServiceServicer_to_server,
            FakeOperations(),  # type: ignore[abstract]
        ),
    ]
    return Server(ServerSettings(port=port), services), feedback
