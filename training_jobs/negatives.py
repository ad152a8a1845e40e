"""What feedback_svc and a training run tell each other: whether one is due, and which negatives it used."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from matchloop.errors import Unavailable
from matchloop.feedback.v1 import feedback_service_pb2, feedback_service_pb2_grpc, insight_pb2
from matchloop.rpc.channel import open_channel, request_metadata


@dataclass(frozen=True, slots=True)
class DueStatus:
    """Whether a retraining is due, and why.

    Parameters
    ----------
    causes
        Lower case, e.g. ``negatives``; empty when it is not due.
    patterns
        Names of the persistent patterns.
    """

    causes: tuple[str, ...]
    unused: int
    unused_bound: int
    mean_error: float
    mean_error_bound: float
    patterns: tuple[str, ...]

    def __str__(self) -> str:
        """Return a line for people."""
        verdict = f"yes ({', '.join(self.causes)})" if self.causes else "no"
        line = (
            f"{verdict}; {self.unused} unused negatives of {self.unused_bound}, "
            f"mean error {self.mean_error:.3f} of {self.mean_error_bound:.3f}"
        )
        return line + (f"; persistent: {', '.join(self.patterns)}" if self.patterns else "")


def retraining_status(address: str, use_case: str, *, timeout: float = 10.0) -> DueStatus:
    """Ask whether a retraining is due.

    Raises
    ------
    Unavailable
        When feedback_svc cannot be reached.
    """
    request = feedback_service_pb2.GetRetrainingStatusRequest(use_case=use_case)
    with open_channel(address) as channel:
        try:
            stub = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
            status = stub.GetRetrainingStatus(
                request, timeout=timeout, wait_for_ready=True, metadata=request_metadata()
            ).status
        except grpc.RpcError as error:
            raise Unavailable(f"feedback_svc at {address}: {error}") from error
    prefix = "RETRAINING_CAUSE_"
    return DueStatus(
        causes=tuple(
            insight_pb2.RetrainingCause.Name(cause).removeprefix(prefix).lower() for cause in status.causes
        ),
        unused=status.unused_negatives,
        unused_bound=status.unused_negatives_bound,
        mean_error=status.mean_prediction_error,
        mean_error_bound=status.mean_prediction_error_bound,
        patterns=tuple(pattern.name for pattern in status.persistent_patterns),
    )


def mark_negatives_used(
    address: str, use_case: str, release: str, to_sequence: int, *, timeout: float = 10.0
) -> int:
    """Mark the dislikes up to `to_sequence` as used by `release`; returns how many were new, 0 on a replay.

    Raises
    ------
    Unavailable
        When feedback_svc cannot be reached; calling again later is safe.
    """
    request = feedback_service_pb2.MarkNegativesUsedRequest(
        use_case=use_case, release=release, to_sequence=to_sequence
    )
    with open_channel(address) as channel:
        try:
            stub = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
            reply = stub.MarkNegativesUsed(
                request, timeout=timeout, wait_for_ready=True, metadata=request_metadata()
            )
        except grpc.RpcError as error:
            raise Unavailable(f"feedback_svc at {address}: {error}") from error
    return int(reply.marked)
