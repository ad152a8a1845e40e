"""Messages about matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from feedback_svc.convert.shared import Schema, known, sequence_before
from feedback_svc.matches.ledger import MatchFilter, MatchState, StoredMatch
from matchloop.feedback.v1 import feedback_service_pb2 as calls
from matchloop.feedback.v1 import match_pb2
from matchloop.rpc.convert import timestamp
from matchloop.rpc.paging import write_page_token
from matchloop.rpc.validation import Violations
from matchloop.usecase import UseCase, UseCases

STATES: Mapping[match_pb2.MatchState.ValueType, MatchState | None] = {
    match_pb2.MATCH_STATE_UNSPECIFIED: None
} | {match_pb2.MatchState.Value(f"MATCH_STATE_{state.name}"): state for state in MatchState}
STATE_NUMBERS = {state: number for number, state in STATES.items()}


def matches_page(
    request: calls.ListMatchesRequest, schema: Schema, now: datetime
) -> tuple[MatchFilter, int | None, int]:
    """Check and convert a listing: the filter, the sequence it starts below, and the page size.

    Raises
    ------
    InvalidInput
        With every violation; also for a use case that has no matches, naming those that have.
    NotFound
        When the use case is not loaded (USE_CASE_NOT_FOUND).
    """
    use_case = schema.use_case(request.use_case, now)
    violations = Violations(now=now)
    _check_has_matches(use_case, schema.use_cases, violations)
    which = MatchFilter(
        use_case=request.use_case,
        subject_id=violations.identifier("subject_id", request.subject_id, required=False),
        item_id=violations.identifier("item_id", request.item_id, required=False),
        state=known(violations, "state", request.state, STATES),
    )
    limit = violations.page_size(request.page_size, default=100, most=1000)
    before = sequence_before(request, violations)
    violations.raise_if_any()
    return which, before, limit


def _check_has_matches(use_case: UseCase, use_cases: UseCases, violations: Violations) -> None:
    if use_cases.reverse_of(use_case.id) is not None:
        return
    if use_case.reverse_of is not None:
        violations.add(
            "use_case", f"`{use_case.id}` is a reverse: its matches are those of `{use_case.reverse_of}`"
        )
        return
    possible = ", ".join(name for name in use_cases if use_cases.reverse_of(name)) or "none"
    violations.add("use_case", f"`{use_case.id}` has no reverse, so no matches; those that have: {possible}")


def matches_page_reply(
    request: calls.ListMatchesRequest, found: Sequence[StoredMatch], limit: int
) -> calls.ListMatchesResponse:
    """Convert a page of which one more row was asked than it holds."""
    page = found[:limit]
    token = write_page_token(request, str(page[-1].sequence)) if len(found) > limit else ""
    return calls.ListMatchesResponse(matches=[_stored(match) for match in page], next_page_token=token)


def _stored(stored: StoredMatch) -> match_pb2.Match:
    match = stored.match
    return match_pb2.Match(
        use_case=match.use_case,
        subject_id=match.subject_id,
        item_id=match.item_id,
        state=STATE_NUMBERS[match.state],
        subject_time=timestamp(match.subject.first),
        item_time=timestamp(match.item.first),
        close_time=timestamp(match.close_time),
        change_time=timestamp(stored.change_time),
    )
