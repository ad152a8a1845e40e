"""Clients of candidate_svc and feedback_svc: one call each, within the time that is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matchloop.candidate.v1 import candidate_pb2, candidate_service_pb2, candidate_service_pb2_grpc
from matchloop.catalog.v1 import catalog_service_pb2, catalog_service_pb2_grpc
from matchloop.errors import Unavailable
from matchloop.feedback.v1 import (
    feedback_service_pb2,
    feedback_service_pb2_grpc,
    session_pb2,
)
from matchloop.operations.v1 import operations_service_pb2, operations_service_pb2_grpc
from matchloop.release import CHALLENGER
from matchloop.rpc import deadline
from matchloop.rpc.breaker import CircuitBreaker
from matchloop.rpc.channel import call
from matchloop.rpc.convert import read_time, read_tombstone, timestamp, value_to_proto
from matchloop.rpc.operations import reaction_grouping, read_experiment, read_reactions
from ranking_svc.domain import Candidate, Candidates, Contribution, Skipped, SubjectGlimpse, ValueFactor
from ranking_svc.wire import METHODS, METHODS_TO_PROTO, TIERS, filter_to_proto, read_session, session_to_proto

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import grpc

    from matchloop.entities import Tombstone
    from matchloop.experiments.experiment import Experiment
    from matchloop.experiments.reactions import Reactions
    from matchloop.observe.metrics import Metrics
    from matchloop.usecase import UseCase
    from ranking_svc.domain import Rank, Recommend, Session

CANDIDATE_SVC = "candidate_svc"
FEEDBACK_SVC = "feedback_svc"
CANDIDATE_CALLS = ("matchloop.candidate.v1.CandidateService",)
FEEDBACK_CALLS = (
    "matchloop.feedback.v1.FeedbackService/RecordSessions",
    "matchloop.feedback.v1.FeedbackService/GetSession",
    "matchloop.feedback.v1.FeedbackService/LookupSubjectState",
    "matchloop.catalog.v1.CatalogService/ListEntities",
    "matchloop.operations.v1.OperationsService/ListExperiments",
    "matchloop.operations.v1.OperationsService/GetReactions",
)
"""Methods whose contract allows a retry; for `open_channel`."""

RESERVED_SHARE = 0.3
"""Of the time that is left, kept back from every call for what comes after it."""
GLIMPSE_SECONDS = 0.2
GLIMPSE_RESERVED = 0.5
EXPERIMENTS_SECONDS = 1.0
LARGEST_SCORE = 1e30
"""Scores and features beyond are no numbers that a float32 could be computed with."""


class CandidateClient:
    """`CandidateSource` and `TrendingSource` over gRPC.

    Parameters
    ----------
    channel
        To candidate_svc.
    metrics
        `upstream_failures`.
    timeout_seconds
        Longest wait for candidates.
    reserve_seconds
        Kept back from the caller's time for ordering the list and storing the session; never more than 30 %
        of what is left.
    """

    def __init__(
        self, channel: grpc.Channel, metrics: Metrics, *, timeout_seconds: float, reserve_seconds: float
    ) -> None:
        self._stub = candidate_service_pb2_grpc.CandidateServiceStub(channel)
        self._metrics = metrics
        self._breaker = CircuitBreaker(CANDIDATE_SVC, metrics)
        self._timeout = timeout_seconds
        self._reserve = reserve_seconds

    def find(self, ask: Recommend, count: int, *, challenger: bool = False) -> Candidates:
        """See `CandidateSource`."""
        request = candidate_service_pb2.GetCandidatesRequest(
            use_case=ask.use_case.id,
            subject_id=ask.subject_id,
            count=count,
            exclude_item_ids=ask.exclude,
            filters=[filter_to_proto(each) for each in ask.filters],
            subject_features={name: value_to_proto(value) for name, value in ask.subject_features.items()},
            methods=[METHODS_TO_PROTO[method] for method in ask.methods],
            explain=ask.explain,
            release_alias=CHALLENGER if challenger else "",
        )
        return self._get(request)

    def describe(self, ask: Rank, *, challenger: bool = False) -> Candidates:
        """See `CandidateSource`."""
        request = candidate_service_pb2.GetCandidatesRequest(
            use_case=ask.use_case.id,
            subject_id=ask.subject_id,
            count=len(ask.items),
            only_item_ids=ask.items,
            explain=ask.explain,
            release_alias=CHALLENGER if challenger else "",
        )
        return self._get(request)

    def trending(self, use_case: UseCase, count: int) -> tuple[Candidate, ...]:
        """See `TrendingSource`; at most 500."""
        request = candidate_service_pb2.ListTrendingRequest(use_case=use_case.id, page_size=count)
        reply = call(
            self._stub.ListTrending,
            request,
            upstream=CANDIDATE_SVC,
            most=self._timeout,
            metrics=self._metrics,
        )
        return _candidates(reply.candidates, width=None)

    def _get(self, request: candidate_service_pb2.GetCandidatesRequest) -> Candidates:
        reply = self._breaker.call(
            lambda: call(
                self._stub.GetCandidates,
                request,
                upstream=CANDIDATE_SVC,
                most=self._timeout,
                reserve=deadline.share(RESERVED_SHARE, most=self._reserve),
                metrics=self._metrics,
            )
        )
        return Candidates(
            items=_candidates(reply.candidates, width=len(reply.feature_names)),
            tier=TIERS.get(reply.tier),
            release=reply.release,
            feature_names=tuple(reply.feature_names),
            skipped=tuple(
                Skipped(METHODS[each.method], each.reason) for each in reply.skipped if each.method in METHODS
            ),
            degraded=tuple(reply.degraded),
        )


class FeedbackClient:
    """`SessionStore`, `SubjectSource` and `ErasedSource` over gRPC.

    Parameters
    ----------
    channel
        To feedback_svc.
    metrics
        `upstream_failures`.
    session_seconds
        Longest wait for a session to be stored while a reply waits for it; deliveries in the background,
        which no reply waits for, may take the default deadline.
    """

    def __init__(self, channel: grpc.Channel, metrics: Metrics, *, session_seconds: float) -> None:
        self._stub = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
        self._catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        self._metrics = metrics
        self._breaker = CircuitBreaker(FEEDBACK_SVC, metrics)
        self._session_seconds = session_seconds

    def encode(self, session: Session) -> bytes:
        """See `SessionStore`: a serialized ``matchloop.feedback.v1.Session``."""
        return session_to_proto(session).SerializeToString()

    def patience(self) -> float:
        """See `SessionStore`."""
        waited_for = deadline.remaining() is not None
        return deadline.upstream_timeout(
            most=self._session_seconds if waited_for else deadline.DEFAULT_DEADLINE,
            reserve=deadline.share(RESERVED_SHARE),
        )

    def record(self, encoded: Sequence[bytes], *, seconds: float) -> None:
        """See `SessionStore`."""
        request = feedback_service_pb2.RecordSessionsRequest()
        for each in encoded:
            request.sessions.add().ParseFromString(each)
        call(
            self._stub.RecordSessions,
            request,
            upstream=FEEDBACK_SVC,
            most=seconds,
            reserve=0.0,
            metrics=self._metrics,
        )

    def session(self, session_id: str) -> tuple[Session, bool]:
        """Return a stored session, and whether it was a list of the client's own.

        Raises
        ------
        NotFound
            If it has not arrived.
        """
        request = feedback_service_pb2.GetSessionRequest(session_id=session_id)
        reply = call(self._stub.GetSession, request, upstream=FEEDBACK_SVC, metrics=self._metrics)
        return read_session(reply.session), reply.session.source == session_pb2.SESSION_SOURCE_CLIENT

    def erased(self, kinds: Sequence[str], from_sequence: int) -> tuple[tuple[Tombstone, ...], int]:
        """See `ErasedSource`."""
        request = catalog_service_pb2.ListEntitiesRequest(
            kinds=kinds, from_change_sequence=from_sequence, erased_only=True
        )
        found: list[Tombstone] = []
        while True:
            reply = call(self._catalog.ListEntities, request, upstream=FEEDBACK_SVC, metrics=self._metrics)
            found += [read_tombstone(tombstone) for tombstone in reply.erased]
            request.page_token = reply.next_page_token
            if not request.page_token:
                return tuple(found), reply.next_change_sequence

    def glimpse(self, use_case: str, subject_id: str) -> SubjectGlimpse:
        """See `SubjectSource`."""
        request = feedback_service_pb2.LookupSubjectStateRequest(use_case=use_case, subject_id=subject_id)
        reply = self._breaker.call(
            lambda: call(
                self._stub.LookupSubjectState,
                request,
                upstream=FEEDBACK_SVC,
                most=GLIMPSE_SECONDS,
                reserve=deadline.share(GLIMPSE_RESERVED),
                metrics=self._metrics,
            )
        )
        return SubjectGlimpse(reply.state.interaction_count, frozenset(reply.state.hidden_item_ids))


class OperationsClient:
    """`ExperimentSource` and `ReactionSource` over gRPC.

    Parameters
    ----------
    channel
        To feedback_svc.
    metrics
        `upstream_failures`.
    """

    def __init__(self, channel: grpc.Channel, metrics: Metrics) -> None:
        self._stub = operations_service_pb2_grpc.OperationsServiceStub(channel)
        self._metrics = metrics

    def latest(self, use_case: str) -> Experiment | None:
        """See `ExperimentSource`."""
        reply = call(
            self._stub.ListExperiments,
            operations_service_pb2.ListExperimentsRequest(use_case=use_case, page_size=1),
            upstream=FEEDBACK_SVC,
            most=EXPERIMENTS_SECONDS,
            metrics=self._metrics,
        )
        return next(map(read_experiment, reply.experiments), None)

    def reactions(
        self, use_case: str, from_time: datetime, to_time: datetime | None
    ) -> tuple[Reactions, ...]:
        """See `ReactionSource`."""
        request = operations_service_pb2.GetReactionsRequest(
            use_case=use_case,
            from_time=timestamp(from_time),
            to_time=timestamp(to_time),
            grouping=reaction_grouping(by_arm=True, by_release=False),
        )
        reply = call(self._stub.GetReactions, request, upstream=FEEDBACK_SVC, metrics=self._metrics)
        return tuple(map(read_reactions, reply.reactions))


def _candidates(messages: Sequence[candidate_pb2.Candidate], *, width: int | None) -> tuple[Candidate, ...]:
    """Read candidates with `width` features each (None: features are not read).

    Raises
    ------
    Unavailable
        If the reply breaks its contract: no method, a number that is not finite, an item twice.
    """
    found = tuple([_candidate(message, width) for message in messages])
    if len({candidate.item_id for candidate in found}) != len(found):
        raise Unavailable(f"{CANDIDATE_SVC} answered with an item twice")
    for candidate in found:
        for number in (candidate.score, *candidate.features):
            if not -LARGEST_SCORE < number < LARGEST_SCORE:  # not true of NaN either
                raise Unavailable(f"{CANDIDATE_SVC} answered with a number that is not finite")
    return found


def _create_time(message: candidate_pb2.Candidate) -> datetime | None:
    try:
        return read_time(message.create_time) if message.HasField("create_time") else None
    except (ValueError, OverflowError) as error:
        raise Unavailable(f"{CANDIDATE_SVC} answered with a time that is none") from error


def _candidate(message: candidate_pb2.Candidate, width: int | None) -> Candidate:
    method = METHODS.get(message.method)
    # A slice of a repeated field is a list, made in C: half of what walking through the field takes.
    features = tuple(message.features[:]) if width is not None else ()
    if method is None or (width is not None and len(features) != width):
        raise Unavailable(f"{CANDIDATE_SVC} answered with a candidate without method or features")
    return Candidate(
        message.item_id,
        method,
        message.score,
        _create_time(message),
        features,
        tuple([tuple(field.values[:]) for field in message.diversity_values[:]]),
        tuple([_contribution(each) for each in message.contributions[:]]),
    )


def _contribution(message: candidate_pb2.Contribution) -> Contribution:
    factors = tuple([ValueFactor(cut.value, cut.factor) for cut in message.factors])
    return Contribution(message.field, tuple(message.values), message.amount, factors)
