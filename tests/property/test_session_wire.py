"""A list that ranking_svc served comes back from the store as it was, and stays aligned when items go."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from feedback_svc.convert.sessions import session_to_proto as stored_to_proto
from feedback_svc.convert.sessions import sessions_to_record
from feedback_svc.convert.shared import Schema
from feedback_svc.store.memory import MemoryStore
from matchloop.feedback.v1 import feedback_service_pb2 as calls
from matchloop.usecase import Method, Tier, load_use_cases
from ranking_svc.domain import ListItem, Session
from ranking_svc.wire import read_session, session_to_proto

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SCHEMA = Schema.of(load_use_cases())
NAMES = ("model_score", "recency")

finite = st.floats(allow_nan=False, allow_infinity=False)
listed = st.lists(
    st.tuples(
        st.floats(0.0, 1.0),
        st.sampled_from([*Method, None]),
        st.tuples(st.floats(0.0, 1.0, width=32), st.floats(0.0, 1.0, width=32)),
        st.floats(0.0, 1.0),
        st.none() | finite,
    ),
    min_size=1,
    max_size=8,
)


def served(rows: list[tuple[float, Method | None, tuple[float, float], float, float | None]]) -> Session:
    items = tuple(
        ListItem(f"i{place}", score, method, features, None, propensity, raw)
        for place, (score, method, features, propensity, raw) in enumerate(rows)
    )
    return Session("x", "user_movie", "u", "r1", "", Tier.WARM, True, NOW, NAMES, items)


def stored(session: Session) -> MemoryStore:
    store = MemoryStore()
    request = calls.RecordSessionsRequest(sessions=[session_to_proto(session)])
    store.record_sessions(sessions_to_record(request, SCHEMA, NOW), now=NOW)
    return store


@given(listed)
def test_a_list_comes_back_as_it_was_served(
    rows: list[tuple[float, Method | None, tuple[float, float], float, float | None]],
) -> None:
    session = served(rows)
    assert read_session(stored_to_proto(stored(session).get_session("x"))) == session


@given(listed, st.sets(st.integers(0, 7)))
def test_what_is_left_of_a_list_keeps_its_own(
    rows: list[tuple[float, Method | None, tuple[float, float], float, float | None]], gone: set[int]
) -> None:
    session = served(rows)
    kept = stored(session).get_session("x").without({f"i{place}" for place in gone})
    left = tuple(item for place, item in enumerate(session.items) if place not in gone)
    if kept is None:
        assert not left
    else:
        assert read_session(stored_to_proto(kept)).items == left
