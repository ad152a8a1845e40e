"""FeedbackService over gRPC."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from feedback_svc.answers import judge_status, measure_improvement, report_dislikes
from feedback_svc.convert import dislikes as of_dislikes
from feedback_svc.convert import insight as of_insight
from feedback_svc.convert import interactions as of_interactions
from feedback_svc.convert import matches as of_matches
from feedback_svc.convert import sessions as of_sessions
from matchloop.entities import EntityId, EntityKey, Kind
from matchloop.feedback.v1 import feedback_service_pb2 as calls
from matchloop.feedback.v1 import feedback_service_pb2_grpc as wire
from matchloop.rpc.server import Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import grpc

    from feedback_svc.convert.shared import Schema
    from feedback_svc.retraining import RetrainingBounds
    from feedback_svc.store.protocol import Store
    from matchloop.observe.metrics import Metrics

SERVICE = "matchloop.feedback.v1.FeedbackService"


class FeedbackServicer(wire.FeedbackServiceServicer):
    """Answers FeedbackService from a store."""

    def __init__(
        self,
        store: Store,
        schema: Schema,
        clock: Callable[[], datetime],
        *,
        bounds: RetrainingBounds,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._schema = schema
        self._clock = clock
        self._bounds = bounds
        self._metrics = metrics

    def RecordSessions(  # noqa: N802
        self, request: calls.RecordSessionsRequest, context: grpc.ServicerContext
    ) -> calls.RecordSessionsResponse:
        """See the contract."""
        now = self._clock()
        sessions = of_sessions.sessions_to_record(request, self._schema, now)
        recorded = self._store.record_sessions(sessions, now=now)
        new = (s for s in sessions if s.session_id not in recorded.duplicates)
        for labels, count in Counter((s.use_case, s.source.value) for s in new).items():
            self._metrics.sessions.labels(*labels).inc(count)
            self._metrics.last_stored.labels(labels[0], "sessions").set(now.timestamp())
        return of_sessions.sessions_reply(recorded)

    def GetSession(  # noqa: N802
        self, request: calls.GetSessionRequest, context: grpc.ServicerContext
    ) -> calls.GetSessionResponse:
        """See the contract."""
        session_id = of_sessions.session_id_of(request, self._clock())
        session = self._store.get_session(session_id)
        return calls.GetSessionResponse(session=of_sessions.session_to_proto(session))

    def ListSessions(  # noqa: N802
        self, request: calls.ListSessionsRequest, context: grpc.ServicerContext
    ) -> calls.ListSessionsResponse:
        """See the contract."""
        now = self._clock()
        self._schema.use_case(request.use_case, now)
        which, after, limit = of_sessions.sessions_page(request, now)
        found = self._store.list_sessions(which, after=after, limit=limit + 1)
        return of_sessions.sessions_page_reply(request, found, limit)

    def RecordInteractions(  # noqa: N802
        self, request: calls.RecordInteractionsRequest, context: grpc.ServicerContext
    ) -> calls.RecordInteractionsResponse:
        """See the contract."""
        now = self._clock()
        interactions, facts = of_interactions.interactions_to_record(request, self._schema, now)
        duplicates = self._store.record_interactions(interactions, facts, now=now)
        before = frozenset(duplicates)
        counts = Counter(
            (i.use_case, i.event_type, "recommendation" if i.session_id else "organic")
            for i in interactions
            if i.interaction_id not in before
        )
        for labels, count in counts.items():
            self._metrics.interactions.labels(*labels).inc(count)
            self._metrics.last_stored.labels(labels[0], "interactions").set(now.timestamp())
        return of_interactions.interactions_reply(len(interactions), duplicates)

    def ListInteractions(  # noqa: N802
        self, request: calls.ListInteractionsRequest, context: grpc.ServicerContext
    ) -> calls.ListInteractionsResponse:
        """See the contract."""
        now = self._clock()
        self._schema.use_case(request.use_case, now)
        which, before, limit = of_interactions.interactions_page(request, now)
        found = self._store.list_interactions(which, before=before, limit=limit + 1)
        return of_interactions.interactions_page_reply(request, found, limit)

    def RecordDislike(  # noqa: N802
        self, request: calls.RecordDislikeRequest, context: grpc.ServicerContext
    ) -> calls.RecordDislikeResponse:
        """See the contract."""
        now = self._clock()
        dislike, use_case = of_dislikes.dislike_to_record(request, self._schema, now)
        receipt = self._store.record_dislike(
            dislike,
            reason=use_case.dislikes[dislike.reason],
            facts=self._schema.facts[use_case.id][use_case.dislike_event],
            item_kind=use_case.item,
            now=now,
        )
        if not receipt.duplicate:
            self._metrics.dislikes.labels(use_case.id, dislike.reason).inc()
            self._metrics.last_stored.labels(use_case.id, "dislikes").set(now.timestamp())
        return of_dislikes.receipt_reply(receipt)

    def ListDislikes(  # noqa: N802
        self, request: calls.ListDislikesRequest, context: grpc.ServicerContext
    ) -> calls.ListDislikesResponse:
        """See the contract."""
        now = self._clock()
        self._schema.use_case(request.use_case, now)
        which, before, limit = of_dislikes.dislikes_page(request, now)
        found = self._store.list_dislikes(
            which, unused_only=request.unused_only, before=before, limit=limit + 1
        )
        return of_dislikes.dislikes_page_reply(request, found, limit)

    def LookupSubjectState(  # noqa: N802
        self, request: calls.LookupSubjectStateRequest, context: grpc.ServicerContext
    ) -> calls.LookupSubjectStateResponse:
        """See the contract."""
        now = self._clock()
        use_case = self._schema.use_case(request.use_case, now)
        subject_id = of_interactions.subject_to_look_up(request, now)
        subject = EntityKey(Kind(use_case.subject), EntityId(subject_id))
        state = self._store.lookup_subject_state(use_case.id, subject, now=now)
        return of_interactions.state_reply(state)

    def GetRetrainingStatus(  # noqa: N802
        self, request: calls.GetRetrainingStatusRequest, context: grpc.ServicerContext
    ) -> calls.GetRetrainingStatusResponse:
        """See the contract."""
        now = self._clock()
        use_case = self._schema.use_case(request.use_case, now)
        status = judge_status(self._store, use_case, self._bounds, now=now)
        return of_insight.status_reply(status, self._bounds)

    def MarkNegativesUsed(  # noqa: N802
        self, request: calls.MarkNegativesUsedRequest, context: grpc.ServicerContext
    ) -> calls.MarkNegativesUsedResponse:
        """See the contract."""
        now = self._clock()
        use_case = self._schema.use_case(request.use_case, now)
        release, to_sequence = of_dislikes.use_to_mark(request, now)
        marked = self._store.mark_negatives_used(
            use_case.id, release=release, to_sequence=to_sequence, now=now
        )
        return calls.MarkNegativesUsedResponse(marked=marked)

    def GetDislikePatterns(  # noqa: N802
        self, request: calls.GetDislikePatternsRequest, context: grpc.ServicerContext
    ) -> calls.GetDislikePatternsResponse:
        """See the contract."""
        now = self._clock()
        use_case = self._schema.use_case(request.use_case, now)
        subject_id = of_insight.subject_asked(request, now)
        report = report_dislikes(self._store, use_case, self._bounds, subject_id=subject_id, now=now)
        return of_insight.patterns_reply(report)

    def GetFeedbackMetrics(  # noqa: N802
        self, request: calls.GetFeedbackMetricsRequest, context: grpc.ServicerContext
    ) -> calls.GetFeedbackMetricsResponse:
        """See the contract."""
        now = self._clock()
        use_case = self._schema.use_case(request.use_case, now)
        return of_insight.metrics_reply(measure_improvement(self._store, use_case, now=now))

    def ListMatches(  # noqa: N802
        self, request: calls.ListMatchesRequest, context: grpc.ServicerContext
    ) -> calls.ListMatchesResponse:
        """See the contract."""
        which, before, limit = of_matches.matches_page(request, self._schema, self._clock())
        found = self._store.list_matches(which, before=before, limit=limit + 1)
        return of_matches.matches_page_reply(request, found, limit)


def service(servicer: FeedbackServicer) -> Service:
    """Return what a `Server` serves."""
    return Service(SERVICE, wire.add_FeedbackServiceServicer_to_server, servicer)
