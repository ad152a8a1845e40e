"""The match ledger of every store: what two sides want of each other, whatever the order of arrival."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from feedback_svc.dislikes import Dislike
from feedback_svc.interactions import Interaction, facts_of
from feedback_svc.matches.ledger import Match, MatchFilter, MatchState, Side
from feedback_svc.sessions import RecordFilter
from feedback_svc.store.memory import MemoryStore
from feedback_svc.store.protocol import Store
from tests.feedback_worlds import NOW, USE_CASE, facts, use_cases

REVERSE = "startup_investor"
HOUR = timedelta(hours=1)
ONE, BOTH, CLOSED = MatchState.ONE_SIDED, MatchState.RECIPROCATED, MatchState.CLOSED


def by_subject(
    id_: str, type_: str = "like", hours: float = 0, investor: str = "ann", to: str = "acme"
) -> Interaction:
    return Interaction(id_, USE_CASE, investor, to, type_, NOW + hours * HOUR)


def by_item(
    id_: str, type_: str = "contact", hours: float = 0, investor: str = "ann", to: str = "acme"
) -> Interaction:
    return Interaction(id_, REVERSE, to, investor, type_, NOW + hours * HOUR)


def tell(store: Store, *reactions: Interaction, now: datetime = NOW) -> None:
    store.record_interactions(reactions, facts(list(reactions)), now=now)


def ledger(store: Store, which: MatchFilter | None = None) -> list[Match]:
    """Return all matches, latest change first, read in pages of 3."""
    found: list[Match] = []
    before = None
    while True:
        page = store.list_matches(which or MatchFilter(USE_CASE), before=before, limit=3)
        found += [stored.match for stored in page]
        if len(page) < 3:
            return found
        before = page[-1].sequence


def only(store: Store) -> Match:
    (found,) = ledger(store)
    return found


def test_views_and_clicks_alone_make_no_match(store: Store) -> None:
    tell(
        store, by_subject("1", "view"), by_subject("2", "click"), by_item("3", "view"), by_item("4", "click")
    )
    assert ledger(store) == []


def test_a_use_case_without_a_reverse_makes_no_match(store: Store) -> None:
    tell(store, Interaction("1", "user_movie", "ann", "alien", "favorite", NOW))
    assert ledger(store, MatchFilter("user_movie")) == []


def test_one_side_then_the_other_then_closed_then_open_again(store: Store) -> None:
    tell(store, by_subject("1", "like"))
    assert (only(store).state, only(store).subject, only(store).item) == (ONE, Side(NOW, NOW), Side())
    tell(store, by_item("2", "contact", hours=1))
    assert only(store).state is BOTH
    assert only(store).item == Side(NOW + HOUR, NOW + HOUR)
    tell(store, by_item("3", "dislike", hours=2))
    assert (only(store).state, only(store).close_time) == (CLOSED, NOW + 2 * HOUR)
    tell(store, by_subject("4", "interest", hours=3))
    assert only(store).state is CLOSED  # the side that rejected has to take it back
    tell(store, by_item("5", "apply_received", hours=4))
    assert (only(store).state, only(store).close_time) == (BOTH, None)
    assert only(store) == Match(
        USE_CASE,
        "ann",
        "acme",
        Side(NOW, NOW + 3 * HOUR),
        Side(NOW + HOUR, NOW + 4 * HOUR, NOW + 2 * HOUR),
    )


def test_a_rejection_alone_makes_a_closed_match_of_the_first_that_rejected(store: Store) -> None:
    tell(store, by_item("1", "dislike", hours=2), by_subject("2", "dislike", hours=1))
    assert (only(store).state, only(store).close_time) == (CLOSED, NOW + HOUR)


@pytest.mark.parametrize("speak", [by_subject, by_item])
def test_at_the_same_time_a_strong_positive_counts(store: Store, speak: type) -> None:
    strong = "like" if speak is by_subject else "contact"
    tell(store, speak("1", "dislike"))
    tell(store, speak("2", strong))
    assert only(store).state is ONE


def test_a_dislike_with_its_reason_closes_too(store: Store) -> None:
    tell(store, by_subject("1"), by_item("2"))
    use_case = use_cases()[USE_CASE]
    dislike = Dislike("d", USE_CASE, "ann", "acme", "not_interested", "", "", None, NOW + HOUR)
    for _ in range(2):
        store.record_dislike(
            dislike,
            reason=use_case.dislikes["not_interested"],
            facts=facts_of(use_case, use_cases().reverse_of(USE_CASE))["dislike"],
            item_kind="startup",
            now=NOW,
        )
    assert only(store).state is CLOSED


def test_what_adds_nothing_leaves_a_match_in_its_place(store: Store) -> None:
    tell(store, by_subject("1", hours=-3), by_subject("2", hours=-1))
    (before,) = store.list_matches(MatchFilter(USE_CASE), before=None, limit=9)
    later = NOW + HOUR
    tell(store, by_subject("1", hours=-3), now=later)  # a replay
    tell(store, by_subject("3", hours=-2), by_subject("4", "click"), now=later)
    assert store.list_matches(MatchFilter(USE_CASE), before=None, limit=9) == [before]
    tell(store, by_subject("5", hours=-4), now=later)
    (after,) = store.list_matches(MatchFilter(USE_CASE), before=None, limit=9)
    assert (after.change_time, after.match.subject) == (later, Side(NOW - 4 * HOUR, NOW - HOUR))
    assert after.sequence > before.sequence


def test_an_id_stored_before_says_nothing_again(store: Store) -> None:
    tell(store, by_subject("1", "click"))
    tell(store, by_subject("1", "like"), by_subject("2", "like", to="bolt"))
    assert [match.item_id for match in ledger(store)] == ["bolt"]


def test_lists_go_by_latest_change_within_every_filter(store: Store) -> None:
    strange = 'ünï"c\\ode'
    for number, (investor, to) in enumerate((i, t) for i in ("ann", "bo", strange) for t in ("acme", "bolt")):
        tell(store, by_subject(f"f{number}", investor=investor, to=to))
    tell(store, by_item("b1", investor="bo", to="acme"))
    tell(store, by_item("b2", "dislike", investor="ann", to="bolt"))
    everything = [(match.subject_id, match.item_id, match.state) for match in ledger(store)]
    assert everything == [
        ("ann", "bolt", CLOSED),
        ("bo", "acme", BOTH),
        (strange, "bolt", ONE),
        (strange, "acme", ONE),
        ("bo", "bolt", ONE),
        ("ann", "acme", ONE),
    ]
    for subject in ("", "ann", "bo", strange, "nobody"):
        for item in ("", "acme", "bolt", "nothing"):
            for state in (None, *MatchState):
                found = ledger(store, MatchFilter(USE_CASE, subject, item, state))
                assert [(match.subject_id, match.item_id, match.state) for match in found] == [
                    each
                    for each in everything
                    if subject in ("", each[0]) and item in ("", each[1]) and state in (None, each[2])
                ]
    assert ledger(store, MatchFilter("developer_startup")) == []


def test_a_walk_lists_nothing_twice_while_matches_change(store: Store) -> None:
    for number in range(9):
        tell(store, by_subject(f"f{number}", to=f"s{number}"))
    first = store.list_matches(MatchFilter(USE_CASE), before=None, limit=4)
    tell(store, by_item("b8", to="s8"), by_item("b1", to="s1"), by_subject("new", to="s9"))
    rest = store.list_matches(MatchFilter(USE_CASE), before=first[-1].sequence, limit=9)
    assert [stored.match.item_id for stored in first] == ["s8", "s7", "s6", "s5"]
    assert [stored.match.item_id for stored in rest] == ["s4", "s3", "s2", "s0"]
    again = store.list_matches(MatchFilter(USE_CASE), before=None, limit=3)
    assert {stored.match.item_id for stored in again} == {"s8", "s1", "s9"}


def reactions(count: int, rng: random.Random) -> list[Interaction]:
    found = []
    for number in range(count):
        speak = rng.choice((by_subject, by_item))
        strong = ["like", "apply"] if speak is by_subject else ["contact", "apply_received"]
        found.append(
            speak(
                f"{number}",
                rng.choice(["view", "click", "dislike", *strong]),
                hours=rng.randrange(12),
                investor=f"i{rng.randrange(8)}",
                to=f"s{rng.randrange(8)}",
            )
        )
    return found


def by_key(found: list[Match]) -> list[Match]:
    return sorted(found, key=lambda match: (match.subject_id, match.item_id))


def test_replays_by_8_clients_in_any_order_and_grouping_leave_one_ledger(store: Store) -> None:
    sent = reactions(240, random.Random(3))
    expected = MemoryStore()
    for each in sent:
        tell(expected, each)

    def replay(number: int) -> None:
        rng = random.Random(number)
        own = rng.sample(sent, len(sent))
        while own:
            cut = rng.randint(1, 60)
            tell(store, *own[:cut])
            own = own[cut:]

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(replay, number) for number in range(8)]:
            done.result(60)
    assert by_key(ledger(store)) == by_key(ledger(expected))
    for state in MatchState:  # as the store tells it, and as its times do
        found = ledger(store, MatchFilter(USE_CASE, state=state))
        assert found
        assert {match.state for match in found} == {state}


def test_a_client_s_clock_may_be_wrong_event_time_and_order_of_arrival_are_both_kept(store: Store) -> None:
    """One clock is a day slow, one an hour fast; the last to arrive is not the last that happened."""
    arrivals = [
        (by_subject("fast", "like", hours=1), NOW),
        (by_subject("slow", "dislike", hours=-24), NOW + timedelta(seconds=1)),
        (by_item("right", "contact", hours=0), NOW + timedelta(seconds=2)),
    ]
    changes = []
    for reaction, received in arrivals:
        tell(store, reaction, now=received)
        (stored,) = store.list_matches(MatchFilter(USE_CASE), before=None, limit=9)
        changes.append(stored)
    kept = store.list_interactions(RecordFilter(USE_CASE), before=None, limit=9)
    assert [(k.interaction.interaction_id, k.interaction.event_time, k.receive_time) for k in kept] == [
        ("slow", NOW - 24 * HOUR, NOW + timedelta(seconds=1)),
        ("fast", NOW + HOUR, NOW),
    ]
    assert kept[0].sequence > kept[1].sequence
    bounded = RecordFilter(USE_CASE, to_time=NOW)
    assert [k.interaction.interaction_id for k in store.list_interactions(bounded, before=None, limit=9)] == [
        "slow"
    ]
    # The ledger goes by when things happened: the dislike came later, but the liking was later.
    assert [change.match.state for change in changes] == [ONE, ONE, BOTH]
    assert changes[-1].match.subject == Side(NOW + HOUR, NOW + HOUR, NOW - 24 * HOUR)
    # And tells the order of arrival.
    assert [change.change_time for change in changes] == [received for _, received in arrivals]
    assert sorted(changes, key=lambda change: change.sequence) == changes
