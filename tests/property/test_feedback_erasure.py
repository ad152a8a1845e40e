"""Erasing is idempotent, and leaves what would be there had the entity never been; counts of items apart."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_svc.catalog import ChangePosition
from feedback_svc.erasure import roles_of
from feedback_svc.interactions import Interaction
from feedback_svc.sessions import RecordFilter, Session
from feedback_svc.store.memory import MemoryStore
from matchloop.entities import EntityKey
from tests.contract.test_feedback_store import dislike
from tests.feedback_worlds import NOW, USE_CASE, event, facts, key, shown, startup, use_cases

ROLES = roles_of(use_cases())
ALL = RecordFilter(USE_CASE)
SUBJECTS, ITEMS = ("s0", "s1", "s2"), ("i0", "i1", "i2", "i3")

subjects, items = st.sampled_from(SUBJECTS), st.sampled_from(ITEMS)
writes = st.lists(
    st.one_of(
        st.tuples(st.just("event"), subjects, items, st.sampled_from(["view", "like"])),
        st.tuples(st.just("dislike"), subjects, items, st.just("")),
        st.tuples(st.just("list"), subjects, st.lists(items, min_size=1, unique=True), st.just("")),
    ),
    max_size=25,
)
erased = st.one_of(subjects.map(lambda id_: key("investor", id_)), items.map(lambda id_: key("startup", id_)))


def store_of(ops: list[Any], without: EntityKey | None = None) -> MemoryStore:
    """Write everything; `without`: all but what is about this entity."""
    store = MemoryStore()
    gone = "" if without is None else without.id
    store.upsert_entities([startup(id_) for id_ in ITEMS if id_ != gone], now=NOW)
    for number, (what, subject, item, event_type) in enumerate(ops):
        shown_items = tuple(one for one in item if one != gone) if what == "list" else (item,)
        if subject == gone or not shown_items or shown_items == (gone,):
            continue
        if what == "event":
            one: Interaction = event(f"e{number}", subject, item, event_type)
            store.record_interactions([one], facts([one]), now=NOW)
        elif what == "dislike":
            dislike(store, f"d{number}", subject_id=subject, item_id=item)
        else:
            store.record_sessions([_list(f"x{number}", tuple(item), subject, gone)], now=NOW)
    return store


def _list(id_: str, items: tuple[str, ...], subject: str, gone: str) -> Session:
    kept = shown(id_, items, subject).without({gone})
    assert kept is not None
    return kept


def seen(store: MemoryStore) -> Any:
    """Return all that can be asked of a store but sequences and what is counted of items."""
    states = [store.lookup_subject_state(USE_CASE, key("investor", s), now=NOW) for s in SUBJECTS]
    entities = store.list_entities(kinds=(), after=ChangePosition(), limit=99, include_inactive=False)
    kept = store.list_dislikes(ALL, unused_only=False, before=None, limit=99)
    return (
        [s.interaction for s in store.list_interactions(ALL, before=None, limit=99)],
        store.list_sessions(ALL, after=None, limit=99),
        [s.dislike for s in kept],
        [(s.interaction_count, s.recent_events, s.hidden_item_ids, s.factors) for s in states],
        {e.key.id for e in entities.rows},
    )


@settings(deadline=None)
@given(writes, erased)
def test_an_erasure_leaves_what_would_be_there_had_the_entity_never_been(
    ops: list[Any], which: EntityKey
) -> None:
    store = store_of(ops)
    store.erase_entity(which, roles=ROLES, now=NOW)
    found = seen(store)
    assert found == seen(store_of(ops, without=which))
    assert not store.erase_entity(which, roles=ROLES, now=NOW).anything
    assert seen(store) == found


@settings(deadline=None)
@given(writes, erased, st.integers(0, 25))
def test_what_comes_before_or_after_the_erasure_makes_no_difference(
    ops: list[Any], which: EntityKey, cut: int
) -> None:
    """Late data: every write has the same event time, not later than the erasure."""
    early = store_of(ops)
    early.erase_entity(which, roles=ROLES, now=NOW)
    late = MemoryStore()
    late.erase_entity(which, roles=ROLES, now=NOW)
    late.upsert_entities([startup(id_) for id_ in ITEMS if id_ != which.id], now=NOW)
    for number, (what, subject, item, event_type) in enumerate(ops):
        if what == "event":
            one = event(f"e{number}", subject, item, event_type)
            late.record_interactions([one], facts([one]), now=NOW)
        elif what == "dislike":
            dislike(late, f"d{number}", subject_id=subject, item_id=item)
        else:
            late.record_sessions([shown(f"x{number}", tuple(item), subject)], now=NOW)
        if number == cut:
            late.erase_entity(which, roles=ROLES, now=NOW)
    assert seen(late) == seen(early)
