"""Errors keep class, reason and violations over the wire and stay small enough for every client."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from matchloop.errors import (
    Conflict,
    DeadlinePassed,
    InvalidInput,
    MatchloopError,
    NotFound,
    NotImplementedYet,
    Overloaded,
    Reason,
    ReleaseRefused,
    SchemaMismatch,
    TooFewExamples,
    Unavailable,
    Violation,
)
from matchloop.rpc.status import WireStatus, from_rpc_error, internal_status, merge, to_status


class Failure(grpc.RpcError, grpc.Call):
    """What stubs raise, as far as it is read."""

    def __init__(self, status: WireStatus) -> None:
        self.status = status

    def code(self) -> grpc.StatusCode:
        return self.status.code

    def details(self) -> str:
        return self.status.details

    def trailing_metadata(self) -> Any:
        return self.status.trailing_metadata

    def initial_metadata(self) -> Any:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: object) -> bool:
        return False


def details(status: WireStatus) -> status_pb2.Status:
    return status_pb2.Status.FromString(dict(status.trailing_metadata)["grpc-status-details-bin"])


CASES = [
    (InvalidInput.of([Violation("a[0].b", "is required")]), grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound("no session s1", reason=Reason.SESSION_NOT_FOUND), grpc.StatusCode.NOT_FOUND),
    (Conflict("other content"), grpc.StatusCode.FAILED_PRECONDITION),
    (Overloaded("full"), grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Unavailable("no store", reason=Reason.STORE_UNAVAILABLE), grpc.StatusCode.UNAVAILABLE),
    (DeadlinePassed("too late"), grpc.StatusCode.DEADLINE_EXCEEDED),
    (NotImplementedYet("soon"), grpc.StatusCode.UNIMPLEMENTED),
    (ReleaseRefused("corrupt"), grpc.StatusCode.FAILED_PRECONDITION),
    (TooFewExamples("12 of 100"), grpc.StatusCode.FAILED_PRECONDITION),
    (MatchloopError("bug"), grpc.StatusCode.INTERNAL),
]


@pytest.mark.parametrize(("error", "code"), CASES, ids=lambda value: type(value).__name__)
def test_there_and_back(error: MatchloopError, code: grpc.StatusCode) -> None:
    status = to_status(error)
    assert status.code is code
    back = from_rpc_error(Failure(status), upstream="feedback_svc")
    assert type(back) is type(error)
    assert (back.message, back.reason, back.violations) == (error.message, error.reason, error.violations)


def test_a_schema_mismatch_keeps_its_reason() -> None:
    error = SchemaMismatch(what="release r1", expected="abc", found="def")
    back = from_rpc_error(Failure(to_status(error)), upstream="x")
    assert isinstance(back, ReleaseRefused)
    assert back.reason is Reason.SCHEMA_MISMATCH
    assert "abc" in back.message
    assert "def" in back.message


def test_details_name_domain_reason_and_wait() -> None:
    sent = details(to_status(Overloaded("full")))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert sent.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("matchloop", "OVERLOADED")
    assert sent.details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 500
    assert len(details(to_status(NotFound("x"))).details) == 1


def test_a_bug_tells_the_request_id_and_nothing_else() -> None:
    status = internal_status(request_id="r-1")
    assert status.code is grpc.StatusCode.INTERNAL
    assert status.details == "internal error, request r-1"
    assert ("x-request-id", "r-1") in status.trailing_metadata


@pytest.mark.parametrize("description", ["is required", "ist nötig 有 %", "x" * 5000])
def test_a_batch_of_mistakes_stays_under_what_clients_accept(description: str) -> None:
    violations = [Violation(f"interactions[{i}].event_type", description) for i in range(500)]
    status = to_status(InvalidInput.of(violations), request_id="r" * 128)
    encoded = sum(1 if 32 <= byte < 127 else 3 for byte in status.details.encode())
    size = encoded + sum(len(key) + len(value) + 32 for key, value in status.trailing_metadata)
    assert size < 8192
    back = from_rpc_error(Failure(status), upstream="x")
    assert [v.field for v in back.violations] == ["interactions[0-499].event_type"]


def test_what_does_not_fit_is_counted() -> None:
    violations = [Violation(f"f{i}", f"is number {i} of many mistakes") for i in range(500)]
    sent = details(to_status(InvalidInput.of(violations)))
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert sent.details[0].Unpack(info)
    assert sent.details[1].Unpack(bad)
    assert int(info.metadata["violations_left_out"]) + len(bad.field_violations) == 500
    assert len(bad.field_violations) > 80


def test_merge_keeps_apart_what_differs() -> None:
    violations = [
        Violation("a[0].b", "x"),
        Violation("a[1].b", "x"),
        Violation("a[4].b", "x"),
        Violation("a[2].b", "y"),
        Violation("c", "x"),
        Violation('a[3].features["n"]', "x"),
    ]
    assert [v.field for v in merge(violations)] == ["a[0-1,4].b", "a[2].b", "c", 'a[3].features["n"]']


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.CANCELLED, Unavailable),
        (grpc.StatusCode.UNKNOWN, MatchloopError),
    ],
)
def test_transport_errors_show_no_addresses(code: grpc.StatusCode, kind: type[MatchloopError]) -> None:
    failure = Failure(WireStatus(code, "connect to 10.0.0.7:443 failed", ()))
    back = from_rpc_error(failure, upstream="feedback_svc")
    assert type(back) is kind
    assert back.message == f"feedback_svc answered {code.name}"
    assert type(from_rpc_error(grpc.RpcError(), upstream="x")) is MatchloopError


def test_an_unknown_reason_of_a_newer_server_falls_back_to_the_class() -> None:
    status = to_status(NotFound("x"))
    sent = details(status)
    info = error_details_pb2.ErrorInfo(domain="matchloop", reason="FROM_THE_FUTURE")
    sent.details[0].Pack(info)
    newer = WireStatus(status.code, status.details, (("grpc-status-details-bin", sent.SerializeToString()),))
    back = from_rpc_error(Failure(newer), upstream="x")
    assert (type(back), back.reason, back.message) == (NotFound, NotFound.reason, "x")


def test_details_that_contradict_the_answer_are_not_believed() -> None:
    status = to_status(NotFound("x"))
    changed = WireStatus(grpc.StatusCode.UNAVAILABLE, "upstream reset", status.trailing_metadata)
    assert isinstance(from_rpc_error(Failure(changed), upstream="x"), Unavailable)
