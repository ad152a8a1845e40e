"""Messages about explicit rejections and what training makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from feedback_svc.convert.shared import Schema, sequence_before
from feedback_svc.dislikes import Dislike, Receipt, StoredDislike, WeightChange
from feedback_svc.sessions import RecordFilter
from matchloop.feedback.v1 import dislike_pb2
from matchloop.feedback.v1 import feedback_service_pb2 as calls
from matchloop.rpc.convert import timestamp
from matchloop.rpc.paging import fitting, write_page_token
from matchloop.rpc.validation import Violations
from matchloop.usecase import UseCase

MAX_COMMENT = 2000


def dislike_to_record(
    request: calls.RecordDislikeRequest, schema: Schema, now: datetime
) -> tuple[Dislike, UseCase]:
    """Check and convert a rejection.

    Raises
    ------
    InvalidInput
        With every violation.
    """
    message = request.dislike
    violations = Violations(now=now)
    each = violations.within("dislike")
    if message.use_case in schema.use_cases:
        each.one_of("reason", message.reason, schema.use_cases[message.use_case].dislikes)
    else:
        each.one_of("use_case", message.use_case, schema.use_cases)
    score = None
    if message.HasField("predicted_score"):
        score = each.number("predicted_score", message.predicted_score, least=0.0, most=1.0)
    time = each.time("event_time", message.event_time, given=message.HasField("event_time"))
    dislike = Dislike(
        dislike_id=each.identifier("dislike_id", message.dislike_id),
        use_case=message.use_case,
        subject_id=each.identifier("subject_id", message.subject_id),
        item_id=each.identifier("item_id", message.item_id),
        reason=message.reason,
        comment=each.text("comment", message.comment, most=MAX_COMMENT),
        session_id=each.identifier("session_id", message.session_id, required=False),
        predicted_score=score,
        event_time=time or now,
    )
    violations.raise_if_any()
    return dislike, schema.use_cases[message.use_case]


def receipt_reply(receipt: Receipt) -> calls.RecordDislikeResponse:
    """Convert what a rejection did."""
    stored = receipt.stored
    return calls.RecordDislikeResponse(
        receipt=dislike_pb2.DislikeReceipt(
            dislike_id=stored.dislike.dislike_id,
            duplicate=receipt.duplicate,
            hidden_item_ids=[stored.dislike.item_id],
            weight_changes=[_change(change) for change in stored.changes],
            prediction_error=stored.error,
            example_weight=stored.example_weight,
        )
    )


def _change(change: WeightChange) -> dislike_pb2.WeightChange:
    return dislike_pb2.WeightChange(
        feature=change.feature,
        value=change.value,
        factor_before=change.before,
        factor_after=change.after,
        half_life_time=timestamp(change.half_life_time),
    )


def dislikes_page(request: calls.ListDislikesRequest, now: datetime) -> tuple[RecordFilter, int | None, int]:
    """Check and convert a listing: the filter, the sequence it starts below, and the page size."""
    violations = Violations(now=now)
    which = RecordFilter(
        request.use_case,
        violations.identifier("subject_id", request.subject_id, required=False),
        violations.identifier("item_id", request.item_id, required=False),
    )
    limit = violations.page_size(request.page_size, default=100, most=1000)
    before = sequence_before(request, violations)
    violations.raise_if_any()
    return which, before, limit


def dislikes_page_reply(
    request: calls.ListDislikesRequest, found: Sequence[StoredDislike], limit: int
) -> calls.ListDislikesResponse:
    """Convert a page of which one more row was asked than it holds."""
    page = fitting(_stored(dislike) for dislike in found[:limit])
    token = write_page_token(request, str(page[-1].sequence)) if len(found) > len(page) else ""
    return calls.ListDislikesResponse(dislikes=page, next_page_token=token)


def _stored(stored: StoredDislike) -> dislike_pb2.StoredDislike:
    sent = stored.dislike
    return dislike_pb2.StoredDislike(
        dislike=dislike_pb2.Dislike(
            dislike_id=sent.dislike_id,
            use_case=sent.use_case,
            subject_id=sent.subject_id,
            item_id=sent.item_id,
            reason=sent.reason,
            comment=sent.comment,
            session_id=sent.session_id,
            predicted_score=sent.predicted_score,
            event_time=timestamp(sent.event_time),
        ),
        prediction_error=stored.error,
        example_weight=stored.example_weight,
        used_by_release=stored.used_by_release,
        receive_time=timestamp(stored.receive_time),
        sequence=stored.sequence,
    )


def use_to_mark(request: calls.MarkNegativesUsedRequest, now: datetime) -> tuple[str, int]:
    """Check the release and the sequence up to which it used negatives."""
    violations = Violations(now=now)
    release = violations.identifier("release", request.release)
    if request.to_sequence < 0:
        violations.add("to_sequence", f"is {request.to_sequence}, negative")
    violations.raise_if_any()
    return release, request.to_sequence
