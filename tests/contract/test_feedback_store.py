"""What every store promises; the same tests over memory and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from feedback_svc.catalog import ChangePosition, Deactivated, UpsertCounts
from feedback_svc.dislikes import Dislike, Receipt
from feedback_svc.erasure import roles_of
from feedback_svc.insight import microseconds
from feedback_svc.interactions import Tie, facts_of
from feedback_svc.sessions import RecordFilter, SessionsRecorded
from feedback_svc.store.protocol import Store
from matchloop.entities import Embedding, Multi, Numeric, Text
from matchloop.errors import Conflict, NotFound, Reason
from matchloop.usecase import Method
from tests.feedback_worlds import NOW, USE_CASE, event, facts, key, shown, startup, use_cases

LATER = NOW + timedelta(hours=1)
START = ChangePosition()


class TestStore:
    def test_an_upsert_says_what_it_did_and_keeps_every_type(self, store: Store) -> None:
        full = startup(
            "a",
            name=Text('quo"te \\ and ünïcode\n{},'),
            founded_year=Numeric(1e-17 + 0.1),
            tags=Multi(("z", "b")),
            embedding=Embedding((0.1, -2.5, 1e-30)),
        )
        assert store.upsert_entities([full, startup("b")], now=NOW) == UpsertCounts(2, 0, 0)
        found = store.get_entity(key("startup", "a"))
        assert found.features["name"] == full.features["name"]
        assert found.features["founded_year"] == full.features["founded_year"]
        assert found.features["tags"] == Multi(("b", "z"))
        embedding = found.features["embedding"]
        assert isinstance(embedding, Embedding)
        assert embedding.vector == pytest.approx((0.1, -2.5, 1e-30), rel=1e-6)
        assert (found.create_time, found.update_time, found.active) == (NOW, NOW, True)
        again = [full, startup("b", "health"), startup("c")]
        assert store.upsert_entities(again, now=LATER) == UpsertCounts(1, 1, 1)
        assert store.get_entity(key("startup", "a")) == found
        assert store.get_entity(key("startup", "b")).create_time == NOW

    def test_a_given_create_time_stays_until_another_is_given(self, store: Store) -> None:
        born = NOW - timedelta(days=1000)
        store.upsert_entities([replace(startup("a"), create_time=born)], now=NOW)
        store.upsert_entities([startup("a", "health")], now=LATER)
        assert store.get_entity(key("startup", "a")).create_time == born
        store.upsert_entities([replace(startup("a", "health"), create_time=NOW)], now=LATER)
        assert store.get_entity(key("startup", "a")).create_time == NOW

    def test_an_unknown_entity_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound) as error:
            store.get_entity(key("startup", "nobody"))
        assert error.value.reason is Reason.ENTITY_NOT_FOUND

    def test_deactivated_is_hidden_until_upserted_again(self, store: Store) -> None:
        store.upsert_entities([startup("a"), startup("b")], now=NOW)
        keys = [key("startup", "a"), key("startup", "x")]
        assert store.deactivate_entities(keys, now=LATER) == Deactivated(1, (key("startup", "x"),))
        assert store.deactivate_entities(keys[:1], now=LATER) == Deactivated(0, ())
        shown_now = store.list_entities(kinds=(), after=START, limit=9, include_inactive=False)
        assert [e.key.id for e in shown_now.rows] == ["b"]
        everything = store.list_entities(kinds=(), after=START, limit=9, include_inactive=True)
        assert [(e.key.id, e.active) for e in everything.rows] == [("b", True), ("a", False)]
        assert store.upsert_entities([startup("a")], now=LATER) == UpsertCounts(0, 1, 0)
        assert store.get_entity(key("startup", "a")).active

    def test_a_mirror_sees_every_entity_page_by_page_and_then_only_changes(self, store: Store) -> None:
        store.upsert_entities([startup(f"{n:02}") for n in range(7)], now=NOW)
        store.upsert_entities([replace(startup("i"), key=key("investor", "i"), features={})], now=NOW)
        ids, position = [], START
        while True:
            page = store.list_entities(kinds=(), after=position, limit=3, include_inactive=True)
            ids += [e.key.id for e in page.rows]
            if page.position is None:
                break
            position = page.position
        assert ids == [f"{n:02}" for n in range(7)] + ["i"]
        later = ChangePosition(page.next_sequence)
        assert store.list_entities(kinds=(), after=later, limit=9, include_inactive=True).rows == ()
        store.upsert_entities([startup("03", "health"), startup("04")], now=LATER)
        changed = store.list_entities(kinds=("startup",), after=later, limit=9, include_inactive=True)
        assert [e.key.id for e in changed.rows] == ["03"]
        none = store.list_entities(kinds=("movie",), after=START, limit=9, include_inactive=True)
        assert none.rows == ()

    def test_interactions_count_once(self, store: Store) -> None:
        events = [event("1"), event("2", type_="view"), event("3", item="j", type_="like")]
        assert store.record_interactions(events, facts(events), now=NOW) == ()
        assert store.record_interactions(events, facts(events), now=LATER) == ("1", "2", "3")
        mixed = [event("3", item="zzz"), event("4", item="j", type_="dislike"), event("1")]
        assert store.record_interactions(mixed, facts(mixed), now=LATER) == ("3", "1")
        stats = store.list_item_stats(USE_CASE, after=START, limit=9).rows
        assert sorted((s.item_id, s.views, s.interactions, s.decayed_weight) for s in stats) == [
            ("i", 1, 1, 1.5),
            ("j", 0, 1, 2.0),
        ]
        assert store.list_item_stats("user_movie", after=START, limit=9).rows == ()
        state = store.lookup_subject_state(USE_CASE, key("investor", "s"), now=LATER)
        assert state.interaction_count == 4

    def test_weights_decay_between_events_that_come_in_any_order(self, store: Store) -> None:
        half_life = use_cases()[USE_CASE].popularity.half_life_days
        for id_, days in (("b", -half_life), ("c", 0.0), ("a", -3 * half_life)):
            batch = [event(id_, days=days)]
            store.record_interactions(batch, facts(batch), now=NOW)
        batch = [event("y", item="j", days=-20_000), event("x", item="j")]
        store.record_interactions(batch, facts(batch), now=NOW)
        stats = {s.item_id: s for s in store.list_item_stats(USE_CASE, after=START, limit=9).rows}
        assert stats["i"].decayed_weight == pytest.approx(1 + 1 / 2 + 1 / 8)
        assert stats["i"].decay_time == NOW
        assert stats["j"].decayed_weight == pytest.approx(1.0)

    def test_a_session_is_kept_as_it_was_and_once(self, store: Store) -> None:
        full = shown(
            "x",
            ('i"', "j\\", "k"),
            propensities=(0.5, 0.0, 1.0),
            methods=(Method.ALS, None, None),
            retrieval_scores=(-1e300, None, 0.1),
        )
        bare = shown("y", feature_names=(), feature_values=(), tier=None, release="")
        assert store.record_sessions([full, bare], now=NOW) == SessionsRecorded(2, (), 0)
        assert store.record_sessions([replace(full, release="r2")], now=NOW).duplicates == ("x",)
        assert store.get_session("x") == full
        assert store.get_session("y") == bare
        with pytest.raises(NotFound) as error:
            store.get_session("z")
        assert error.value.reason is Reason.SESSION_NOT_FOUND

    def test_sessions_are_listed_latest_first(self, store: Store) -> None:
        times = {f"s{n}": NOW + timedelta(minutes=n // 2) for n in range(6)}
        store.record_sessions([shown(id_, serve_time=time) for id_, time in times.items()], now=NOW)
        store.record_sessions([shown("other", ("q",), subject="t", release="r2")], now=NOW)
        mine = RecordFilter(USE_CASE, subject_id="s")
        page = store.list_sessions(mine, after=None, limit=4)
        assert [s.session_id for s in page] == ["s5", "s4", "s3", "s2"]
        rest = store.list_sessions(mine, after=(page[-1].serve_time, "s2"), limit=4)
        assert [s.session_id for s in rest] == ["s1", "s0"]
        for which in (RecordFilter(USE_CASE, item_id="q"), RecordFilter(USE_CASE, release="r2")):
            assert [s.session_id for s in store.list_sessions(which, after=None, limit=9)] == ["other"]
        bounded = replace(mine, from_time=NOW + timedelta(minutes=1), to_time=NOW + timedelta(minutes=2))
        assert [s.session_id for s in store.list_sessions(bounded, after=None, limit=9)] == ["s3", "s2"]

    @pytest.mark.parametrize("session_first", [True, False])
    def test_an_interaction_is_tied_to_its_session_whichever_comes_first(
        self, store: Store, session_first: bool
    ) -> None:
        events = [
            event("on", item="j", session_id="x"),
            event("off", item="q", session_id="x"),
            event("else", subject="t", session_id="x"),
            event("free"),
        ]
        if session_first:
            store.record_sessions([shown("x")], now=NOW)
        store.record_interactions(events, facts(events), now=NOW)
        if not session_first:
            assert store.record_sessions([shown("x")], now=NOW) == SessionsRecorded(1, (), 2)
        found = store.list_interactions(RecordFilter(USE_CASE), before=None, limit=9)
        assert {s.interaction.interaction_id: s.tie for s in found} == {
            "on": Tie(2, 0.9 - 0.1, Method.ALS, "r1"),
            "off": Tie(0, None, None, "r1"),
            "else": None,
            "free": None,
        }
        assert [s.interaction for s in reversed(found)] == events

    def test_a_batch_of_lists_does_for_each_what_it_would_alone(self, store: Store) -> None:
        waiting = [event("w", item="j", session_id="waited"), event("e", "gone", session_id="erased")]
        store.record_interactions(waiting, facts(waiting), now=NOW)
        dislike(store, "d", session_id="disliked")
        store.record_sessions([shown("before", scores=(0.5, 0.25))], now=NOW)
        store.erase_entity(key("investor", "gone"), roles=roles_of(use_cases()), now=NOW)
        batch = [shown(id_) for id_ in ("disliked", "before", "plain", "waited")]
        batch.insert(1, shown("erased", subject="gone"))
        assert store.record_sessions(batch, now=NOW) == SessionsRecorded(3, ("erased", "before"), 2)
        stored = store.list_sessions(RecordFilter(USE_CASE), after=None, limit=9)
        assert [s.session_id for s in stored] == ["waited", "plain", "disliked", "before"]
        assert store.get_session("before").scores == (0.5, 0.25)
        found = store.list_interactions(RecordFilter(USE_CASE), before=None, limit=9)
        assert {s.interaction.interaction_id: s.tie and s.tie.rank for s in found} == {"w": 2, "d": 1}
        (kept,) = store.list_dislikes(RecordFilter(USE_CASE), unused_only=True, before=None, limit=9)
        assert kept.dislike.predicted_score == 0.9

    def test_interactions_are_listed_by_arrival(self, store: Store) -> None:
        for n in range(4):
            batch = [event(f"{n}{m}", item=f"i{m}", days=-n) for m in range(2)]
            store.record_interactions(batch, facts(batch), now=NOW + timedelta(minutes=n))
        everything = RecordFilter(USE_CASE)
        first = store.list_interactions(everything, before=None, limit=3)
        assert [s.interaction.interaction_id for s in first] == ["31", "30", "21"]
        assert first[0].receive_time == NOW + timedelta(minutes=3)
        rest = store.list_interactions(everything, before=first[-1].sequence, limit=9)
        assert [s.interaction.interaction_id for s in rest] == ["20", "11", "10", "01", "00"]
        of_item = store.list_interactions(replace(everything, item_id="i1"), before=None, limit=9)
        assert [s.interaction.interaction_id for s in of_item] == ["31", "21", "11", "01"]

    def test_a_state_holds_what_was_acknowledged(self, store: Store) -> None:
        store.upsert_entities([replace(startup("s"), key=key("investor", "s"), features={})], now=NOW)
        events = [
            event("1", item="a", days=-2),
            event("2", item="b", type_="like", days=-1),
            event("3", item="c", type_="dislike", days=-3),
            event("4", item="b", type_="apply", days=-4),
        ]
        store.record_interactions(events, facts(events), now=NOW)
        state = store.lookup_subject_state(USE_CASE, key("investor", "s"), now=NOW)
        assert state.entity is not None
        assert state.interaction_count == 4
        assert state.recent_events.item_ids == ("b", "a", "c", "b")
        assert state.recent_events.event_types == ("like", "click", "dislike", "apply")
        assert state.recent_events.times[1] == microseconds(NOW - timedelta(days=2))
        assert state.hidden_item_ids == ("b", "c")
        unknown = store.lookup_subject_state(USE_CASE, key("investor", "nobody"), now=NOW)
        assert (unknown.entity, unknown.interaction_count, unknown.recent_events.times) == (None, 0, ())

    def test_a_state_is_bounded(self, store: Store) -> None:
        for first in (0, 300):
            batch = [event(f"{n}", item=f"i{n}", days=-n) for n in range(first, first + 300)]
            store.record_interactions(batch, facts(batch), now=NOW)
        state = store.lookup_subject_state(USE_CASE, key("investor", "s"), now=NOW)
        assert state.recent_events.item_ids == tuple(f"i{n}" for n in range(500))
        assert state.interaction_count == 600

    def test_a_dislike_hides_cuts_and_makes_an_example(self, store: Store) -> None:
        store.upsert_entities([startup("i")], now=NOW)
        store.record_sessions([shown("x")], now=NOW)
        receipt = dislike(store, "d1", session_id="x")
        (change,) = receipt.stored.changes
        assert (change.feature, change.value, change.before) == ("category", "fintech", 1.0)
        assert change.after == pytest.approx(0.85)
        assert change.half_life_time == NOW + timedelta(days=90)
        assert receipt.stored.error == pytest.approx(0.9)
        assert not receipt.duplicate
        again = dislike(store, "d1", session_id="x")
        assert again.duplicate
        assert again.stored.changes == receipt.stored.changes
        state = store.lookup_subject_state(USE_CASE, key("investor", "s"), now=NOW)
        assert state.hidden_item_ids == ("i",)
        assert state.recent_events.event_types == ("dislike",)
        assert [(f.feature, f.value) for f in state.factors] == [("category", "fintech")]
        assert state.factors[0].factor == pytest.approx(0.85)
        late = NOW + timedelta(days=90)
        (halved,) = store.lookup_subject_state(USE_CASE, key("investor", "s"), now=late).factors
        assert halved.factor == pytest.approx(0.925)

    def test_a_state_tells_the_reasons_of_dislikes(self, store: Store) -> None:
        plain = [event("1", item="a", days=-1), event("2", item="b", type_="dislike", days=-3)]
        store.record_interactions(plain, facts(plain), now=NOW)
        dislike(store, "d1", item_id="c", event_time=NOW - timedelta(days=2))
        dislike(store, "d2", item_id="d", event_time=NOW)
        events = store.lookup_subject_state(USE_CASE, key("investor", "s"), now=NOW).recent_events
        assert events.item_ids == ("d", "a", "c", "b")
        assert events.event_types == ("dislike", "click", "dislike", "dislike")
        assert events.reasons == {0: "wrong_category", 2: "wrong_category"}

    def test_dislikes_multiply_down_to_the_floor_in_any_order(self, store: Store) -> None:
        store.upsert_entities([startup(f"i{n}") for n in range(12)], now=NOW)
        for n in (3, 0, 2, 1):
            dislike(store, f"d{n}", item_id=f"i{n}", event_time=NOW + timedelta(days=30 * n))
        expected = 1.0
        for _ in range(4):
            expected = (1 - (1 - expected) * 2 ** (-1 / 3)) * 0.85
        now = NOW + timedelta(days=90)
        (factor,) = store.lookup_subject_state(USE_CASE, key("investor", "s"), now=now).factors
        assert factor.factor == pytest.approx(expected)
        for n in range(4, 12):
            dislike(store, f"d{n}", item_id=f"i{n}", event_time=now)
        (factor,) = store.lookup_subject_state(USE_CASE, key("investor", "s"), now=now).factors
        assert factor.factor == pytest.approx(0.2)

    def test_an_id_is_given_once(self, store: Store) -> None:
        store.record_interactions([event("1")], facts([event("1")]), now=NOW)
        with pytest.raises(Conflict):
            dislike(store, "1")
        dislike(store, "2")
        with pytest.raises(Conflict):
            dislike(store, "2", item_id="another")
        assert store.record_interactions([event("2")], facts([event("2")]), now=NOW) == ("2",)
        state = store.lookup_subject_state(USE_CASE, key("investor", "s"), now=NOW)
        assert state.interaction_count == 2

    def test_a_dislike_learns_its_score_when_the_session_comes(self, store: Store) -> None:
        assert dislike(store, "d", session_id="x").stored.error is None
        store.record_sessions([shown("x", scores=(1.5, 0.1))], now=NOW)
        (kept,) = store.list_dislikes(RecordFilter(USE_CASE), unused_only=True, before=None, limit=9)
        assert (kept.error, kept.dislike.predicted_score) == (1.0, 1.0)

    def test_negatives_are_marked_by_the_first_training_that_used_them(self, store: Store) -> None:
        for n in range(4):
            dislike(store, f"d{n}", item_id=f"i{n}", predicted_score=0.2 * n)
        everything = RecordFilter(USE_CASE)
        kept = store.list_dislikes(everything, unused_only=False, before=None, limit=3)
        assert [d.dislike.dislike_id for d in kept] == ["d3", "d2", "d1"]
        numbers = store.negative_numbers(USE_CASE)
        assert (numbers.unused, numbers.with_error, numbers.last_release) == (4, 4, "")
        assert numbers.mean_error == pytest.approx(0.3)
        to = kept[1].sequence
        assert store.mark_negatives_used(USE_CASE, release="r1", to_sequence=to, now=NOW) == 3
        assert store.mark_negatives_used(USE_CASE, release="r1", to_sequence=to, now=LATER) == 0
        assert store.mark_negatives_used(USE_CASE, release="r2", to_sequence=2**60, now=LATER) == 1
        after = store.negative_numbers(USE_CASE)
        assert (after.unused, after.last_retrain_time, after.last_release) == (0, LATER, "r2")
        kept = store.list_dislikes(everything, unused_only=False, before=None, limit=9)
        assert [d.used_by_release for d in kept] == ["r2", "r1", "r1", "r1"]
        assert store.list_dislikes(everything, unused_only=True, before=None, limit=9) == []


def dislike(store: Store, id_: str, **given: object) -> Receipt:
    use_case = use_cases()[USE_CASE]
    sent = Dislike(id_, USE_CASE, "s", "i", "wrong_category", "", "", None, NOW)
    return store.record_dislike(
        replace(sent, **given),  # type: ignore[arg-type]
        reason=use_case.dislikes["wrong_category"],
        facts=facts_of(use_case)["dislike"],
        item_kind="startup",
        now=NOW,
    )
