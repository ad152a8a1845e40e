"""What several requests have in common: use cases, filters, positions of pages, enums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from feedback_svc.interactions import EventFacts, facts_of
from feedback_svc.sessions import RecordFilter
from matchloop.feedback.v1 import session_pb2
from matchloop.rpc.validation import Violations
from matchloop.usecase import Method, Tier, UseCase, UseCases

if TYPE_CHECKING:
    from matchloop.feedback.v1 import feedback_service_pb2 as calls

N = TypeVar("N")
V = TypeVar("V")

METHODS: Mapping[session_pb2.Method.ValueType, Method | None] = {session_pb2.METHOD_UNSPECIFIED: None} | {
    session_pb2.Method.Value(f"METHOD_{method.name}"): method for method in Method
}
METHOD_NUMBERS: Mapping[Method | None, session_pb2.Method.ValueType] = {
    method: number for number, method in METHODS.items()
}
TIERS: Mapping[session_pb2.Tier.ValueType, Tier | None] = {session_pb2.TIER_UNSPECIFIED: None} | {
    session_pb2.Tier.Value(f"TIER_{tier.name}"): tier for tier in Tier
}
TIER_NUMBERS: Mapping[Tier | None, session_pb2.Tier.ValueType] = {
    tier: number for number, tier in TIERS.items()
}


@dataclass(frozen=True, slots=True)
class Schema:
    """What requests are checked against, prepared once.

    Parameters
    ----------
    use_cases
        Those loaded.
    facts
        What an event does, by use case and event type.
    widths
        The embedding's width by kind.
    """

    use_cases: UseCases
    facts: Mapping[str, Mapping[str, EventFacts]]
    widths: Mapping[str, int]

    @classmethod
    def of(cls, use_cases: UseCases) -> Schema:
        """Prepare the use cases."""
        return cls(
            use_cases,
            {name: facts_of(use_case, use_cases.reverse_of(name)) for name, use_case in use_cases.items()},
            {
                kind: use_case.embedding_width
                for use_case in use_cases.values()
                for kind in (use_case.subject, use_case.item)
            },
        )

    def use_case(self, name: str, now: datetime) -> UseCase:
        """Return the use case that a request is about.

        Raises
        ------
        InvalidInput
            When none is named, or what is named could be no use case.
        NotFound
            When it is not loaded (USE_CASE_NOT_FOUND).
        """
        violations = Violations(now=now)
        violations.name("use_case", name)
        violations.raise_if_any()
        return self.use_cases[name]


def filter_from(
    request: calls.ListSessionsRequest | calls.ListInteractionsRequest, violations: Violations
) -> RecordFilter:
    """Check and convert what a listing asks for."""
    from_time = violations.time("from_time", request.from_time, given=request.HasField("from_time"))
    to_time = violations.time("to_time", request.to_time, given=request.HasField("to_time"))
    if from_time and to_time and to_time < from_time:
        violations.add("to_time", "lies before from_time")
    return RecordFilter(
        use_case=request.use_case,
        subject_id=violations.identifier("subject_id", request.subject_id, required=False),
        item_id=violations.identifier("item_id", request.item_id, required=False),
        release=violations.identifier("release", request.release, required=False),
        from_time=from_time,
        to_time=to_time,
    )


def sequence_before(request: Any, violations: Violations) -> int | None:
    """Return the sequence that a page of a listing by sequence starts below."""
    position = violations.page_token(request, request.page_token, parts=1)
    return int(position[0]) if position else None


def known(violations: Violations, field: str, number: N, names: Mapping[N, V]) -> V | None:
    """Return the value of a closed enum, UNSPECIFIED included; a number unknown to us is a violation."""
    if number not in names:
        violations.add(field, f"has no value {number}")
        return None
    return names[number]
