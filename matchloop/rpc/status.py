"""Domain errors to gRPC statuses, and back again on the client's side.

On the wire an error is a `google.rpc.Status` in the trailing metadata: ErrorInfo (reason, domain
``matchloop``), BadRequest with the violated fields, RetryInfo where a retry is worth something.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from matchloop.errors import (
    Conflict,
    DeadlinePassed,
    InvalidInput,
    MatchloopError,
    NotFound,
    NotImplementedYet,
    Overloaded,
    RateExceeded,
    Reason,
    ReleaseRefused,
    ScopeMissing,
    TooFewExamples,
    Unauthenticated,
    Unavailable,
    Violation,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Metadata = tuple[tuple[str, str | bytes], ...]

DOMAIN = "matchloop"
DETAILS_KEY = "grpc-status-details-bin"
REQUEST_ID_KEY = "x-request-id"

MAX_MESSAGE_BYTES = 1024
MAX_VIOLATION_BYTES = 5 * 1024
"""Bounds that keep a status under the 8 KiB of metadata that every gRPC client accepts by default."""

_FIRST_INDEX = re.compile(r"([^\[]*)\[([0-9]{1,9})\](.*)")

LEFT_OUT_KEY = "violations_left_out"

CODES: tuple[tuple[type[MatchloopError], grpc.StatusCode], ...] = (
    (InvalidInput, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (ScopeMissing, grpc.StatusCode.PERMISSION_DENIED),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (DeadlinePassed, grpc.StatusCode.DEADLINE_EXCEEDED),
    (NotImplementedYet, grpc.StatusCode.UNIMPLEMENTED),
    (ReleaseRefused, grpc.StatusCode.FAILED_PRECONDITION),
    (TooFewExamples, grpc.StatusCode.FAILED_PRECONDITION),
    (MatchloopError, grpc.StatusCode.INTERNAL),
)
"""The tree of `matchloop.errors`, nearest class first."""

RETRY_AFTER_SECONDS: tuple[tuple[type[MatchloopError], float], ...] = ((Overloaded, 0.5), (Unavailable, 0.2))


@dataclass(frozen=True, slots=True)
class WireStatus(grpc.Status):
    """What `ServicerContext.abort_with_status` takes."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: Metadata


def code_of(error: MatchloopError) -> grpc.StatusCode:
    """Return the gRPC code of an error, by its class."""
    return next(code for kind, code in CODES if isinstance(error, kind))


def to_status(error: MatchloopError, *, request_id: str | None = None) -> WireStatus:
    """Turn a domain error into what goes over the wire.

    Parameters
    ----------
    error
        Its message is for the client, cut at `MAX_MESSAGE_BYTES`.
    request_id
        Echoed in the trailing metadata beside the details.

    Returns
    -------
    WireStatus
        Violations in request order, one by one if they fit in `MAX_VIOLATION_BYTES`, else merged (`merge`).
        What does not fit even so is counted in the ErrorInfo's metadata under ``violations_left_out``.
    """
    code = code_of(error)
    bad_request, left_out = _bad_request(error.violations)
    if left_out:
        bad_request, left_out = _bad_request(merge(error.violations))
    info = error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN)
    if left_out:
        info.metadata[LEFT_OUT_KEY] = str(left_out)
    status = status_pb2.Status(code=_number(code), message=_cut(error.message))
    status.details.add().Pack(info)
    if error.violations:
        status.details.add().Pack(bad_request)
    delay = _delay(error)
    if delay is not None:
        wait = Duration()
        wait.FromTimedelta(timedelta(seconds=delay))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=wait))
    metadata: Metadata = ((DETAILS_KEY, status.SerializeToString()),)
    if request_id is not None:
        metadata = (*metadata, (REQUEST_ID_KEY, request_id))
    return WireStatus(code, status.message, metadata)


def internal_status(*, request_id: str) -> WireStatus:
    """Return the status of a bug: nothing of what happened, only where to look it up."""
    return to_status(MatchloopError(f"internal error, request {request_id}"), request_id=request_id)


def _delay(error: MatchloopError) -> float | None:
    if isinstance(error, RateExceeded):
        return error.wait
    return next((seconds for kind, seconds in RETRY_AFTER_SECONDS if isinstance(error, kind)), None)


