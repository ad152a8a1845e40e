"""feedback_svc as candidate_svc sees it: the catalogue's lists and subject states, over gRPC."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

from candidate_svc.counts import ItemStats
from candidate_svc.domain import SubjectState
from candidate_svc.feed import Page
from matchloop.catalog.v1 import catalog_service_pb2 as catalog_pb2
from matchloop.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from matchloop.entities import EntityId
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb2
from matchloop.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from matchloop.retrieval.profile import SubjectEvent
from matchloop.rpc import deadline
from matchloop.rpc.breaker import CircuitBreaker
from matchloop.rpc.channel import call, open_channel
from matchloop.rpc.convert import read_entity, read_micros, read_time, read_tombstone

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from matchloop.catalog.v1 import item_stats_pb2
    from matchloop.entities import Entity, Tombstone
    from matchloop.feedback.v1 import subject_state_pb2
    from matchloop.observe.metrics import Metrics

UPSTREAM = "feedback_svc"
IDEMPOTENT = (
    "matchloop.catalog.v1.CatalogService/ListEntities",
    "matchloop.catalog.v1.CatalogService/ListItemStats",
    "matchloop.feedback.v1.FeedbackService/LookupSubjectState",
)
RETRIEVAL_SHARE = 0.5
"""Of the time that a request has left when its subject is looked up, kept back for retrieval."""


class FeedbackClient:
    """Calls feedback_svc; every method raises the MatchloopError that the other side did, or Unavailable.

    Parameters
    ----------
    channel
        From `connect`; closed by whoever opened it.
    lookup_seconds
        Longest wait for a subject's state; at most half of what the request under way has left.
    list_seconds
        Longest wait for one page of a list.
    entities_page, stats_page
        Page sizes, 1 to 2000 and 1 to 5000.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        metrics: Metrics,
        *,
        lookup_seconds: float = 0.5,
        list_seconds: float = 10.0,
        entities_page: int = 1000,
        stats_page: int = 5000,
    ) -> None:
        self._catalog = CatalogServiceStub(channel)
        self._feedback = FeedbackServiceStub(channel)
        self._metrics = metrics
        self._breaker = CircuitBreaker(UPSTREAM, metrics)
        self._lookup_seconds = lookup_seconds
        self._list_seconds = list_seconds
        self._entities_page = entities_page
        self._stats_page = stats_page

    def lookup(self, use_case: str, subject_id: EntityId) -> SubjectState:
        """See `states.SubjectStates`."""
        request = feedback_pb2.LookupSubjectStateRequest(use_case=use_case, subject_id=subject_id)
        reply = self._breaker.call(
            lambda: call(
                self._feedback.LookupSubjectState,
                request,
                upstream=UPSTREAM,
                most=self._lookup_seconds,
                reserve=deadline.share(RETRIEVAL_SHARE),
                metrics=self._metrics,
            )
        )
        return read_state(reply.state)

    def entities(self, kinds: Sequence[str], from_sequence: int, page_token: str) -> Page[Entity | Tombstone]:
        """See `mirror.CatalogueLists`."""
        request = catalog_pb2.ListEntitiesRequest(
            kinds=kinds,
            from_change_sequence=from_sequence,
            page_size=self._entities_page,
            page_token=page_token,
            include_inactive=True,
        )
        reply = call(self._catalog.ListEntities, request, upstream=UPSTREAM, most=self._list_seconds)
        found: list[Entity | Tombstone] = [read_entity(entity) for entity in reply.entities]
        found += [read_tombstone(tombstone) for tombstone in reply.erased]
        found.sort(key=lambda each: each.change_sequence)
        return Page(tuple(found), reply.next_page_token, reply.next_change_sequence)

    def tombstones(self, kinds: Sequence[str], from_sequence: int, page_token: str) -> Page[Tombstone]:
        """See `mirror.CatalogueLists`."""
        request = catalog_pb2.ListEntitiesRequest(
            kinds=kinds,
            from_change_sequence=from_sequence,
            page_size=self._entities_page,
            page_token=page_token,
            erased_only=True,
        )
        reply = call(self._catalog.ListEntities, request, upstream=UPSTREAM, most=self._list_seconds)
        found = tuple(read_tombstone(tombstone) for tombstone in reply.erased)
        return Page(found, reply.next_page_token, reply.next_change_sequence)

    def item_stats(self, use_case: str, from_sequence: int, page_token: str) -> Page[ItemStats]:
        """See `mirror.CatalogueLists`."""
        request = catalog_pb2.ListItemStatsRequest(
            use_case=use_case,
            from_change_sequence=from_sequence,
            page_size=self._stats_page,
            page_token=page_token,
        )
        reply = call(self._catalog.ListItemStats, request, upstream=UPSTREAM, most=self._list_seconds)
        found = tuple(read_stats(stats) for stats in reply.stats)
        return Page(found, reply.next_page_token, reply.next_change_sequence)


def connect(address: str) -> grpc.Channel:
    """Open a channel to feedback_svc; it connects with the first call, and again after a fault."""
    return open_channel(address, idempotent=IDEMPOTENT)


def read_state(message: subject_state_pb2.SubjectState) -> SubjectState:
    """Convert a state that feedback_svc sent; a factor that is no number of 0 or more is left out."""
    return SubjectState(
        entity=read_entity(message.entity) if message.known else None,
        interaction_count=message.interaction_count,
        recent_events=_read_events(message.recent_events),
        hidden=frozenset(message.hidden_item_ids),
        weight_factors=MappingProxyType(
            {
                (each.feature, each.value): each.factor
                for each in message.weight_factors
                if 0.0 <= each.factor < math.inf
            }
        ),
    )


def _read_events(columns: subject_state_pb2.SubjectEvents) -> tuple[SubjectEvent, ...]:
    types = tuple(columns.event_types)
    reasons = [""] * len(columns.item_ids)
    for place, reason in zip(columns.reasoned_events, columns.reasons, strict=True):
        reasons[place] = reason
    each = zip(columns.item_ids, columns.type_indices, columns.event_micros, reasons, strict=True)
    return tuple(
        [
            SubjectEvent(EntityId(item_id), types[index], read_micros(micros), reason)
            for item_id, index, micros, reason in each
        ]
    )


def read_stats(message: item_stats_pb2.ItemStats) -> ItemStats:
    """Convert counts that feedback_svc sent."""
    return ItemStats(
        item_id=EntityId(message.item_id),
        views=message.views,
        interactions=message.interactions,
        decayed_weight=message.decayed_weight,
        decay_time=read_time(message.decay_time) if message.HasField("decay_time") else None,
        change_sequence=message.change_sequence,
    )
