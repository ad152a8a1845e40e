"""What is erased is forgotten wherever candidate_svc holds it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from candidate_svc.domain import Asked, SimilarAsked, TrendingAsked
from candidate_svc.erasures import Erasures
from candidate_svc.mirror import Mirror
from candidate_svc.states import RememberedStates
from matchloop.entities import EntityId, Kind
from matchloop.errors import NotFound
from matchloop.features import HashingEmbedder, text
from matchloop.observe.metrics import Metrics
from matchloop.usecase import Method
from tests.candidate_release import write_release
from tests.candidate_world import (
    NOW,
    USE_CASE,
    USE_CASES,
    FakeStore,
    World,
    event,
    ids,
    startups,
    state,
    stats,
    use_case,
    world,
)
from tests.unit.test_candidate_released import GAMES, ITEMS, put

GONE = EntityId("s2")


def everything(made: World, *methods: Method) -> set[str]:
    known = state(None, [event("s6"), event("s10")])
    asked = Asked(use_case(), EntityId("d1"), 500, methods=methods)
    return set(ids(made.retriever.find(asked, known).candidates))


@pytest.mark.parametrize(
    "method", [Method.ALS, Method.TWO_TOWER, Method.CONTENT, Method.ENSEMBLE, Method.POPULAR]
)
def test_an_erased_item_is_no_candidate_of_a_release_that_knows_it(tmp_path: Path, method: Method) -> None:
    made = put(world(ITEMS, [stats("s2", views=9, weight=9.0)]), write_release(tmp_path / "r1", ITEMS))
    assert GONE in everything(made, method)
    made.store.erase("s2")
    made.mirror.poll_once()
    assert GONE not in everything(made, method)
    put(made, write_release(tmp_path / "r2", ITEMS, release="r2"))  # trained before the erasure
    assert GONE not in everything(made, method)


def test_nothing_of_an_erased_item_is_left_in_the_mirror() -> None:
    made = world(startups(9), [stats("s2", views=9, weight=9.0)])
    rows, counts = made.mirror.rows["startup"], made.mirror.counts[USE_CASE]
    row = rows.row("s2")
    assert row is not None
    made.store.erase("s2")
    made.mirror.poll_once()
    assert (rows.row("s2"), rows.find("s2"), "s2" in rows.active_ids()) == (None, None, False)
    assert (rows.entity(row).key.id, dict(rows.entity(row).features)) == ("", {})
    assert counts.decayed(9, NOW).sum() == 0.0
    with pytest.raises(NotFound):
        made.retriever.similar(SimilarAsked(use_case(), GONE))
    listed = made.retriever.trending(TrendingAsked(use_case(), page_size=500))
    assert sorted(ids(listed.candidates)) == sorted(f"s{i}" for i in range(9) if i != 2)
    for _ in range(2):
        made.mirror.poll_once()
    assert rows.count == 9


def test_an_item_that_comes_back_stays_whatever_the_tombstone_says_again() -> None:
    made = world(startups(4))
    made.store.erase("s2")
    back = replace(startups(4)[2], update_time=NOW + timedelta(minutes=1))
    made.store.upsert(back)
    made.store.erase("s2")  # listed again with a higher sequence, as at the end of an erasure
    made.store.upsert(back)
    tombstone = next(iter(made.store.erased.values()))
    made.store.sequence += 1
    made.store.erased[tombstone.id_hash] = replace(tombstone, change_sequence=made.store.sequence)
    made.mirror.poll_once()
    assert made.mirror.rows["startup"].active_ids().count(GONE) == 1


def test_a_pass_that_verifies_does_not_miss_what_was_erased() -> None:
    store = FakeStore()
    store.upsert(*startups(5))
    store.count(stats("s2", views=3))
    mirror = Mirror(store, USE_CASES, clock=lambda: NOW, metrics=Metrics(), verify_every=1)
    mirror.poll_once()
    store.erase("s2")
    store.calls.clear()
    mirror.poll_once()
    first = len(store.calls)
    store.calls.clear()
    mirror.poll_once()
    assert len(store.calls) <= first
    assert len(mirror.rows["startup"].active_ids()) == 4


def test_the_state_of_an_erased_subject_is_not_remembered() -> None:
    store = FakeStore()
    store.states |= {"d1": state(None, [event("s1")]), "d2": state(None, [event("s2")])}
    states = RememberedStates(store, {USE_CASE: Kind("developer")})
    mirror = Mirror(store, USE_CASES, clock=lambda: NOW, metrics=Metrics())
    mirror.subscribe_to_erasures(states)
    for subject in ("d1", "d2"):
        states.lookup(USE_CASE, EntityId(subject))
    store.erase("d1", kind="developer")
    store.erase("d2", kind="startup")
    mirror.poll_once()
    store.up = False
    assert states.lookup(USE_CASE, EntityId("d1")).state is None
    assert states.lookup(USE_CASE, EntityId("d2")).state is not None


def test_the_trained_vector_of_an_erased_subject_is_not_used(tmp_path: Path) -> None:
    made = put(world(ITEMS), write_release(tmp_path / "r1", ITEMS))
    asked = Asked(use_case(), EntityId("trained"), 4, methods=(Method.ALS,))
    assert set(ids(made.retriever.find(asked, None).candidates)) == GAMES  # the store is away
    told = made.retriever.find(asked, state())  # the store knows of nothing
    assert ids(told.candidates) == []
    erasures = Erasures()
    made.mirror.subscribe_to_erasures(erasures)
    made.retriever._erased = lambda subject: erasures.time("developer", subject)
    made.store.erase("trained", kind="developer", time=NOW - timedelta(days=30))
    made.mirror.poll_once()
    assert set(ids(made.retriever.find(asked, None).candidates)) == GAMES  # the release is younger
    made.store.erase("trained", kind="developer")
    made.mirror.poll_once()
    assert ids(made.retriever.find(asked, None).candidates) == []


def test_words_of_texts_are_not_kept_over_an_erasure() -> None:
    made = world(ITEMS)
    made.mirror.subscribe_to_erasures(Erasures())
    HashingEmbedder(64).embed(["Noor Example, Utrecht"])
    assert text._hashed.cache_info().currsize > 0
    made.store.erase("noor", kind="developer")
    made.mirror.poll_once()
    assert text._hashed.cache_info().currsize == 0
