"""Tell feedback_svc which negatives a release was trained with."""

from __future__ import annotations

import grpc

from matchloop.errors import Unavailable
from matchloop.feedback.v1 import feedback_service_pb2, feedback_service_pb2_grpc


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
    with grpc.insecure_channel(address) as channel:
        try:
            stub = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
            reply = stub.MarkNegativesUsed(request, timeout=timeout, wait_for_ready=True)
        except grpc.RpcError as error:
            raise Unavailable(f"feedback_svc at {address}: {error}") from error
    return int(reply.marked)
