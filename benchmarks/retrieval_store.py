"""feedback_svc as `benchmarks.retrieval` needs it: lists of a made-up catalogue, states of some subjects.

``python -m benchmarks.retrieval_store PORT ITEMS``
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.retrieval_world import EVENTS, STORED, VIEWERS, films, ids, subject, use_case, viewers
from matchloop.catalog.v1 import catalog_service_pb2, item_stats_pb2
from matchloop.catalog.v1.catalog_service_pb2_grpc import (
    CatalogServiceServicer,
    add_CatalogServiceServicer_to_server,
)
from matchloop.features import HashingEmbedder
from matchloop.feedback.v1 import feedback_service_pb2, subject_state_pb2
from matchloop.feedback.v1.feedback_service_pb2_grpc import (
    FeedbackServiceServicer,
    add_FeedbackServiceServicer_to_server,
)
from matchloop.rpc.convert import entity_to_proto, timestamp
from matchloop.rpc.server import Server, Service
from matchloop.rpc.settings import ServerSettings

if TYPE_CHECKING:
    import grpc

    from matchloop.entities import Entity, EntityId

SEEN_SHARE = 5
"""One in so many items has counts."""


class Catalog(CatalogServiceServicer):
    """Lists films by number: the n-th has change sequence n + 1."""

    def __init__(self, items: int) -> None:
        self._items = items
        self._embedder = HashingEmbedder(use_case().embedding_width)

    def ListEntities(self, request: Any, _context: grpc.ServicerContext) -> Any:  # noqa: N802
        """List films, of the kinds asked for; nothing was ever erased."""
        first = max(int(request.page_token or 0), request.from_change_sequence - 1, 0)
        end = min(first + request.page_size, self._items)
        last = request.erased_only or "movie" not in request.kinds
        found = [] if last else films(first, end, self._embedder)
        return catalog_service_pb2.ListEntitiesResponse(
            entities=[entity_to_proto(each) for each in found],
            next_page_token="" if last or end == self._items else str(end),
            next_change_sequence=self._items + 1,
        )

    def ListItemStats(self, request: Any, _context: grpc.ServicerContext) -> Any:  # noqa: N802
        """List the counts of the films that were seen."""
        seen = self._items // SEEN_SHARE if request.use_case == use_case().id else 0
        first = max(int(request.page_token or 0), request.from_change_sequence - 1, 0)
        end = min(first + request.page_size, seen)
        stats = [
            item_stats_pb2.ItemStats(
                use_case=request.use_case,
                item_id=f"movie-{number * SEEN_SHARE:07d}",
                views=1 + 100_000 // (number + 1),
                interactions=10_000 // (number + 1),
                decayed_weight=10_000 / (number + 1),
                decay_time=timestamp(STORED),
                change_sequence=number + 1,
            )
            for number in range(first, end)
        ]
        return catalog_service_pb2.ListItemStatsResponse(
            stats=stats,
            next_page_token="" if end >= seen else str(end),
            next_change_sequence=seen + 1,
        )


class Feedback(FeedbackServiceServicer):
    """Tells the states of `VIEWERS` subjects of each tier."""

    def __init__(self, items: int) -> None:
        rng = np.random.default_rng(11)
        names, now = ids(items), datetime.now(UTC)
        self._states: dict[str, subject_state_pb2.SubjectState] = {}
        for tier, (least, most) in EVENTS.items():
            for number, viewer in enumerate(viewers(VIEWERS, rng)):
                id_ = subject(tier, number)
                entity = replace(viewer, key=replace(viewer.key, id=id_))
                events = int(rng.integers(least, most + 1))
                self._states[id_] = _state(entity, events, names, now, rng)

    def LookupSubjectState(self, request: Any, _context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Return the state."""
        return feedback_service_pb2.LookupSubjectStateResponse(state=self._states[request.subject_id])


def _state(
    entity: Entity, events: int, names: list[EntityId], now: datetime, rng: np.random.Generator
) -> subject_state_pb2.SubjectState:
    types = ["view", "click", "like"]
    drawn = [names[number] for number in rng.integers(0, len(names), events).tolist()]
    kinds = rng.integers(0, len(types), events).tolist()
    micros = [int((now - timedelta(hours=at)).timestamp() * 1_000_000) for at in range(events)]
    return subject_state_pb2.SubjectState(
        known=True,
        entity=entity_to_proto(entity),
        interaction_count=events,
        recent_events=subject_state_pb2.SubjectEvents(
            item_ids=drawn, event_types=types, type_indices=kinds, event_micros=micros
        ),
        hidden_item_ids=sorted(name for name, kind in zip(drawn, kinds, strict=True) if kind == 2),
    )


def main(port: int, items: int) -> int:
    """Serve until SIGTERM."""
    services = [
        Service(
            "matchloop.catalog.v1.CatalogService",
            add_CatalogServiceServicer_to_server,
            Catalog(items),  # type: ignore[abstract]
        ),
        Service(
            "matchloop.feedback.v1.FeedbackService",
            add_FeedbackServiceServicer_to_server,
            Feedback(items),  # type: ignore[abstract]
        ),
    ]
    return Server(ServerSettings(port=port), services).run()


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
