"""CandidateService: proto in, proto out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from candidate_svc import convert
from candidate_svc.domain import FEEDBACK
from matchloop.candidate.v1 import candidate_service_pb2 as service_pb2
from matchloop.candidate.v1.candidate_service_pb2_grpc import (
    CandidateServiceServicer,
    add_CandidateServiceServicer_to_server,
)
from matchloop.errors import Reason, Unavailable
from matchloop.rpc.server import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    import grpc

    from candidate_svc.retrieve import Retriever
    from candidate_svc.states import RememberedStates
    from matchloop.usecase import UseCases

SERVICE = "matchloop.candidate.v1.CandidateService"


class CandidateServicer(CandidateServiceServicer):
    """Serves every use case.

    Parameters
    ----------
    retrievers
        By use case id.
    ready
        Whether the catalogue was listed; UNAVAILABLE before.
    """

    def __init__(
        self,
        use_cases: UseCases,
        retrievers: Mapping[str, Retriever],
        states: RememberedStates,
        *,
        ready: Callable[[], bool],
        clock: Callable[[], datetime],
    ) -> None:
        self._use_cases = use_cases
        self._retrievers = retrievers
        self._states = states
        self._ready = ready
        self._clock = clock

    def GetCandidates(  # noqa: N802 - gRPC's name
        self, request: service_pb2.GetCandidatesRequest, _context: grpc.ServicerContext
    ) -> service_pb2.GetCandidatesResponse:
        """Find candidates for a subject."""
        asked = convert.asked_from_proto(request, self._use_cases, self._clock())
        self._need_catalogue()
        known = self._states.lookup(asked.use_case.id, asked.subject_id)
        degraded = () if known.fresh else (FEEDBACK,)
        return convert.found_to_proto(
            self._retrievers[asked.use_case.id].find(asked, known.state, degraded=degraded)
        )

    def GetSimilarItems(  # noqa: N802
        self, request: service_pb2.GetSimilarItemsRequest, _context: grpc.ServicerContext
    ) -> service_pb2.GetSimilarItemsResponse:
        """Find items like an item."""
        asked = convert.similar_from_proto(request, self._use_cases, self._clock())
        self._need_catalogue()
        retriever = self._retrievers[asked.use_case.id]
        found, release = retriever.similar(asked)
        return service_pb2.GetSimilarItemsResponse(
            candidates=convert.candidates_to_proto(found),
            release=release,
            feature_names=retriever.feature_names,
        )

    def ListTrending(  # noqa: N802
        self, request: service_pb2.ListTrendingRequest, _context: grpc.ServicerContext
    ) -> service_pb2.ListTrendingResponse:
        """List items by popularity."""
        asked = convert.trending_from_proto(request, self._use_cases, self._clock())
        self._need_catalogue()
        retriever = self._retrievers[asked.use_case.id]
        return convert.trending_to_proto(request, retriever.trending(asked), retriever.feature_names)

    def _need_catalogue(self) -> None:
        if not self._ready():
            raise Unavailable("the catalogue has not been read yet", reason=Reason.UPSTREAM_UNAVAILABLE)


def service(servicer: CandidateServicer) -> Service:
    """Return what a `Server` serves."""
    return Service(SERVICE, add_CandidateServiceServicer_to_server, servicer)
