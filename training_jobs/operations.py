"""A client of feedback_svc's OperationsService: leases, acts, experiments, what came of lists."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import grpc

from matchloop.acts import Act, ActKind, ActNumber
from matchloop.errors import DeadlinePassed, MatchloopError, Reason, Unavailable
from matchloop.experiments.experiment import Experiment
from matchloop.experiments.reactions import Reactions
from matchloop.observe import faults
from matchloop.observe.logs import get_logger
from matchloop.operations.v1 import act_pb2, experiment_pb2
from matchloop.operations.v1 import operations_service_pb2 as calls
from matchloop.operations.v1 import operations_service_pb2_grpc as wire
from matchloop.rpc.channel import open_channel, request_metadata
from matchloop.rpc.convert import timestamp
from matchloop.rpc.operations import (
    ACT_KIND_NUMBERS,
    reaction_grouping,
    read_act,
    read_experiment,
    read_lease,
    read_reactions,
)
from matchloop.rpc.status import from_rpc_error
from training_jobs.leases import HeldLease, LeaseTaken

if TYPE_CHECKING:
    from types import TracebackType

    from matchloop.leases import Lease

SERVICE = "matchloop.operations.v1.OperationsService"
LEASE_SECONDS = 300
PAGE = 500

_log = get_logger()


class Operations:
    """OperationsService at an address; safe to use from several threads; a context manager that closes it.

    Every method raises Unavailable when feedback_svc cannot be reached within `timeout`, and what
    feedback_svc refuses a call with.

    Parameters
    ----------
    address
        gRPC target, ``host:port``.
    timeout
        Seconds a call may take; one that finds nobody waits that long for somebody to be there.
    """

    def __init__(self, address: str, *, timeout: float = 10.0) -> None:
        self._address, self._timeout = address, timeout
        self._channel = open_channel(address, idempotent=(SERVICE,))
        self._stub = wire.OperationsServiceStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def lease(
        self, name: str, *, seconds: int = LEASE_SECONDS, holder: str | None = None
    ) -> Iterator[HeldLease]:
        """Hold a lease during a block; a thread prolongs it, and the block's end gives it back.

        Parameters
        ----------
        seconds
            How long it outlives this process, or a feedback_svc that is away; 1 to 86 400.
        holder
            Unique to the run; None: made up of host, process and a random part.

        Raises
        ------
        LeaseTaken
            When somebody else holds it.
        """
        request = calls.AcquireLeaseRequest(name=name, holder=holder or _new_holder(), seconds=seconds)

        def ask(timeout: float) -> tuple[bool, Lease]:
            grant = self._call(self._stub.AcquireLease, request, timeout=timeout)
            return grant.acquired, read_lease(grant.lease)

        expires = time.monotonic() + seconds
        acquired, lease = ask(self._timeout)
        if not acquired:
            raise LeaseTaken(lease)
        held, ended = HeldLease(lease), threading.Event()
        bounds: dict[str, Any] = {"seconds": seconds, "expires": expires, "most": self._timeout}
        prolonging = threading.Thread(
            target=held.prolong, args=(ask,), kwargs=bounds | {"ended": ended}, daemon=True
        )
        prolonging.start()
        try:
            yield held
        finally:
            ended.set()
            prolonging.join()
            self._give_back(held)

    def _give_back(self, held: HeldLease) -> None:
        request = calls.ReleaseLeaseRequest(name=held.name, holder=held.holder)
        try:
            self._call(self._stub.ReleaseLease, request)
        except MatchloopError as error:  # it expires by itself
            _log.warning("lease_not_given_back", lease=held.name, error=faults.said(error))

    def record_act(
        self,
        use_case: str,
        kind: ActKind,
        *,
        automatic: bool,
        release: str = "",
        reason: str = "",
        numbers: Iterable[ActNumber] = (),
        act_id: str | None = None,
        act_time: datetime | None = None,
    ) -> bool:
        """Record an act; returns False when one of this id was recorded before.

        Parameters
        ----------
        numbers
            At most 64, finite.
        act_id
            None: a random one. Give one to a step that may be done again.
        act_time
            None: the time of arrival.
        """
        act = act_pb2.Act(
            act_id=act_id or str(uuid.uuid4()),
            use_case=use_case,
            kind=ACT_KIND_NUMBERS[kind],
            automatic=automatic,
            release=release,
            reason=reason,
            numbers=[
                act_pb2.ActNumber(name=each.name, value=each.value, threshold=each.threshold)
                for each in numbers
            ],
            act_time=timestamp(act_time),
        )
        return bool(self._call(self._stub.RecordAct, calls.RecordActRequest(act=act)).stored)

    def acts(
        self, use_case: str = "", *, kinds: Collection[ActKind] = (), limit: int = 50
    ) -> tuple[Act, ...]:
        """Return the latest acts, the latest first; `use_case` and `kinds` empty: of all."""
        request = calls.ListActsRequest(
            use_case=use_case, kinds=[ACT_KIND_NUMBERS[kind] for kind in kinds], page_size=min(limit, PAGE)
        )
        found: list[Act] = []
        while len(found) < limit:
            page = self._call(self._stub.ListActs, request)
            found += map(read_act, page.acts)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        return tuple(found[:limit])

    def start_experiment(
        self,
        use_case: str,
        *,
        experiment_id: str,
        challenger_share: float,
        champion_release: str,
        challenger_release: str,
    ) -> Experiment:
        """Start an experiment; the same again is a replay.

        Raises
        ------
        Conflict
            While another one runs in the use case, and for an id that named another one.
        """
        experiment = experiment_pb2.Experiment(
            experiment_id=experiment_id,
            use_case=use_case,
            challenger_share=challenger_share,
            champion_release=champion_release,
            challenger_release=challenger_release,
        )
        request = calls.StartExperimentRequest(experiment=experiment)
        return read_experiment(self._call(self._stub.StartExperiment, request).experiment)

    def stop_experiment(self, experiment_id: str, *, reason: str) -> Experiment:
        """Stop an experiment; one stopped before keeps its time and reason; raises NotFound."""
        request = calls.StopExperimentRequest(experiment_id=experiment_id, reason=reason)
        return read_experiment(self._call(self._stub.StopExperiment, request).experiment)

    def experiments(self, use_case: str = "", *, limit: int = 50) -> tuple[Experiment, ...]:
        """Return the latest experiments: what runs first, then by falling start; empty: of all use cases."""
        request = calls.ListExperimentsRequest(use_case=use_case, page_size=min(limit, PAGE))
        found: list[Experiment] = []
        while len(found) < limit:
            page = self._call(self._stub.ListExperiments, request)
            found += map(read_experiment, page.experiments)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        return tuple(found[:limit])

    def running_experiment(self, use_case: str) -> Experiment | None:
        """Return the experiment that runs in a use case, if any."""
        return next((each for each in self.experiments(use_case, limit=1) if each.runs), None)

    def reactions(
        self,
        use_case: str,
        from_time: datetime,
        to_time: datetime | None = None,
        release: str = "",
        *,
        by_arm: bool = True,
        by_release: bool = True,
    ) -> tuple[Reactions, ...]:
        """Return what came of lists served from a time on, before another, by arm, then release.

        Parameters
        ----------
        by_arm, by_release
            Of one of these alone, if the other is false: a subject counts once, whatever else served it.
        """
        request = calls.GetReactionsRequest(
            use_case=use_case,
            from_time=timestamp(from_time),
            to_time=timestamp(to_time),
            release=release,
            grouping=reaction_grouping(by_arm=by_arm, by_release=by_release),
        )
        reply = self._call(self._stub.GetReactions, request, timeout=max(self._timeout, 60.0))
        return tuple(map(read_reactions, reply.reactions))

    def _call(self, method: Callable[..., Any], request: object, *, timeout: float | None = None) -> Any:
        seconds = self._timeout if timeout is None else timeout
        try:
            return method(request, timeout=seconds, wait_for_ready=True, metadata=request_metadata())
        except grpc.RpcError as error:
            told = from_rpc_error(error, upstream="feedback_svc")
            if isinstance(told, DeadlinePassed):
                message = f"feedback_svc at {self._address} did not answer in {seconds:g} s"
                raise Unavailable(message, reason=Reason.UPSTREAM_UNAVAILABLE) from error
            raise told from error


def _new_holder() -> str:
    return f"{socket.gethostname()[:64]}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
