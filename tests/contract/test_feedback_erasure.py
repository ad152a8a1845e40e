"""Erasure: nothing of an entity is left, nothing of others is lost, and late data stays out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from feedback_svc.catalog import ChangePosition
from feedback_svc.erasure import Erased, roles_of
from feedback_svc.sessions import RecordFilter
from feedback_svc.store.protocol import Store
from matchloop.entities import EntityKey
from matchloop.errors import NotFound
from tests.contract.test_feedback_store import dislike
from tests.feedback_worlds import NOW, USE_CASE, event, facts, key, shown, startup, use_cases

LATER = NOW + timedelta(hours=1)
START = ChangePosition()
ROLES = roles_of(use_cases())
ITEM, SUBJECT = key("startup", "i"), key("investor", "s")
ALL = RecordFilter(USE_CASE)


def erase(store: Store, which: EntityKey, *, hours: float = 1.0) -> Erased:
    return store.erase_entity(which, roles=ROLES, now=NOW + timedelta(hours=hours))


def record(store: Store, *events: object) -> tuple[str, ...]:
    sent = list(events)
    return store.record_interactions(sent, facts(sent), now=LATER)  # type: ignore[arg-type]


def investor(id_: str) -> object:
    return replace(startup(id_), key=key("investor", id_), features={})


def fill(store: Store) -> None:
    store.upsert_entities([startup("i"), startup("j"), investor("s"), investor("t")], now=NOW)  # type: ignore[list-item]
    store.record_sessions(
        [
            shown("mine", ("j", "k"), propensities=(0.5, 0.25)),
            shown(
                "both",
                ("j", "i", "k"),
                subject="t",
                propensities=(0.5, 0.25, 0.125),
                retrieval_scores=(7.5, 0.25, None),
            ),
            shown("only", ("i",), subject="t"),
            shown(
                "bare",
                ("i", "j"),
                subject="t",
                feature_names=(),
                feature_values=(),
                retrieval_scores=(0.5, None),
            ),
        ],
        now=NOW,
    )
    record(
        store, event("1"), event("2", item="j"), event("3", subject="t"), event("4", subject="t", item="j")
    )
    dislike(store, "d1", subject_id="t")
    dislike(store, "d2", subject_id="t", item_id="j")
    dislike(store, "d3")


class TestErasure:
    def test_an_erased_item_is_gone_from_everything(self, store: Store) -> None:
        fill(store)
        assert erase(store, ITEM) == Erased(True, 4, 2, 3, LATER)
        with pytest.raises(NotFound):
            store.get_entity(ITEM)
        left = store.list_interactions(ALL, before=None, limit=99)
        assert {s.interaction.interaction_id for s in left} == {"2", "4", "d2"}
        dislikes = store.list_dislikes(ALL, unused_only=False, before=None, limit=9)
        assert [s.dislike.dislike_id for s in dislikes] == ["d2"]
        sessions = {s.session_id: s for s in store.list_sessions(ALL, after=None, limit=9)}
        assert set(sessions) == {"mine", "both", "bare"}
        assert sessions["both"].item_ids == ("j", "k")
        assert sessions["both"].scores == pytest.approx((0.9, 0.7))
        assert sessions["both"].propensities == (0.5, 0.125)
        assert sessions["both"].retrieval_scores == (7.5, None)
        assert (sessions["mine"].retrieval_scores, sessions["bare"].retrieval_scores) == ((), ())
        assert sessions["both"].feature_values == (0.0, 0.25, 1.0, 1.25)
        assert (sessions["bare"].item_ids, sessions["bare"].feature_values) == (("j",), ())
        assert {s.item_id for s in store.list_item_stats(USE_CASE, after=START, limit=9).rows} == {"j"}

    def test_counts_and_factors_of_others_are_of_what_is_left(self, store: Store) -> None:
        fill(store)
        erase(store, ITEM)
        other = store.lookup_subject_state(USE_CASE, key("investor", "t"), now=NOW)
        assert (other.interaction_count, other.hidden_item_ids) == (2, ("j",))
        assert [f.factor for f in other.factors] == [pytest.approx(0.85)]
        alone = store.lookup_subject_state(USE_CASE, SUBJECT, now=NOW)
        assert (alone.interaction_count, alone.factors) == (1, ())

    def test_an_erased_subject_is_unknown(self, store: Store) -> None:
        fill(store)
        assert erase(store, SUBJECT) == Erased(True, 3, 1, 1, LATER)
        state = store.lookup_subject_state(USE_CASE, SUBJECT, now=NOW)
        assert (state.entity, state.interaction_count, state.hidden_item_ids, state.factors) == (
            None,
            0,
            (),
            (),
        )
        assert store.list_sessions(replace(ALL, subject_id="s"), after=None, limit=9) == []
        assert len(store.list_sessions(ALL, after=None, limit=9)) == 3
        assert len(store.list_item_stats(USE_CASE, after=START, limit=9).rows) == 2

    def test_the_kind_says_who_is_meant(self, store: Store) -> None:
        record(store, event("1", subject="same", item="x"), event("2", subject="y", item="same"))
        erase(store, key("investor", "same"))
        (left,) = store.list_interactions(ALL, before=None, limit=9)
        assert left.interaction.interaction_id == "2"

    def test_erasing_again_succeeds_and_says_what_was_left(self, store: Store) -> None:
        fill(store)
        erase(store, ITEM)
        assert erase(store, ITEM, hours=2) == Erased(False, 0, 0, 0, NOW + timedelta(hours=2))
        assert erase(store, ITEM).erase_time == NOW + timedelta(hours=2)
        assert not erase(store, key("startup", "nobody")).anything

    def test_late_data_stays_out_and_later_data_comes_in(self, store: Store) -> None:
        fill(store)
        erase(store, ITEM)
        erase(store, SUBJECT)
        late = [event("5", days=-1), event("6", item="j"), event("7", subject="t")]
        assert record(store, *late, event("8", subject="t", item="j")) == ("5", "6", "7")
        assert record(store, event("9", subject="t", days=1)) == ()
        receipt = dislike(store, "d9", subject_id="t")
        assert (receipt.duplicate, receipt.stored.changes) == (True, ())
        lists = [
            shown("s1", ("j",)),
            shown("s2", ("j", "i"), subject="t"),
            shown("s3", ("i",), subject="t"),
            shown("s4", ("i",), serve_time=NOW + timedelta(days=1)),
        ]
        assert store.record_sessions(lists, now=LATER).duplicates == ("s1", "s3")
        assert store.get_session("s2").item_ids == ("j",)
        assert store.get_session("s4").item_ids == ("i",)
        state = store.lookup_subject_state(USE_CASE, SUBJECT, now=LATER)
        assert (state.interaction_count, state.factors) == (0, ())
        ids = {s.interaction.interaction_id for s in store.list_interactions(ALL, before=None, limit=99)}
        assert not ids & {"5", "6", "7", "d9"}

    def test_kinds_are_known_after_a_restart_and_before_an_erasure(self, store: Store) -> None:
        store.keep_roles(ROLES)
        store.keep_roles(ROLES)
        store.erase_entity(ITEM, roles=(), now=LATER)
        assert record(store, event("1")) == ("1",)

    def test_who_follows_the_catalogue_learns_of_it_once(self, store: Store) -> None:
        fill(store)
        seen = store.list_entities(kinds=("startup",), after=START, limit=9, include_inactive=True)
        after = ChangePosition(seen.next_sequence)
        erase(store, ITEM)
        erase(store, SUBJECT)
        page = store.list_entities(kinds=("startup",), after=after, limit=9, include_inactive=True)
        assert page.rows == ()
        (tombstone,) = page.erased
        assert (tombstone.kind, tombstone.id_hash, tombstone.erase_time) == ("startup", ITEM.digest, LATER)
        rest = ChangePosition(page.next_sequence)
        assert (
            store.list_entities(kinds=("startup",), after=rest, limit=9, include_inactive=True).erased == ()
        )
        hidden = store.list_entities(kinds=(), after=START, limit=9, include_inactive=False)
        assert ({e.key.id for e in hidden.rows}, hidden.erased) == ({"t", "j"}, ())
        store.upsert_entities([startup("i")], now=LATER + timedelta(hours=1))
        assert store.get_entity(ITEM).create_time == LATER + timedelta(hours=1)

    def test_entities_and_tombstones_come_in_one_order_page_by_page(self, store: Store) -> None:
        expected = []
        for n in range(6):
            store.upsert_entities([startup(f"e{n}")], now=NOW)
            if n % 2:
                erase(store, key("startup", f"e{n}"))
                expected.append(key("startup", f"e{n}").digest)
            else:
                expected.append(f"e{n}")
        found, position = [], START
        while True:
            page = store.list_entities(kinds=("startup",), after=position, limit=1, include_inactive=True)
            found += [e.key.id for e in page.rows] + [t.id_hash for t in page.erased]
            if page.position is None:
                break
            position = page.position
        assert found == expected
        only = store.list_entities(kinds=(), after=START, limit=9, include_inactive=False, erased_only=True)
        assert (only.rows, len(only.erased)) == ((), 3)
