"""RankingService over the wire: message in, message out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matchloop.ranking.v1 import ranking_service_pb2, ranking_service_pb2_grpc
from matchloop.rpc.server import Service
from ranking_svc import convert
from ranking_svc.wire import experiment_results_response

if TYPE_CHECKING:
    import grpc

    from matchloop.usecase import UseCases
    from ranking_svc.domain import Clock
    from ranking_svc.pipeline import Pipeline
    from ranking_svc.results import ExperimentResults
    from ranking_svc.tracing import Tracer

SERVICE_NAME = "matchloop.ranking.v1.RankingService"


class RankingServicer(ranking_service_pb2_grpc.RankingServiceServicer):
    """Answers RankingService; `matchloop.rpc` turns what is raised into statuses."""

    def __init__(
        self,
        pipeline: Pipeline,
        tracer: Tracer,
        results: ExperimentResults,
        use_cases: UseCases,
        clock: Clock,
    ) -> None:
        self._pipeline = pipeline
        self._tracer = tracer
        self._results = results
        self._use_cases = use_cases
        self._clock = clock

    def Recommend(  # noqa: N802 - the contract's name
        self, request: ranking_service_pb2.RecommendRequest, context: grpc.ServicerContext
    ) -> ranking_service_pb2.RecommendResponse:
        """Recommend items to a subject."""
        del context
        ask = convert.read_recommend(request, self._use_cases, self._clock())
        return convert.recommend_response(self._pipeline.recommend(ask))

    def Rank(  # noqa: N802
        self, request: ranking_service_pb2.RankRequest, context: grpc.ServicerContext
    ) -> ranking_service_pb2.RankResponse:
        """Rerank the client's list."""
        del context
        ask = convert.read_rank(request, self._use_cases, self._clock())
        return convert.rank_response(self._pipeline.rank(ask))

    def Trace(  # noqa: N802
        self, request: ranking_service_pb2.TraceRequest, context: grpc.ServicerContext
    ) -> ranking_service_pb2.TraceResponse:
        """Tell where a list came from."""
        del context
        return convert.trace_response(self._tracer.trace(convert.read_session_id(request, self._clock())))

    def GetExperimentResults(  # noqa: N802
        self, request: ranking_service_pb2.GetExperimentResultsRequest, context: grpc.ServicerContext
    ) -> ranking_service_pb2.GetExperimentResultsResponse:
        """Return the results of an experiment by arm."""
        del context
        use_case = convert.read_experiment(request, self._use_cases, self._clock())
        return experiment_results_response(self._results.of(use_case.id))


def service(servicer: RankingServicer) -> Service:
    """Return what a `Server` serves."""
    return Service(SERVICE_NAME, ranking_service_pb2_grpc.add_RankingServiceServicer_to_server, servicer)
