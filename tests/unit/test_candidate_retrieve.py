"""Retrieval of one use case: tiers, methods that fail, exclusions; never nothing while something is left."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from types import MappingProxyType

import numpy as np
import pytest

from candidate_svc.domain import EXPLANATIONS, Asked, Equals, SubjectState, Within
from candidate_svc.query import Query
from candidate_svc.states import RememberedStates
from matchloop.entities import Categorical, Embedding, EntityId, Kind, Multi, Text
from matchloop.features import HashingEmbedder
from matchloop.retrieval.routing import SkipReason
from matchloop.retrieval.scored import Hit
from matchloop.usecase import Method, Tier
from tests.candidate_world import (
    NOW,
    FakeStore,
    developer,
    event,
    ids,
    startup,
    startups,
    state,
    stats,
    use_case,
    world,
)

SUBJECT = EntityId("d1")
GAMES = developer("d1", categories=Multi(("games",)))


def asked(**more: object) -> Asked:
    return Asked(use_case(), SUBJECT, **more)  # type: ignore[arg-type]


class Raising:
    def find(self, query: Query, k: int) -> Sequence[Hit] | SkipReason:
        raise ZeroDivisionError("a bug")


class Fixed:
    """Gives these items, whatever was asked."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked: list[int] = []

    def find(self, query: Query, k: int) -> Sequence[Hit] | SkipReason:
        self.asked.append(k)
        return [
            Hit(EntityId(name), 1.0 - 0.01 * rank)
            for rank, name in enumerate(self.names)
            if query.may_show(EntityId(name))
        ][:k]


def test_a_cold_subject_with_a_profile_gets_what_fits_it() -> None:
    made = world(startups(40))
    found = made.retriever.find(asked(count=5), state(GAMES))
    assert found.tier is Tier.COLD
    assert [each.method for each in found.candidates] == [Method.CONTENT] * 5
    assert all(int(each.item_id[1:]) % 4 == 2 for each in found.candidates)
    assert found.skipped == ()
    assert found.release == ""


def test_an_unknown_subject_gets_the_popular_items() -> None:
    made = world(startups(10), [stats("s4", weight=9.0), stats("s7", weight=5.0)])
    found = made.retriever.find(asked(count=3), SubjectState())
    assert ids(found.candidates)[:2] == ["s4", "s7"]
    assert {each.method for each in found.candidates} == {Method.POPULAR}
    assert [(skip.method, skip.reason) for skip in found.skipped] == [(Method.CONTENT, SkipReason.NO_SIGNAL)]


def test_request_features_stand_in_for_an_unknown_subject_and_over_stored_ones() -> None:
    made = world(startups(40))
    features = MappingProxyType({"categories": Multi(("energy",))})
    for stored in (SubjectState(), state(GAMES)):
        found = made.retriever.find(asked(count=4, subject_features=features), stored)
        assert all(int(each.item_id[1:]) % 4 == 3 for each in found.candidates)


def test_no_state_at_all_is_answered_and_said() -> None:
    made = world(startups(3))
    found = made.retriever.find(asked(), None, degraded=("feedback",))
    assert len(found.candidates) == 3
    assert found.degraded == ("feedback",)
    assert made.metrics.value("matchloop_degraded_total", use_case=use_case().id, part="feedback") == 1


@pytest.mark.parametrize(
    ("events", "tier"), [(4, Tier.COLD), (5, Tier.WARM), (19, Tier.WARM), (20, Tier.HOT)]
)
def test_tiers(events: int, tier: Tier) -> None:
    made = world(startups(5))
    found = made.retriever.find(asked(), SubjectState(interaction_count=events))
    assert found.tier is tier


