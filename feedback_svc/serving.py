"""The service put together: from a store to a server. Tests use it with a store in memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from feedback_svc.catalog_servicer import CatalogServicer
from feedback_svc.convert.shared import Schema
from feedback_svc.feedback_servicer import FeedbackServicer
from feedback_svc.insight import RetrainingBounds
from feedback_svc.settings import FeedbackSettings
from feedback_svc.store.protocol import Store
from matchloop.catalog.v1 import catalog_service_pb2_grpc
from matchloop.feedback.v1 import feedback_service_pb2_grpc
from matchloop.observe.metrics import Metrics
from matchloop.rpc.server import Server, Service
from matchloop.rpc.settings import ServerSettings
from matchloop.usecase import UseCases


def bounds_of(settings: FeedbackSettings) -> RetrainingBounds:
    """Return when a retraining is due."""
    return RetrainingBounds(
        settings.retrain_negatives, settings.retrain_error, settings.retrain_error_negatives
    )


def build_server(
    settings: ServerSettings,
    store: Store,
    use_cases: UseCases,
    clock: Callable[[], datetime],
    *,
    bounds: RetrainingBounds | None = None,
    metrics: Metrics | None = None,
) -> Server:
    """Return a server, not started, that answers CatalogService and FeedbackService from `store`."""
    schema = Schema.of(use_cases)
    metrics = metrics or Metrics()
    feedback = FeedbackServicer(store, schema, clock, bounds=bounds or RetrainingBounds(), metrics=metrics)
    return Server(
        settings,
        [
            Service(
                "matchloop.catalog.v1.CatalogService",
                catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server,
                CatalogServicer(store, schema, clock),
            ),
            Service(
                "matchloop.feedback.v1.FeedbackService",
                feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server,
                feedback,
            ),
        ],
        metrics=metrics,
    )
