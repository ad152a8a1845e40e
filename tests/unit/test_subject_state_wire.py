"""A subject's state from feedback_svc's domain over the wire into candidate_svc's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from candidate_svc.client import read_state
from feedback_svc.convert.interactions import state_reply
from feedback_svc.dislikes import Factor
from feedback_svc.insight import RecentEvents, SubjectState, microseconds
from matchloop.feedback.v1 import feedback_service_pb2 as calls

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
times = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
events = st.lists(
    st.tuples(
        st.text(min_size=1, max_size=8),
        st.sampled_from([("view", ""), ("like", ""), ("dislike", ""), ("dislike", "other")]),
        times,
    ),
    max_size=20,
)


@given(events)
def test_events_arrive_as_they_were_in_their_order(sent: list[tuple[str, tuple[str, str], datetime]]) -> None:
    columns = RecentEvents(
        tuple(item for item, _, _ in sent),
        tuple(type_ for _, (type_, _), _ in sent),
        tuple(microseconds(time) for _, _, time in sent),
        {place: reason for place, (_, (_, reason), _) in enumerate(sent) if reason},
    )
    state = SubjectState(None, len(sent), columns, (), ())
    wire = state_reply(state).SerializeToString()
    read = read_state(calls.LookupSubjectStateResponse.FromString(wire).state)
    assert [(e.item, (e.event_type, e.reason), e.time) for e in read.recent_events] == sent
    assert read.interaction_count == len(sent)


def test_a_reply_names_each_event_type_once() -> None:
    count = 500
    micros = tuple(microseconds(NOW - timedelta(seconds=n)) for n in range(count))
    columns = RecentEvents(("i",) * count, ("view", "like") * (count // 2), micros)
    factors = (Factor("category", "fintech", 0.9, NOW),)
    reply = state_reply(SubjectState(None, count, columns, ("i", "j"), factors))
    assert list(reply.state.recent_events.event_types) == ["view", "like"]
    read = read_state(reply.state)
    assert read.hidden == {"i", "j"}
    assert read.weight_factors == {("category", "fintech"): 0.9}
