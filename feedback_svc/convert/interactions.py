"""Messages about reactions, and a subject's state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from feedback_svc.convert.shared import METHOD_NUMBERS, Schema, filter_from, sequence_before
from feedback_svc.insight import SubjectState
from feedback_svc.interactions import EventFacts, Interaction, StoredInteraction
from feedback_svc.sessions import RecordFilter
from matchloop.feedback.v1 import feedback_service_pb2 as calls
from matchloop.feedback.v1 import interaction_pb2
from matchloop.rpc.convert import entity_to_proto, timestamp
from matchloop.rpc.paging import fitting, write_page_token
from matchloop.rpc.validation import Violations

MAX_BATCH = 500
NO_FACTS = EventFacts(hides=False, view=False, counted=False, weight=0.0, half_life_seconds=1.0)


def interactions_to_record(
    request: calls.RecordInteractionsRequest, schema: Schema, now: datetime
) -> tuple[tuple[Interaction, ...], tuple[EventFacts, ...]]:
    """Check and convert a batch: the reactions, and what each does.

    Raises
    ------
    InvalidInput
        With every violation of every reaction.
    """
    violations = Violations(now=now)
    found: list[Interaction] = []
    facts: list[EventFacts] = []
    if violations.count("interactions", request.interactions, least=1, most=MAX_BATCH):
        for index, message in enumerate(request.interactions):
            each = violations.within(f"interactions[{index}]")
            facts.append(_facts(message, each, schema))
            found.append(_interaction(message, each))
        violations.distinct("interactions", [i.interaction_id for i in found], part="interaction_id")
    violations.raise_if_any()
    return tuple(found), tuple(facts)


def _facts(message: interaction_pb2.Interaction, violations: Violations, schema: Schema) -> EventFacts:
    events = schema.facts.get(message.use_case)
    if events is None:
        violations.one_of("use_case", message.use_case, schema.facts)
        return NO_FACTS
    facts = events.get(message.event_type)
    if facts is None:
        violations.one_of("event_type", message.event_type, events)
        return NO_FACTS
    return facts


def _interaction(message: interaction_pb2.Interaction, violations: Violations) -> Interaction:
    time = violations.time("event_time", message.event_time, given=message.HasField("event_time"))
    return Interaction(
        violations.identifier("interaction_id", message.interaction_id),
        message.use_case,
        violations.identifier("subject_id", message.subject_id),
        violations.identifier("item_id", message.item_id),
        message.event_type,
        time or violations.now,
        violations.identifier("session_id", message.session_id, required=False),
    )


def interactions_reply(sent: int, duplicates: Sequence[str]) -> calls.RecordInteractionsResponse:
    """Convert what recording a batch did."""
    return calls.RecordInteractionsResponse(
        stored=sent - len(duplicates), duplicate_interaction_ids=duplicates
    )


def interactions_page(
    request: calls.ListInteractionsRequest, now: datetime
) -> tuple[RecordFilter, int | None, int]:
    """Check and convert a listing: the filter, the sequence it starts below, and the page size."""
    violations = Violations(now=now)
    which = filter_from(request, violations)
    limit = violations.page_size(request.page_size, default=100, most=1000)
    before = sequence_before(request, violations)
    violations.raise_if_any()
    return which, before, limit


def interactions_page_reply(
    request: calls.ListInteractionsRequest, found: Sequence[StoredInteraction], limit: int
) -> calls.ListInteractionsResponse:
    """Convert a page of which one more row was asked than it holds."""
    page = fitting(_stored(interaction) for interaction in found[:limit])
    token = write_page_token(request, str(page[-1].sequence)) if len(found) > len(page) else ""
    return calls.ListInteractionsResponse(interactions=page, next_page_token=token)


def _stored(stored: StoredInteraction) -> interaction_pb2.StoredInteraction:
    sent, tie = stored.interaction, stored.tie
    result = interaction_pb2.StoredInteraction(
        interaction=interaction_pb2.Interaction(
            interaction_id=sent.interaction_id,
            use_case=sent.use_case,
            subject_id=sent.subject_id,
            item_id=sent.item_id,
            event_type=sent.event_type,
            event_time=timestamp(sent.event_time),
            session_id=sent.session_id,
        ),
        source=interaction_pb2.INTERACTION_SOURCE_ORGANIC,
        receive_time=timestamp(stored.receive_time),
        sequence=stored.sequence,
    )
    if tie is not None:
        result.source = interaction_pb2.INTERACTION_SOURCE_RECOMMENDATION
        result.rank = tie.rank
        result.score = tie.score or 0.0
        result.method = METHOD_NUMBERS[tie.method]
        result.release = tie.release
    return result


def subject_to_look_up(request: calls.LookupSubjectStateRequest, now: datetime) -> str:
    """Check the id of the subject."""
    violations = Violations(now=now)
    subject_id = violations.identifier("subject_id", request.subject_id)
    violations.raise_if_any()
    return subject_id


def state_reply(state: SubjectState) -> calls.LookupSubjectStateResponse:
    """Convert a subject's state."""
    reply = calls.LookupSubjectStateResponse()
    filled, events = reply.state, state.recent_events  # in place: a message given to another is copied
    if state.entity is not None:
        filled.known = True
        filled.entity.CopyFrom(entity_to_proto(state.entity))
    filled.interaction_count = state.interaction_count
    places = {event_type: place for place, event_type in enumerate(dict.fromkeys(events.event_types))}
    recent = filled.recent_events
    recent.item_ids.extend(events.item_ids)
    recent.event_types.extend(places)
    recent.type_indices.extend(map(places.__getitem__, events.event_types))
    recent.event_micros.extend(events.times)
    reasoned = sorted(events.reasons)
    recent.reasoned_events.extend(reasoned)
    recent.reasons.extend(map(events.reasons.__getitem__, reasoned))
    filled.hidden_item_ids.extend(state.hidden_item_ids)
    for each in state.factors:
        filled.weight_factors.add(feature=each.feature, value=each.value, factor=each.factor)
    return reply