def test_a_warm_subject_without_release_is_told_what_is_missing() -> None:
    made = world(startups(12))
    history = [event("s2"), event("s6"), event("s10"), event("s2", "click"), event("s6", "view")]
    found = made.retriever.find(asked(count=2), state(None, history, hidden=frozenset({"s2"})))
    assert set(ids(found.candidates)) == {"s6", "s10"}
    assert [(skip.method, skip.reason) for skip in found.skipped] == [
        (Method.TWO_TOWER, SkipReason.MISSING),
        (Method.ALS, SkipReason.MISSING),
    ]
    labels = {"use_case": use_case().id, "method": "als", "reason": "missing"}
    assert made.metrics.value("matchloop_method_skips_total", **labels) == 1


def test_a_method_that_fails_is_followed_by_the_next() -> None:
    made = world(startups(12))
    made.methods[Method.TWO_TOWER] = Raising()
    made.methods[Method.ALS] = Fixed("s1", "s2")
    found = made.retriever.find(asked(count=5), SubjectState(interaction_count=10, entity=GAMES))
    assert [each.method for each in found.candidates] == [Method.ALS] * 2 + [Method.CONTENT] * 2 + [
        Method.POPULAR
    ]
    assert len(set(ids(found.candidates))) == 5
    assert [(skip.method, skip.reason) for skip in found.skipped] == [
        (Method.TWO_TOWER, SkipReason.FAILED),
        (Method.ALS, SkipReason.TOO_FEW),
        (Method.CONTENT, SkipReason.TOO_FEW),
    ]


def test_no_method_is_asked_when_time_is_up_but_there_is_an_answer() -> None:
    made = world(startups(12))
    made.left = 0.001
    late = Fixed("s1")
    made.methods[Method.TWO_TOWER] = late
    found = made.retriever.find(asked(count=5), SubjectState(interaction_count=10, entity=GAMES))
    assert len(found.candidates) == 5
    assert {each.method for each in found.candidates} == {Method.POPULAR}
    assert {skip.reason for skip in found.skipped} == {SkipReason.TIMED_OUT}
    assert late.asked == []


def test_the_methods_of_the_request_are_asked_and_no_others() -> None:
    made = world(startups(12))
    found = made.retriever.find(asked(methods=(Method.ALS,)), state(GAMES))
    assert found.candidates == ()
    assert [(skip.method, skip.reason) for skip in found.skipped] == [(Method.ALS, SkipReason.MISSING)]
    found = made.retriever.find(asked(methods=(Method.POPULAR, Method.CONTENT)), state(GAMES))
    assert {each.method for each in found.candidates} == {Method.POPULAR}


def test_hidden_excluded_and_inactive_items_are_never_given() -> None:
    made = world(startups(12))
    made.store.deactivate("s2")
    made.mirror.poll_once()
    found = made.retriever.find(
        asked(count=50, exclude=frozenset({"s6"})), state(GAMES, hidden=frozenset({"s10", "unknown"}))
    )
    assert set(ids(found.candidates)) == {f"s{i}" for i in range(12)} - {"s2", "s6", "s10"}


def test_everything_excluded_one_item_empty_catalogue() -> None:
    everything = frozenset(f"s{i}" for i in range(12))
    for made, request in (
        (world(startups(12)), asked(exclude=everything)),
        (world(), asked()),
        (world(startups(3)), asked(filters=(Equals("category", "none such"),))),
    ):
        found = made.retriever.find(request, state(GAMES))
        assert found.candidates == ()
        assert found.skipped == ()
    one = world(startups(1)).retriever.find(asked(count=500), state(GAMES))
    assert ids(one.candidates) == ["s0"]


def test_filters_hold_whatever_the_method() -> None:
    made = world(startups(60), [stats("s1", weight=3.0)])
    filters = (Equals("country", "de"), Within("founded_year", minimum=2005.0))
    found = made.retriever.find(asked(count=50, filters=filters), state(GAMES))
    fits = {f"s{i}" for i in range(60) if i % 3 == 0 and i % 20 >= 5}
    assert set(ids(found.candidates)) == fits
    assert {each.method for each in found.candidates} == {Method.CONTENT, Method.POPULAR}


