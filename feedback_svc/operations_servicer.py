"""OperationsService over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feedback_svc.convert import operations as convert
from matchloop.acts import ActKind
from matchloop.operations.v1 import operations_service_pb2 as calls
from matchloop.operations.v1 import operations_service_pb2_grpc as wire
from matchloop.rpc.operations import experiment_to_proto, reactions_to_proto
from matchloop.rpc.server import Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import grpc

    from feedback_svc.convert.shared import Schema
    from feedback_svc.store.protocol import Store
    from matchloop.observe.metrics import Metrics

SERVICE = "matchloop.operations.v1.OperationsService"


class OperationsServicer(wire.OperationsServiceServicer):
    """Answers OperationsService from a store."""

    def __init__(
        self, store: Store, schema: Schema, clock: Callable[[], datetime], *, metrics: Metrics
    ) -> None:
        self._store = store
        self._schema = schema
        self._clock = clock
        self._metrics = metrics
        for use_case in schema.use_cases:
            for kind in ActKind:
                metrics.acts.labels(use_case, kind.value)

    def AcquireLease(  # noqa: N802
        self, request: calls.AcquireLeaseRequest, context: grpc.ServicerContext
    ) -> calls.AcquireLeaseResponse:
        """See the contract."""
        now = self._clock()
        name, holder, duration = convert.lease_to_acquire(request, now)
        return convert.grant_reply(self._store.acquire_lease(name, holder, duration=duration, now=now))

    def ReleaseLease(  # noqa: N802
        self, request: calls.ReleaseLeaseRequest, context: grpc.ServicerContext
    ) -> calls.ReleaseLeaseResponse:
        """See the contract."""
        now = self._clock()
        name, holder = convert.lease_to_release(request, now)
        return calls.ReleaseLeaseResponse(released=self._store.release_lease(name, holder, now=now))

    def RecordAct(  # noqa: N802
        self, request: calls.RecordActRequest, context: grpc.ServicerContext
    ) -> calls.RecordActResponse:
        """See the contract."""
        act = convert.act_to_record(request, self._schema, self._clock())
        stored = self._store.record_act(act)
        if stored:
            self._metrics.acts.labels(act.use_case, act.kind.value).inc()
        return calls.RecordActResponse(stored=stored)

    def ListActs(  # noqa: N802
        self, request: calls.ListActsRequest, context: grpc.ServicerContext
    ) -> calls.ListActsResponse:
        """See the contract."""
        kinds, after, limit = convert.acts_page(request, self._schema, self._clock())
        found = self._store.list_acts(request.use_case, kinds, after=after, limit=limit + 1)
        return convert.acts_page_reply(request, found, limit)

    def StartExperiment(  # noqa: N802
        self, request: calls.StartExperimentRequest, context: grpc.ServicerContext
    ) -> calls.StartExperimentResponse:
        """See the contract."""
        experiment = convert.experiment_to_start(request, self._schema, self._clock())
        stored = self._store.start_experiment(experiment)
        return calls.StartExperimentResponse(experiment=experiment_to_proto(stored))

    def StopExperiment(  # noqa: N802
        self, request: calls.StopExperimentRequest, context: grpc.ServicerContext
    ) -> calls.StopExperimentResponse:
        """See the contract."""
        now = self._clock()
        experiment_id, reason = convert.experiment_to_stop(request, now)
        stored = self._store.stop_experiment(experiment_id, reason=reason, now=now)
        return calls.StopExperimentResponse(experiment=experiment_to_proto(stored))

    def ListExperiments(  # noqa: N802
        self, request: calls.ListExperimentsRequest, context: grpc.ServicerContext
    ) -> calls.ListExperimentsResponse:
        """See the contract."""
        after, limit = convert.experiments_page(request, self._schema, self._clock())
        found = self._store.list_experiments(request.use_case, after=after, limit=limit + 1)
        return convert.experiments_page_reply(request, found, limit)

    def GetReactions(  # noqa: N802
        self, request: calls.GetReactionsRequest, context: grpc.ServicerContext
    ) -> calls.GetReactionsResponse:
        """See the contract."""
        which, kinds = convert.reactions_asked(request, self._schema, self._clock())
        found = self._store.sum_reactions(which, kinds)
        return calls.GetReactionsResponse(reactions=[reactions_to_proto(each) for each in found])


def service(servicer: OperationsServicer) -> Service:
    """Return what a `Server` serves."""
    return Service(SERVICE, wire.add_OperationsServiceServicer_to_server, servicer)
