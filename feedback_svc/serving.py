"""The service put together: from a store to a server. Tests use it with a store in memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from feedback_svc import catalog_servicer, feedback_servicer, operations_servicer
from feedback_svc.convert.shared import Schema
from feedback_svc.feedback_servicer import FeedbackServicer
from feedback_svc.gauges import ExperimentGauges, RetrainingGauges
from feedback_svc.retraining import RetrainingBounds
from feedback_svc.settings import FeedbackSettings
from feedback_svc.store.protocol import Store
from matchloop.observe.metrics import Metrics
from matchloop.rpc.server import Server
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
    """Return a server, not started, that answers the three services from `store`."""
    schema = Schema.of(use_cases)
    metrics = metrics or Metrics()
    bounds = bounds or RetrainingBounds()
    RetrainingGauges(store, use_cases, clock, bounds=bounds, metrics=metrics)
    ExperimentGauges(store, use_cases, clock, metrics=metrics)
    feedback = FeedbackServicer(store, schema, clock, bounds=bounds, metrics=metrics)
    operations = operations_servicer.OperationsServicer(store, schema, clock, metrics=metrics)
    services = [
        catalog_servicer.service(catalog_servicer.CatalogServicer(store, schema, clock, metrics=metrics)),
        feedback_servicer.service(feedback),
        operations_servicer.service(operations),
    ]
    return Server(settings, services, metrics=metrics)
