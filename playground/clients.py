"""Stubs of every service of a running stack, for scripts and tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from matchloop.candidate.v1.candidate_service_pb2_grpc import CandidateServiceStub
from matchloop.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from matchloop.errors import Unavailable
from matchloop.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from matchloop.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub
from matchloop.rpc.channel import open_channel

if TYPE_CHECKING:
    from matchloop.rpc.credentials import ClientCredentials


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services of a stack listen, each as ``host:port``."""

    feedback: str
    candidate: str
    ranking: str


class Clients:
    """One channel and stub a service; close it, or use it as a context manager.

    Parameters
    ----------
    credentials
        As for `open_channel`.
    """

    def __init__(self, addresses: Addresses, *, credentials: ClientCredentials | None = None) -> None:
        # Own connections: clients in one process do not share (and throttle) one.
        self._channels = {
            name: open_channel(address, own_connection=True, credentials=credentials)
            for name, address in (
                ("feedback", addresses.feedback),
                ("candidate", addresses.candidate),
                ("ranking", addresses.ranking),
            )
        }
        self._feedback_address = addresses.feedback
        self.catalog = CatalogServiceStub(self._channels["feedback"])
        self.feedback = FeedbackServiceStub(self._channels["feedback"])
        self.candidate = CandidateServiceStub(self._channels["candidate"])
        self.ranking = RankingServiceStub(self._channels["ranking"])

    def wait_for_feedback(self, *, seconds: float) -> None:
        """Wait until feedback_svc accepts calls.

        Raises
        ------
        Unavailable
            After `seconds`; names the address.
        """
        try:
            grpc.channel_ready_future(self._channels["feedback"]).result(timeout=seconds)
        except grpc.FutureTimeoutError:
            raise Unavailable(
                f"no feedback_svc answers at {self._feedback_address}; is `up` running?"
            ) from None

    def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            channel.close()

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
