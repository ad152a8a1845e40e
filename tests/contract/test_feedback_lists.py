"""Lists of sessions, interactions and matches against a model: every filter, every page, rows coming in.

The calls are those of the service, with its page tokens, over each store.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback_svc.convert.shared import Schema
from feedback_svc.feedback_servicer import FeedbackServicer
from feedback_svc.interactions import Interaction
from feedback_svc.matches.ledger import MatchState
from feedback_svc.retraining import RetrainingBounds
from feedback_svc.sessions import Session
from feedback_svc.store.protocol import Store
from matchloop.feedback.v1 import feedback_service_pb2 as calls
from matchloop.feedback.v1 import match_pb2
from matchloop.observe.metrics import Metrics
from matchloop.rpc.convert import timestamp
from tests.feedback_lists import MARKETS, ListedMarket, loaded
from tests.feedback_worlds import NOW, event, shown

SUBJECTS, ITEMS, RELEASES = ("s0", "s1"), ("i0", "i1", "i2"), ("r1", "r2")
HOURS = range(5)
ABSENT = "absent"

whole_hours = st.sampled_from(HOURS)


@pytest.fixture(scope="module")
def schema() -> Schema:
    return Schema.of(loaded())


@pytest.fixture
def markets(store: Store, schema: Schema) -> Iterator[ListedMarket]:
    servicer = FeedbackServicer(store, schema, lambda: NOW, bounds=RetrainingBounds(), metrics=Metrics())
    return (ListedMarket(store, servicer, schema, number) for number in range(MARKETS))


session_rows = st.builds(
    lambda subject, items, release, hours: shown(
        "", tuple(items), subject, release=release, serve_time=NOW + timedelta(hours=hours)
    ),
    st.sampled_from(SUBJECTS),
    st.lists(st.sampled_from(ITEMS), min_size=1, max_size=3, unique=True),
    st.sampled_from(RELEASES),
    whole_hours,
)
interaction_rows = st.builds(
    lambda subject, item, type_, hours, of: event("", subject, item, type_, days=hours / 24, session_id=of),
    st.sampled_from(SUBJECTS),
    st.sampled_from(ITEMS),
    st.sampled_from(["view", "click", "like", "dislike"]),
    whole_hours,
    st.sampled_from(["", "0", "1", "2", "99"]),
)
answers = st.tuples(
    st.sampled_from(["view", "contact", "dislike"]),
    st.sampled_from(SUBJECTS),
    st.sampled_from(ITEMS),
    whole_hours,
)
batches = st.lists(st.lists(interaction_rows, min_size=1, max_size=3), max_size=5)
page_sizes = st.integers(1, 4)
over_stores = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@dataclass(frozen=True)
class Filter:
    """One combination; None bounds nothing."""

    subject: str
    item: str
    release: str
    bounds: tuple[int, int] | None

    def fields(self) -> dict[str, Any]:
        given: dict[str, Any] = {
            "subject_id": self.subject,
            "item_id": self.item,
            "release": self.release,
        }
        if self.bounds:
            given["from_time"], given["to_time"] = (
                timestamp(NOW + timedelta(hours=hours)) for hours in self.bounds
            )
        return given

    def passes(self, subject: str, items: Sequence[str], release: str, time: datetime) -> bool:
        hours = (time - NOW) / timedelta(hours=1)
        return (
            self.subject in ("", subject)
            and (not self.item or self.item in items)
            and self.release in ("", release)
            and (self.bounds is None or self.bounds[0] <= hours < self.bounds[1])
        )


FILTERS = [
    Filter(*each)
    for each in itertools.product(
        ("", SUBJECTS[0], ABSENT),
        ("", ITEMS[1], ABSENT),
        ("", RELEASES[0], ABSENT),
        (None, (1, 3), (2, 2), (0, 9)),
    )
]


@over_stores
@given(rows=st.lists(session_rows, max_size=9), page_size=page_sizes)
def test_sessions_by_every_filter(
    markets: Iterator[ListedMarket], rows: list[Session], page_size: int
) -> None:
    world = next(markets)
    for row in rows:
        world.show(row)
    for which in FILTERS:
        request = calls.ListSessionsRequest(use_case=world.use_case, page_size=page_size, **which.fields())
        found = world.walk(world.list_sessions, request, lambda: None)
        expected = sorted(
            (s for s in world.sessions if which.passes(s.subject_id, s.item_ids, s.release, s.serve_time)),
            key=lambda s: (s.serve_time, s.session_id),
            reverse=True,
        )
        assert [each.session_id for each in found] == [s.session_id for s in expected]


@over_stores
@given(rows=st.lists(session_rows, max_size=4), sent=batches, page_size=page_sizes, early=st.booleans())
def test_interactions_by_every_filter(
    markets: Iterator[ListedMarket],
    rows: list[Session],
    sent: list[list[Interaction]],
    page_size: int,
    early: bool,
) -> None:
    world = next(markets)
    for row in () if early else rows:
        world.show(row)
    for batch in sent:
        world.react(batch)
    for row in rows if early else ():
        world.show(row)
    for which in FILTERS:
        request = calls.ListInteractionsRequest(
            use_case=world.use_case, page_size=page_size, **which.fields()
        )
        found = world.walk(world.list_interactions, request, lambda: None)
        assert [each.interaction.interaction_id for each in found] == [
            i.interaction_id
            for i in reversed(world.interactions)
            if which.passes(i.subject_id, [i.item_id], world.release_of(i), i.event_time)
        ]


@over_stores
@given(sent=batches, answered=st.lists(answers, max_size=6), page_size=page_sizes)
def test_matches_by_every_filter(
    markets: Iterator[ListedMarket],
    sent: list[list[Interaction]],
    answered: list[tuple[str, str, str, int]],
    page_size: int,
) -> None:
    world = next(markets)
    for batch in sent:
        world.react(batch)
    for each in answered:
        world.answer(*each)
    for subject, item, state in itertools.product(
        ("", *SUBJECTS, ABSENT), ("", *ITEMS, ABSENT), (None, *MatchState)
    ):
        request = calls.ListMatchesRequest(
            use_case=world.use_case,
            subject_id=subject,
            item_id=item,
            state=match_pb2.MatchState.Value(f"MATCH_STATE_{state.name if state else 'UNSPECIFIED'}"),
            page_size=page_size,
        )
        found = world.walk(world.list_matches, request, lambda: None)
        assert [(each.subject_id, each.item_id) for each in found] == [
            key
            for key in reversed(world.changes)
            if subject in ("", key[0]) and item in ("", key[1]) and state in (None, world.matches[key].state)
        ]


@over_stores
@given(
    rows=st.lists(session_rows, min_size=3, max_size=9),
    late=st.lists(session_rows, min_size=9, max_size=9),
    page_size=page_sizes,
    subject=st.sampled_from(["", SUBJECTS[0]]),
)
def test_pages_of_sessions_join_up_while_sessions_come(
    markets: Iterator[ListedMarket], rows: list[Session], late: list[Session], page_size: int, subject: str
) -> None:
    world, waiting = next(markets), iter(late)
    for row in rows:
        world.show(row)
    there = [s.session_id for s in world.sessions if subject in ("", s.subject_id)]
    request = calls.ListSessionsRequest(use_case=world.use_case, subject_id=subject, page_size=page_size)

    def meanwhile() -> None:
        row = next(waiting, None)
        if row is not None:
            world.show(row)

    found = world.walk(world.list_sessions, request, meanwhile)
    places = [(each.serve_time.ToDatetime(), each.session_id) for each in found]
    assert places == sorted(set(places), reverse=True)  # in order, none twice
    assert set(there) <= {id_ for _, id_ in places}  # none left out


@over_stores
@given(
    sent=st.lists(interaction_rows, min_size=3, max_size=9),
    late=st.lists(interaction_rows, min_size=9, max_size=9),
    page_size=page_sizes,
    subject=st.sampled_from(["", SUBJECTS[0]]),
)
def test_pages_of_interactions_are_those_of_the_first_call_while_interactions_come(
    markets: Iterator[ListedMarket],
    sent: list[Interaction],
    late: list[Interaction],
    page_size: int,
    subject: str,
) -> None:
    world, waiting = next(markets), iter(late)
    world.react(sent)
    there = [i.interaction_id for i in world.interactions if subject in ("", i.subject_id)]
    request = calls.ListInteractionsRequest(use_case=world.use_case, subject_id=subject, page_size=page_size)

    def meanwhile() -> None:
        one = next(waiting, None)
        if one is not None:
            world.react([one])

    found = world.walk(world.list_interactions, request, meanwhile)
    assert [each.interaction.interaction_id for each in found] == there[::-1]


@over_stores
@given(
    sent=st.lists(interaction_rows, min_size=3, max_size=9),
    late=st.lists(answers, min_size=9, max_size=9),
    page_size=page_sizes,
)
def test_pages_of_matches_are_those_of_the_first_call_but_what_changed(
    markets: Iterator[ListedMarket],
    sent: list[Interaction],
    late: list[tuple[str, str, str, int]],
    page_size: int,
) -> None:
    world, waiting = next(markets), iter(late)
    world.react(sent)
    there = world.changes[::-1]
    changed: set[tuple[str, str]] = set()
    request = calls.ListMatchesRequest(use_case=world.use_case, page_size=page_size)

    def meanwhile() -> None:
        one = next(waiting, None)
        if one is not None:
            before = dict(world.matches)
            world.answer(*one)
            changed.update(key for key, match in world.matches.items() if before.get(key) != match)

    found = world.walk(world.list_matches, request, meanwhile)
    keys = [(each.subject_id, each.item_id) for each in found]
    assert keys == [key for key in there if key in keys]  # in order, none twice, none that is new
    assert set(there) - set(keys) <= changed  # only what moved to the front is left to the next walk
