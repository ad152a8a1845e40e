"""A list that ranking_svc served comes back from the store as it was, and stays aligned when items go."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from feedback_svc.convert.sessions import Columns, sessions_to_record
from feedback_svc.convert.sessions import session_to_proto as stored_to_proto
from feedback_svc.convert.shared import Schema
from feedback_svc.store.memory import MemoryStore
from matchloop.errors import InvalidInput
from matchloop.feedback.v1 import feedback_service_pb2 as calls
from matchloop.feedback.v1 import session_pb2
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


doubtful = st.sampled_from([0.0, 1.0, -1e-9, 1.5, 1e308, math.nan, math.inf, -math.inf])
sent_items = st.lists(
    st.builds(
        session_pb2.SessionItem,
        item_id=st.sampled_from(["", "a", "b", "\x00", "\u2028", "\xa0", "x" * 128, "x" * 129]),
        score=doubtful,
        method=st.sampled_from([0, 1, 5, 6, -1]),
        propensity=st.floats(0.0, 1.0) | doubtful,
        features=st.lists(doubtful.map(lambda value: min(value, 3e38)), min_size=1, max_size=3),
        retrieval_score=st.none() | doubtful,
    ),
    max_size=4,
)


@given(sent_items)
def test_a_look_at_all_items_at_once_misses_no_fault(items: list[session_pb2.SessionItem]) -> None:
    session = session_to_proto(served([(0.5, None, (0.5, 0.5), 0.0, None)]))
    del session.items[:]
    session.items.extend(items)
    request = calls.RecordSessionsRequest(sessions=[session])

    def found() -> list[str]:
        try:
            sessions_to_record(request, SCHEMA, NOW)
        except InvalidInput as error:
            return [f"{each.field} {each.description}" for each in error.violations]
        return []

    quick = found()
    with mock.patch.object(Columns, "are_sound", return_value=False):
        assert quick == found()
