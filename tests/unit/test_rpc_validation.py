"""Every violation is found, with its path; values in bounds pass."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from matchloop.catalog.v1 import catalog_service_pb2 as pb
from matchloop.catalog.v1.error_reason_pb2 import ErrorReason
from matchloop.errors import InvalidInput, Reason
from matchloop.rpc.paging import BadPageToken, read_page_token, write_page_token
from matchloop.rpc.validation import Violations

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def violations() -> Violations:
    return Violations(now=NOW)


def stamp(moment: datetime) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(moment)
    return result


def test_all_violations_arrive_in_order_with_their_paths(violations: Violations) -> None:
    violations.identifier("subject_id", "")
    for index, event in enumerate(["like", "Like!", ""]):
        violations.within(f"interactions[{index}]").name("event_type", event)
    deep = violations.within("a[1]").within("b")
    deep.number("c", math.nan)
    with pytest.raises(InvalidInput) as raised:
        violations.raise_if_any()
    assert [v.field for v in raised.value.violations] == [
        "subject_id",
        "interactions[1].event_type",
        "interactions[2].event_type",
        "a[1].b.c",
    ]
    assert raised.value.reason is Reason.INVALID_INPUT


def test_nothing_found_raises_nothing(violations: Violations) -> None:
    violations.identifier("id", "x" * 128)
    violations.identifier("session_id", "", required=False)
    violations.name("kind", "investor")
    violations.text("comment", "line\nline", most=9)
    violations.number("score", 1.0, least=0.0, most=1.0)
    violations.numbers("vector", [0.0, -1.0])
    violations.distinct("items", ["a", "b"])
    violations.enum("value", 1, {1: "ONE"}.__getitem__)
    assert violations.count("items", ["a", "b"], least=1, most=2)
    violations.raise_if_any()


@pytest.mark.parametrize("bad", ["", "x" * 129, "a\x00b", "a\nb", "a\u2028b"])
def test_bad_identifiers(violations: Violations, bad: str) -> None:
    violations.identifier("id", bad)
    assert len(violations.found) == 1


def test_no_control_character_is_let_through(violations: Violations) -> None:
    every = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)]
    for character in every:
        violations.identifier("id", f"a{character}")
    assert len(violations.found) == len(every)
    for kept in ("a b", "a\u00a0b", "\u00fc\u4e2d", "a\u200bb"):
        violations.identifier("id", kept)
    assert len(violations.found) == len(every)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.1, 1.1])
def test_bad_numbers(violations: Violations, bad: float) -> None:
    violations.number("score", bad, least=0.0, most=1.0)
    assert len(violations.found) == 1


def test_other_checks_name_the_fault(violations: Violations) -> None:
    violations.numbers("vector", [0.0, math.nan, math.inf])
    violations.distinct("entities", ["a", "b", "a"], part="key")
    violations.one_of("reason", "bad", {"other", "known"})
    violations.text("comment", "x\x00")
    violations.text("title", "", required=True)
    assert not violations.count("items", [1, 2, 3], most=2)
    assert not violations.count("items", [], least=1, most=2)
    assert [(v.field, v.description) for v in violations.found] == [
        ("vector[1]", "is nan, not a finite number"),
        ("entities[2].key", "repeats entities[0]"),
        ("reason", "'bad' is not one of known, other"),
        ("comment", "contains a NUL character"),
        ("title", "is required"),
        ("items", "has 3 entries, at most 2 are allowed"),
        ("items", "is required"),
    ]


def test_enums_have_to_be_known_and_given(violations: Violations) -> None:
    violations.enum("reason", 0, ErrorReason.Name)
    violations.enum("reason", 9999, ErrorReason.Name)
    violations.enum("reason", 1, ErrorReason.Name)
    assert [v.description for v in violations.found] == ["is required", "has no value 9999"]


@pytest.mark.parametrize(
    "moment", [datetime(1900, 1, 1, tzinfo=UTC), NOW, NOW + timedelta(days=1), NOW.replace(microsecond=1)]
)
def test_times_in_bounds(violations: Violations, moment: datetime) -> None:
    assert violations.time("time", stamp(moment)) == moment
    violations.raise_if_any()


@pytest.mark.parametrize(
    "message",
    [
        stamp(datetime(1899, 12, 31, tzinfo=UTC)),
        stamp(NOW + timedelta(days=1, microseconds=1)),
        Timestamp(seconds=10**15),
        Timestamp(seconds=-(10**12)),
        Timestamp(seconds=0, nanos=-1),
        Timestamp(seconds=0, nanos=1_000_000_000),
    ],
)
def test_times_out_of_bounds(violations: Violations, message: Timestamp) -> None:
    assert violations.time("time", message) is None
    assert [v.field for v in violations.found] == ["time"]


def test_a_time_not_given(violations: Violations) -> None:
    assert violations.time("time", Timestamp(), given=False) is None
    violations.raise_if_any()
    assert violations.required_time("time", Timestamp(), given=False) == NOW
    assert [v.description for v in violations.found] == ["is required"]


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (100, 100), (101, 100), (2**31 - 1, 100)])
def test_page_size(violations: Violations, asked: int, given: int) -> None:
    assert violations.page_size(asked, default=50, most=100) == given
    violations.raise_if_any()


def test_negative_page_size_is_refused(violations: Violations) -> None:
    violations.page_size(-1, default=50, most=100)
    assert [v.field for v in violations.found] == ["page_size"]


def test_a_page_token_continues_its_own_request_alone() -> None:
    request = pb.ListEntitiesRequest(kinds=["movie"], page_size=10)
    token = write_page_token(request, "17", "movie", "ø")
    assert read_page_token(request, token, parts=3) == ("17", "movie", "ø")
    request.page_size, request.page_token = 20, token
    assert read_page_token(request, token, parts=3) == ("17", "movie", "ø")
    assert read_page_token(request, "", parts=3) is None
    request.kinds.append("startup")
    with pytest.raises(BadPageToken):
        read_page_token(request, token, parts=3)


@pytest.mark.parametrize("token", ["x", "not base64!", "é", "A" * 4096, "AAAA", "-_-_-_-_-_-_-_-_"])
def test_foreign_page_tokens_are_violations(violations: Violations, token: str) -> None:
    assert violations.page_token(pb.ListEntitiesRequest(), token, parts=1) is None
    assert [v.field for v in violations.found] == ["page_token"]


def test_a_token_with_other_parts_or_of_another_list_is_refused() -> None:
    token = write_page_token(pb.ListEntitiesRequest(), "1")
    with pytest.raises(BadPageToken):
        read_page_token(pb.ListEntitiesRequest(), token, parts=2)
    with pytest.raises(BadPageToken):
        read_page_token(pb.ListItemStatsRequest(), token, parts=1)
    damaged = ("B" if token[0] != "B" else "C") + token[1:]
    with pytest.raises(BadPageToken):
        read_page_token(pb.ListEntitiesRequest(), damaged, parts=1)
