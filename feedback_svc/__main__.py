"""Start feedback_svc: ``python -m feedback_svc``, settings from ``FEEDBACK_*``. The one place that wires."""

from __future__ import annotations

import sys
from datetime import timedelta

from feedback_svc.erasure import roles_of
from feedback_svc.reaction_gauges import ReactionGauges
from feedback_svc.serving import bounds_of, build_server
from feedback_svc.settings import FeedbackSettings
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from matchloop import heap
from matchloop.errors import InvalidInput, MatchloopError
from matchloop.observe import tracing
from matchloop.observe.logs import configure_logging, get_logger
from matchloop.rpc import spans
from matchloop.rpc.server import Server
from matchloop.rpc.settings import read_settings
from matchloop.rpc.validation import utc_now
from matchloop.usecase import UseCases, load_use_cases


def main() -> int:
    """Serve until SIGTERM; return the exit code (2: faulty settings)."""
    try:
        heap.share_arenas()
        settings = read_settings(FeedbackSettings)
        use_cases = load_use_cases(*settings.use_case_folders)
        configure_logging(settings.log_level, service="feedback_svc")
        spans.begin("feedback_svc")
    except InvalidInput as error:
        return _faulty(error)
    database = Database(
        settings.database_url,
        pool_size=settings.threads,
        connect_timeout=settings.connect_timeout_seconds,
        statement_timeout=settings.statement_timeout_seconds,
    )
    store = PostgresStore(database)
    try:
        server = build_server(settings, store, use_cases, utc_now, bounds=bounds_of(settings))
    except InvalidInput as error:
        return _faulty(error)
    _keep_roles(store, use_cases)
    _show_reactions(server, settings, store, use_cases)
    server.on_flush("database", database.close)
    server.on_flush("traces", tracing.close)
    return server.run()


def _show_reactions(
    server: Server, settings: FeedbackSettings, store: PostgresStore, use_cases: UseCases
) -> None:
    if settings.metrics_port is None or not settings.reaction_gauge_seconds:
        return
    gauges = ReactionGauges(
        store,
        use_cases,
        utc_now,
        span=timedelta(seconds=settings.reaction_span_seconds),
        seconds=settings.reaction_gauge_seconds,
        metrics=server.metrics,
    )
    server.on_flush("reaction gauges", gauges.close)
    gauges.start()


def _faulty(error: InvalidInput) -> int:
    for violation in error.violations:
        sys.stderr.write(f"{violation.field}: {violation.description}\n")
    return 2


def _keep_roles(store: PostgresStore, use_cases: UseCases) -> None:
    """Tell the store the kinds of use cases; a store that is away is told with the next erasure."""
    try:
        store.keep_roles(roles_of(use_cases))
    except MatchloopError as error:
        get_logger().warning("kinds not kept", reason=error.reason.value)


if __name__ == "__main__":
    sys.exit(main())
