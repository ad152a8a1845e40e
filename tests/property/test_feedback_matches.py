"""The ledger's arithmetic, and that no order, grouping or repetition of reactions changes it."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_svc.interactions import Interaction
from feedback_svc.matches.ledger import Match, MatchFilter, MatchRole, MatchState, Side, said
from feedback_svc.store.memory import MemoryStore
from tests.feedback_worlds import NOW, USE_CASE, facts

times = st.integers(-5, 5).map(lambda hours: NOW + timedelta(hours=hours))
roles = st.builds(MatchRole, st.just("f"), st.booleans(), st.booleans())
spoken = st.tuples(roles, times)


def told(reactions: list[tuple[MatchRole, object]]) -> Match:
    """Return the match of a and b; the item's reactions are b's to a."""
    match = Match("f", "a", "b")
    for role, time in reactions:
        match = match.merge(said(role, *(("b", "a") if role.by_item else ("a", "b")), time))  # type: ignore[arg-type]
    return match


histories = st.lists(spoken, max_size=6)


@given(histories, histories, histories)
def test_merging_is_commutative_associative_and_idempotent(
    one: list[tuple[MatchRole, object]],
    two: list[tuple[MatchRole, object]],
    three: list[tuple[MatchRole, object]],
) -> None:
    a, b, c = told(one), told(two), told(three)
    assert a.merge(b) == b.merge(a) == told([*two, *one])
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(a) == a
    assert a.merge(b).merge(b) == a.merge(b)
    assert a.merge(Match("f", "a", "b")) == a


@given(st.lists(spoken, min_size=1, max_size=8))
def test_the_state_is_what_a_reading_of_the_whole_history_says(
    reactions: list[tuple[MatchRole, object]],
) -> None:
    """Each side in order of time, rejections before strong positives of the same time: its last word."""
    wants, closed = {}, {}
    for role, time in sorted(reactions, key=lambda each: (each[1], not each[0].rejects)):
        if role.rejects:
            closed[role.by_item] = time
        else:
            wants[role.by_item] = True
            closed.pop(role.by_item, None)
    match = told(reactions)
    expected = MatchState.RECIPROCATED if len(wants) == 2 else MatchState.ONE_SIDED
    assert match.state is (MatchState.CLOSED if closed else expected)
    assert match.close_time == min(closed.values(), default=None)  # type: ignore[type-var]
    for side, by_item in ((match.subject, False), (match.item, True)):
        strong = [time for role, time in reactions if role.by_item is by_item and not role.rejects]
        assert side.first == min(strong, default=None)  # type: ignore[type-var]
        assert side.last == max(strong, default=None)  # type: ignore[type-var]


@given(spoken)
def test_a_reaction_is_turned_where_the_item_speaks(reaction: tuple[MatchRole, object]) -> None:
    match = told([reaction])
    assert (match.subject_id, match.item_id) == ("a", "b")
    assert (match.item if reaction[0].by_item else match.subject) != Side()
    assert (match.subject if reaction[0].by_item else match.item) == Side()


def reaction(number: int, reverse: bool, type_: str, hours: int) -> Interaction:
    investor, to = f"i{number % 2}", f"s{number % 3}"
    time = NOW + timedelta(hours=hours)
    if reverse:
        type_ = {"like": "contact", "apply": "apply_received"}.get(type_, type_)
        return Interaction(str(number), "startup_investor", to, investor, type_, time)
    return Interaction(str(number), USE_CASE, investor, to, type_, time)


reactions = st.builds(
    reaction,
    st.integers(0, 14),
    st.booleans(),
    st.sampled_from(["view", "click", "like", "apply", "dislike"]),
    st.integers(-9, 0),
)


@settings(max_examples=60)
@given(st.lists(reactions, min_size=1, max_size=20, unique_by=lambda i: i.interaction_id), st.data())
def test_replays_in_any_order_and_grouping_leave_one_ledger(
    sent: list[Interaction], data: st.DataObject
) -> None:
    once, often = MemoryStore(), MemoryStore()
    once.record_interactions(sent, facts(sent), now=NOW)
    for _ in range(3):
        order = data.draw(st.permutations(sent))
        cut = data.draw(st.integers(0, len(order)))
        for batch in (order[:cut], order[cut:]):
            often.record_interactions(batch, facts(batch), now=NOW)
    found = [
        {stored.match for stored in store.list_matches(MatchFilter(USE_CASE), before=None, limit=99)}
        for store in (once, often)
    ]
    assert found[0] == found[1]