def test_only_these_items_are_scored() -> None:
    made = world(startups(30))
    only = ("s2", "s3", "s6", "unknown", "s10")
    found = made.retriever.find(asked(count=1, only=only), state(GAMES, hidden=frozenset({"s6"})))
    assert set(ids(found.candidates)) == {"s2", "s3", "s10"}
    assert ids(found.candidates)[2] == "s3"


def test_the_order_and_filling_up_do_not_give_an_item_twice() -> None:
    made = world(startups(30))
    made.methods[Method.CONTENT] = Fixed("s3", "s1")
    found = made.retriever.find(asked(count=30), state(GAMES))
    assert ids(found.candidates)[:2] == ["s3", "s1"]
    assert sorted(ids(found.candidates)) == sorted(f"s{i}" for i in range(30))


def test_what_ranking_needs_comes_with_each_candidate() -> None:
    counts = [stats("s2", views=4, interactions=2), stats("s3", views=90, interactions=3)]
    made = world(startups(8), counts)
    seen = [event("s2"), event("s3", "dislike")]
    found = made.retriever.find(asked(count=8), state(GAMES, seen))
    assert found.feature_names == ("popularity", "subject_affinity", "als_score", "response")
    by_id = {each.item_id: each for each in found.candidates}
    popularity, affinity, _, response = by_id[EntityId("s2")].features
    assert popularity == pytest.approx(np.log(11) / np.log(100))
    assert response == pytest.approx(3 / 8)
    assert affinity > by_id[EntityId("s3")].features[1] == 0.0
    assert by_id[EntityId("s2")].diversity_values == (("games",), (), ())
    assert by_id[EntityId("s2")].create_time == NOW - timedelta(days=10)


def test_dislike_weights_push_an_item_down() -> None:
    made = world([startup("g", category=Categorical("games")), startup("h", category=Categorical("health"))])
    both = developer("d1", categories=Multi(("games", "health")))
    factors = MappingProxyType({("category", "games"): 0.3})
    found = made.retriever.find(asked(), state(both, weight_factors=factors))
    assert ids(found.candidates) == ["h", "g"]
    assert found.candidates[0].score > found.candidates[1].score


def test_explanations_name_the_fields_and_sum_to_the_score() -> None:
    made = world(startups(20))
    subject = developer("d1", categories=Multi(("games",)), country=Categorical("us"))
    found = made.retriever.find(asked(count=1, explain=True), state(subject, [event("s2")]))
    (best,) = found.candidates
    assert sum(part.amount for part in best.contributions) == pytest.approx(best.score, abs=1e-5)
    by_field = {part.field: part.values for part in best.contributions}
    assert by_field["categories~category"] == ("games",)
    assert by_field["country~country"] == ("us",)
    assert by_field["reacted~tags"]
    plain = made.retriever.find(asked(count=1), state(subject, [event("s2")]))
    assert plain.candidates[0].contributions == ()


def test_explanations_name_what_dislikes_have_cut() -> None:
    made = world(startups(20))
    subject = developer("d1", categories=Multi(("games",)), country=Categorical("us"))
    factors = MappingProxyType({("category", "games"): 0.85, ("tags", "t2"): 0.9, ("tags", "u2"): 0.7})
    known = state(subject, [event("s6")], weight_factors=factors)
    found = made.retriever.find(asked(count=20, explain=True), known)
    by_id = {each.item_id: {part.field: part for part in each.contributions} for each in found.candidates}
    cut = by_id[EntityId("s2")]  # games, t2, u2
    assert [(each.value, each.factor) for each in cut["categories~category"].factors] == [("games", 0.85)]
    assert [(each.value, each.factor) for each in cut["reacted~tags"].factors] == [("u2", 0.7), ("t2", 0.9)]
    assert cut["reacted~tags"].values == ("t2", "u2")
    assert cut["reacted~tags"].amount < 0.0  # nothing wanted them: they are pushed away
    assert all(not part.factors for part in by_id[EntityId("s5")].values())


