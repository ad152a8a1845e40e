"""What every store promises of letting go."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from feedback_svc.catalog import ChangePosition
from feedback_svc.dislikes import Dislike
from feedback_svc.expiry import ExpiryRule, Kept, rules_of, walk
from feedback_svc.insight import SubjectState
from feedback_svc.interactions import facts_of
from feedback_svc.sessions import RecordFilter
from feedback_svc.store.protocol import Store
from matchloop.errors import NotFound
from tests.feedback_worlds import NOW, USE_CASE, event, facts, key, shown, startup, use_cases

EVERYTHING = RecordFilter(USE_CASE)
DAY = timedelta(days=1)


def rule(kept: Kept, days: int, now: datetime = NOW) -> ExpiryRule:
    (found,) = rules_of({kept: days}, use_cases(), now)
    return found


def record(store: Store, ids: str, type_: str, *, days_ago: float, item: str = "i") -> None:
    events = [event(id_, type_=type_, item=item) for id_ in ids]
    store.record_interactions(events, facts(events), now=NOW - days_ago * DAY)


def ids(store: Store) -> str:
    found = store.list_interactions(EVERYTHING, before=None, limit=99)
    return "".join(sorted(stored.interaction.interaction_id for stored in found))


def dislike(store: Store, id_: str, *, days_ago: float, item: str = "i") -> None:
    use_case = use_cases()[USE_CASE]
    at = NOW - days_ago * DAY
    store.record_dislike(
        Dislike(id_, USE_CASE, "s", item, "wrong_category", "", "", None, at),
        reason=use_case.dislikes["wrong_category"],
        facts=facts_of(use_case)["dislike"],
        item_kind="startup",
        now=at,
    )


def state(store: Store, now: datetime = NOW) -> SubjectState:
    return store.lookup_subject_state(USE_CASE, key("investor", "s"), now=now)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_what_is_old_and_under_the_rule_goes_and_nothing_else(store: Store, batch: int) -> None:
    record(store, "abc", "view", days_ago=40)
    record(store, "lm", "like", days_ago=40, item="j")
    record(store, "d", "dislike", days_ago=40)
    record(store, "xy", "view", days_ago=10)
    views = rule(Kept.VIEWS, 30)
    assert walk(store, views, batch=batch, dry_run=True) == 3
    assert ids(store) == "abcdlmxy"
    assert walk(store, views, batch=batch, dry_run=False) == 3
    assert ids(store) == "dlmxy"
    assert walk(store, views, batch=batch, dry_run=False) == 0
    assert walk(store, rule(Kept.INTERACTIONS, 30), batch=batch, dry_run=False) == 2
    assert ids(store) == "dxy"
    assert state(store).hidden_item_ids == ("i",)
    assert walk(store, rule(Kept.PLAIN_DISLIKES, 30), batch=batch, dry_run=False) == 1
    assert ids(store) == "xy"
    assert state(store).hidden_item_ids == ()
    assert walk(store, replace(views, before=NOW - 5 * DAY), batch=batch, dry_run=False) == 2
    assert ids(store) == ""


def test_counts_stay_and_an_id_that_has_gone_is_new_again(store: Store) -> None:
    record(store, "ab", "click", days_ago=40)
    before = store.list_item_stats(USE_CASE, after=ChangePosition(), limit=9).rows
    walk(store, rule(Kept.INTERACTIONS, 30), batch=9, dry_run=False)
    assert store.list_item_stats(USE_CASE, after=ChangePosition(), limit=9).rows == before
    assert state(store).interaction_count == 2
    assert state(store).recent_events.item_ids == ()
    again = [event("a")]
    assert store.record_interactions(again, facts(again), now=NOW) == ()
    assert state(store).interaction_count == 3


def test_age_counts_from_arrival(store: Store) -> None:
    events = [event("a", days=-4000)]
    store.record_interactions(events, facts(events), now=NOW)
    assert walk(store, rule(Kept.INTERACTIONS, 30), batch=9, dry_run=False) == 0
    assert walk(store, rule(Kept.INTERACTIONS, 30, NOW + 31 * DAY), batch=9, dry_run=False) == 1


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_a_clock_that_was_wrong_delays_only_its_own_rows(store: Store, batch: int) -> None:
    record(store, "a", "view", days_ago=40)
    record(store, "b", "view", days_ago=-400)
    record(store, "c", "view", days_ago=39)
    record(store, "d", "view", days_ago=1)
    assert walk(store, rule(Kept.VIEWS, 30), batch=max(batch, 2), dry_run=False) == 2
    assert ids(store) == "bd"
    assert walk(store, rule(Kept.VIEWS, 30, NOW + 30 * DAY), batch=max(batch, 2), dry_run=False) == 1
    assert ids(store) == "b"
    assert walk(store, rule(Kept.VIEWS, 30, NOW + 500 * DAY), batch=batch, dry_run=False) == 1


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_lists_go_and_their_interactions_keep_what_they_took(store: Store, batch: int) -> None:
    store.record_sessions([shown(f"x{n}") for n in range(5)], now=NOW - 40 * DAY)
    store.record_sessions([shown("y")], now=NOW - 10 * DAY)
    tied = [event("a", item="j", session_id="x0")]
    store.record_interactions(tied, facts(tied), now=NOW)
    assert walk(store, rule(Kept.SESSIONS, 30), batch=batch, dry_run=True) == 5
    assert walk(store, rule(Kept.SESSIONS, 30), batch=batch, dry_run=False) == 5
    assert [s.session_id for s in store.list_sessions(EVERYTHING, after=None, limit=9)] == ["y"]
    with pytest.raises(NotFound):
        store.get_session("x0")
    (found,) = store.list_interactions(EVERYTHING, before=None, limit=9)
    assert found.tie is not None
    assert found.tie.rank == 2
    late = [event("b", item="j", session_id="x0")]
    store.record_interactions(late, facts(late), now=NOW)
    assert store.list_interactions(EVERYTHING, before=None, limit=1)[0].tie is None


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_a_dislike_goes_with_its_interaction_and_its_effect(store: Store, batch: int) -> None:
    store.upsert_entities([startup("i"), startup("j"), startup("k", "health")], now=NOW)
    dislike(store, "d1", days_ago=100, item="i")
    dislike(store, "d2", days_ago=100, item="k")
    sequence = store.list_dislikes(EVERYTHING, unused_only=False, before=None, limit=1)[0].sequence
    store.mark_negatives_used(USE_CASE, release="r1", to_sequence=sequence, now=NOW)
    dislike(store, "d3", days_ago=20, item="j")
    assert {f.value for f in state(store).factors} == {"fintech", "health"}
    for kept in (Kept.VIEWS, Kept.INTERACTIONS, Kept.PLAIN_DISLIKES):
        assert walk(store, rule(kept, 10), batch=batch, dry_run=False) == 0
    assert walk(store, rule(Kept.DISLIKES, 90), batch=batch, dry_run=True) == 2
    assert walk(store, rule(Kept.DISLIKES, 90), batch=batch, dry_run=False) == 2
    assert walk(store, rule(Kept.DISLIKES, 90), batch=batch, dry_run=False) == 0
    (left,) = store.list_dislikes(EVERYTHING, unused_only=False, before=None, limit=9)
    assert left.dislike.dislike_id == "d3"
    found = state(store, NOW - 20 * DAY)
    assert found.hidden_item_ids == ("j",)
    assert found.interaction_count == 3
    (factor,) = found.factors
    assert factor.value == "fintech"
    assert factor.factor == pytest.approx(0.85)


def test_a_dislike_that_taught_nothing_is_kept_twice_as_long(store: Store) -> None:
    store.upsert_entities([startup("i")], now=NOW)
    dislike(store, "d", days_ago=100)
    assert walk(store, rule(Kept.DISLIKES, 60), batch=9, dry_run=False) == 0
    assert walk(store, rule(Kept.DISLIKES, 40), batch=9, dry_run=False) == 1
    assert state(store).factors == ()
    assert store.negative_numbers(USE_CASE).unused == 0
