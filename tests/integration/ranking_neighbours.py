"""candidate_svc and feedback_svc as ranking_svc sees them over the wire, with faults on demand."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import grpc

from matchloop.candidate.v1 import candidate_pb2, candidate_service_pb2_grpc
from matchloop.candidate.v1 import candidate_service_pb2 as candidate_service
from matchloop.errors import MatchloopError, NotFound, Reason
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_service
from matchloop.feedback.v1 import feedback_service_pb2_grpc, session_pb2
from matchloop.operations.v1 import operations_service_pb2 as operations_service
from matchloop.operations.v1 import operations_service_pb2_grpc, reactions_pb2
from matchloop.rpc.convert import timestamp
from matchloop.rpc.operations import experiment_to_proto
from matchloop.rpc.server import Server, Service
from matchloop.rpc.settings import ServerSettings
from tests.ranking_world import MOVIE, NOW, SENT_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from matchloop.experiments.experiment import Experiment

Context = grpc.ServicerContext


def candidate(number: int, method: session_pb2.Method.ValueType) -> candidate_pb2.Candidate:
    return candidate_pb2.Candidate(
        item_id=f"m{number}",
        method=method,
        score=1.0 / (number + 1),
        features=[0.5] * len(SENT_NAMES),
        create_time=timestamp(NOW),
        diversity_values=[candidate_pb2.FieldValues(values=[f"v{number % 5}"]) for _ in range(3)],
        contributions=[candidate_pb2.Contribution(field="embedding", amount=0.1)],
    )


class _Faulty:
    """Raises `fault`, or waits for `gate`, before it answers; `spoil` has the last word on a reply."""

    def __init__(self) -> None:
        self.fault: MatchloopError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.requests: list[Any] = []
        self.spoil: Callable[[Any], None] = lambda reply: None

    def enter(self, request: Any) -> None:
        self.requests.append(request)
        self.gate.wait(20)
        if self.fault:
            raise self.fault


class Candidates(_Faulty, candidate_service_pb2_grpc.CandidateServiceServicer):
    """Knows m0 to m599."""

    def GetCandidates(
        self, request: candidate_service.GetCandidatesRequest, context: Context
    ) -> candidate_service.GetCandidatesResponse:
        self.enter(request)
        numbers = range(600)
        if request.only_item_ids:
            wanted = set(request.only_item_ids)
            numbers = [number for number in numbers if f"m{number}" in wanted]  # type: ignore[assignment]
        left_out = set(request.exclude_item_ids)
        found = [number for number in numbers if f"m{number}" not in left_out][: request.count]
        reply = candidate_service.GetCandidatesResponse(
            candidates=[candidate(number, session_pb2.METHOD_CONTENT) for number in found],
            tier=session_pb2.TIER_WARM,
            feature_names=SENT_NAMES,
            skipped=[
                candidate_pb2.SkippedMethod(
                    method=session_pb2.METHOD_ALS, reason=candidate_pb2.SKIP_REASON_MISSING
                )
            ],
        )
        self.spoil(reply)
        return reply

    def ListTrending(
        self, request: candidate_service.ListTrendingRequest, context: Context
    ) -> candidate_service.ListTrendingResponse:
        self.enter(request)
        numbers = range(request.page_size if request.use_case == MOVIE.id else 0)
        return candidate_service.ListTrendingResponse(
            candidates=[candidate(number, session_pb2.METHOD_POPULAR) for number in numbers]
        )


class Feedback(_Faulty, feedback_service_pb2_grpc.FeedbackServiceServicer):
    """Keeps sessions in memory, in order of arrival; `deliveries` counts those that came again too."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, session_pb2.Session] = {}
        self.deliveries = 0

    def RecordSessions(
        self, request: feedback_service.RecordSessionsRequest, context: Context
    ) -> feedback_service.RecordSessionsResponse:
        self.enter(request)
        self.deliveries += len(request.sessions)
        for session in request.sessions:
            self.sessions.setdefault(session.session_id, session)
        return feedback_service.RecordSessionsResponse(stored=len(request.sessions))

    def GetSession(
        self, request: feedback_service.GetSessionRequest, context: Context
    ) -> feedback_service.GetSessionResponse:
        self.enter(request)
        if request.session_id not in self.sessions:
            raise NotFound("no such session", reason=Reason.SESSION_NOT_FOUND)
        return feedback_service.GetSessionResponse(session=self.sessions[request.session_id])

    def LookupSubjectState(
        self, request: feedback_service.LookupSubjectStateRequest, context: Context
    ) -> feedback_service.LookupSubjectStateResponse:
        self.enter(request)
        reply = feedback_service.LookupSubjectStateResponse()
        reply.state.hidden_item_ids.append("m0")
        return reply


class Operations(_Faulty, operations_service_pb2_grpc.OperationsServiceServicer):
    """Holds experiments, the latest first, and what came of lists."""

    def __init__(self) -> None:
        super().__init__()
        self.experiments: list[Experiment] = []
        self.reactions: list[reactions_pb2.Reactions] = []

    def ListExperiments(
        self, request: operations_service.ListExperimentsRequest, context: Context
    ) -> operations_service.ListExperimentsResponse:
        self.enter(request)
        found = [each for each in self.experiments if each.use_case == request.use_case]
        return operations_service.ListExperimentsResponse(
            experiments=[experiment_to_proto(each) for each in found[: request.page_size]]
        )

    def GetReactions(
        self, request: operations_service.GetReactionsRequest, context: Context
    ) -> operations_service.GetReactionsResponse:
        self.enter(request)
        return operations_service.GetReactionsResponse(reactions=self.reactions)


def make_operations() -> Operations:
    """Return the part of feedback_svc that keeps experiments."""
    return Operations()  # type: ignore[abstract]


def make_candidates() -> Candidates:
    """Return a candidate_svc that answers; what ranking_svc never calls it leaves to the base class."""
    return Candidates()  # type: ignore[abstract]


def make_feedback() -> Feedback:
    """Return a feedback_svc that answers."""
    return Feedback()  # type: ignore[abstract]


def serve_candidates(candidates: Candidates, port: int = 0) -> Server:
    """Serve on a port; 0 takes a free one."""
    add = candidate_service_pb2_grpc.add_CandidateServiceServicer_to_server
    return _serve([Service("matchloop.candidate.v1.CandidateService", add, candidates)], port)


def serve_feedback(feedback: Feedback, port: int = 0, operations: Operations | None = None) -> Server:
    """Serve on a port; 0 takes a free one."""
    services = [
        Service(
            "matchloop.feedback.v1.FeedbackService",
            feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server,
            feedback,
        ),
        Service(
            "matchloop.operations.v1.OperationsService",
            operations_service_pb2_grpc.add_OperationsServiceServicer_to_server,
            operations or make_operations(),
        ),
    ]
    return _serve(services, port)


def _serve(services: list[Service], port: int) -> Server:
    settings = ServerSettings(port=port, linger_seconds=0.0, grace_seconds=0.0)
    return Server(settings, services).start()