def test_a_list_comes_without_explanations_when_they_fail() -> None:
    made = world(startups(8))
    broken = developer("d1", embedding=Embedding((1.0, 2.0)))  # of another width: content refuses it
    found = made.retriever.find(asked(explain=True), state(broken))
    assert len(found.candidates) == 8
    assert found.degraded == (EXPLANATIONS,)
    assert [(skip.method, skip.reason) for skip in found.skipped] == [(Method.CONTENT, SkipReason.FAILED)]
    assert made.metrics.value("matchloop_degraded_total", use_case=use_case().id, part=EXPLANATIONS) == 1


def test_texts_of_the_request_count_in_place_of_what_was_derived_of_the_stored_ones() -> None:
    embedder = HashingEmbedder(use_case().embedding_width)
    made = world(
        [startup("pay", name=Text("instant payments")), startup("farm", name=Text("vertical farming"))]
    )
    derived = Embedding(tuple(embedder.embed(["vertical farming"])[0].tolist()), embedder.name)
    stored = developer("d1", name=Text("vertical farming"), embedding=derived)
    assert ids(made.retriever.find(asked(count=1), state(stored)).candidates) == ["farm"]
    said = MappingProxyType({"name": Text("instant payments")})
    found = made.retriever.find(asked(count=1, subject_features=said), state(stored))
    assert ids(found.candidates) == ["pay"]


def test_a_dislike_counts_in_affinity_for_what_its_reason_names() -> None:
    made = world(startups(8))

    def affinity(reason: str) -> float:
        events = [event("s0"), event("s2", "dislike")._replace(reason=reason)]
        found = made.retriever.find(asked(count=8), state(GAMES, events))
        return next(each.features[1] for each in found.candidates if each.item_id == "s7")

    # s7 shares one tag with the liked s0, another with the disliked s2, and is of another category.
    assert affinity("already_known") == affinity("wrong_category") == affinity("unheard_of")
    assert affinity("") < affinity("already_known")


def test_ensemble_goes_on_with_the_methods_that_answer() -> None:
    made = world(startups(20))
    singles = made.methods[Method.ENSEMBLE]._methods  # type: ignore[attr-defined]
    singles[Method.ALS] = Fixed("s5", "s6")
    singles[Method.TWO_TOWER] = Raising()
    found = made.retriever.find(asked(count=3, methods=(Method.ENSEMBLE,)), state(GAMES))
    assert ids(found.candidates)[0] == "s6"
    assert {each.method for each in found.candidates} == {Method.ENSEMBLE}
    singles[Method.ALS] = singles[Method.CONTENT] = Raising()
    found = made.retriever.find(asked(count=3, methods=(Method.ENSEMBLE,)), state(GAMES))
    assert found.skipped[0].reason is SkipReason.FAILED


def test_states_are_remembered_for_when_the_store_is_down() -> None:
    store, time = FakeStore(), [0.0]
    store.states["d1"] = state(GAMES)
    kinds = {"u": Kind("developer")}
    states = RememberedStates(store, kinds, seconds=60.0, most=1, monotonic=lambda: time[0])
    assert states.lookup("u", SUBJECT).fresh
    store.states["d1"] = state(GAMES, [event("s1")])
    told = states.lookup("u", SUBJECT).state
    assert told is not None
    assert told.interaction_count == 1
    store.up = False
    known = states.lookup("u", SUBJECT)
    assert (known.fresh, known.state) == (False, store.states["d1"])
    time[0] = 61.0
    assert states.lookup("u", SUBJECT).state is None
    store.up, time[0] = True, 0.0
    states.lookup("u", SUBJECT)
    states.lookup("u", EntityId("d2"))
    store.up = False
    assert states.lookup("u", SUBJECT).state is None