def _bad_request(violations: Sequence[Violation]) -> tuple[error_details_pb2.BadRequest, int]:
    bad_request = error_details_pb2.BadRequest()
    used = 0
    for index, violation in enumerate(violations):
        entry = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(violation.field), description=_cut(violation.description)
        )
        used += entry.ByteSize() + 4
        if used > MAX_VIOLATION_BYTES:
            return bad_request, len(violations) - index
        bad_request.field_violations.append(entry)
    return bad_request, 0


def merge(violations: Sequence[Violation]) -> list[Violation]:
    """Merge violations that differ in the first index of their path alone.

    ``interactions[0].item_id``, ``interactions[1].item_id`` and ``interactions[4].item_id``, with one
    description, become ``interactions[0-1,4].item_id``: a batch of 500 with one mistake is told in one line.
    """
    groups: dict[tuple[str, str, str], list[int]] = {}
    for violation in violations:
        before, index, after = _split_index(violation.field)
        groups.setdefault((before, after, violation.description), []).extend(index)
    return [
        Violation(f"{before}[{_ranges(indices)}]{after}" if indices else before, description)
        for (before, after, description), indices in groups.items()
    ]


def _split_index(field: str) -> tuple[str, list[int], str]:
    found = _FIRST_INDEX.fullmatch(field)
    return (found[1], [int(found[2])], found[3]) if found else (field, [], "")


def _ranges(indices: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for index in sorted(set(indices)):
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def _cut(message: str) -> str:
    """Return `message`, cut so that it travels in at most `MAX_MESSAGE_BYTES` (percent-encoded)."""
    if len(message) * 3 <= MAX_MESSAGE_BYTES and message.isascii():
        return message
    room = MAX_MESSAGE_BYTES
    for index, character in enumerate(message):
        room -= (
            1
            if " " <= character <= "~" and character != "%"
            else 3 * len(character.encode("utf-8", "replace"))
        )
        if room < 0:
            return message[:index] + "..."
    return message


def _number(code: grpc.StatusCode) -> int:
    return int(code_pb2.Code.Value(code.name))


_BY_CODE: dict[grpc.StatusCode, type[MatchloopError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInput,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: ScopeMissing,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlinePassed,
    grpc.StatusCode.CANCELLED: Unavailable,  # nobody here cancels: the other side went away
    grpc.StatusCode.UNIMPLEMENTED: NotImplementedYet,
}
_BY_REASON: dict[Reason, type[MatchloopError]] = {
    Reason.RELEASE_REFUSED: ReleaseRefused,
    Reason.SCHEMA_MISMATCH: ReleaseRefused,
    Reason.TOO_FEW_EXAMPLES: TooFewExamples,
}


def from_rpc_error(error: grpc.RpcError, *, upstream: str) -> MatchloopError:
    """Turn a failed call into the error the other side raised.

    Parameters
    ----------
    error
        What a stub raised.
    upstream
        Name of the service called; it stands in the message when the other side sent no reason.

    Returns
    -------
    MatchloopError
        The class that fits reason and code, with message, reason and violations as sent. What carries no
        `matchloop` reason (a refused connection, a proxy) never shows the transport's own words: they hold
        addresses. A schema mismatch comes back as ReleaseRefused with reason SCHEMA_MISMATCH.
    """
    answer: object = error  # what stubs raise is an RpcError and a Call; the type stubs know no such class
    call = answer if isinstance(answer, grpc.Call) else None
    code = call.code() if call is not None else grpc.StatusCode.UNKNOWN
    status = _status_of(call) if call is not None else None
    info, violations = _details_of(status.details if status is not None else ())
    reason = Reason.__members__.get(info.reason) if info is not None else None
    kind = _BY_CODE.get(code, MatchloopError)
    if reason is not None:
        kind = _BY_REASON.get(reason, kind)
    if status is None or info is None:
        return kind(f"{upstream} answered {code.name}")
    return kind(status.message, reason=reason, violations=violations)


def _status_of(call: grpc.Call) -> status_pb2.Status | None:
    try:
        return cast("status_pb2.Status | None", rpc_status.from_call(call))
    except ValueError:  # a proxy changed code or message: the details are no longer about this answer
        return None


def _details_of(
    details: Iterable[Any],
) -> tuple[error_details_pb2.ErrorInfo | None, tuple[Violation, ...]]:
    found: error_details_pb2.ErrorInfo | None = None
    violations: tuple[Violation, ...] = ()
    for detail in details:
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info) and info.domain == DOMAIN:
            found = info
        elif detail.Unpack(bad_request):
            violations = tuple(Violation(v.field, v.description) for v in bad_request.field_violations)
    return found, violations
