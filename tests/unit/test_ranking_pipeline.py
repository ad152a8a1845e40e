"""Recommend and Rank over fakes: the order, and what is logged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchloop.entities import Numeric
from matchloop.errors import (
    Unavailable,
)
from matchloop.rerank.features import FeatureColumns
from matchloop.rerank.scorer import Ranker
from matchloop.testing.releases import build_release
from matchloop.usecase import Method, Tier
from ranking_svc.domain import Equals
from ranking_svc.wire import read_session
from tests.ranking_world import MOVIE, NOW, SENT_NAMES, FakeSlot, World, candidate, loaded

COLUMNS = FeatureColumns.of(MOVIE)


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    folder = build_release(tmp_path_factory.mktemp("release"), MOVIE)
    return Ranker.load(folder / "ranker", MOVIE)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


def ids(answer: Any) -> list[str]:
    return [item.item_id for item in answer.items]


# --- the list and its session


def test_a_list_is_ordered_stored_and_answered(world: World, ranker: Ranker) -> None:
    world.slot.loaded = (loaded("r2", ranker),)
    world.candidates.release = "r2"
    answer = world.recommend()
    assert (answer.release, answer.reranked, answer.tier, answer.arm) == ("r2", True, Tier.WARM, "")
    assert answer.degraded == ()
    assert len(answer.items) == 5
    assert world.candidates.asked[0][1] == 10  # twice as many as asked go on to ranking
    session = read_session(world.store.sessions[answer.session_id])
    assert [each.item_id for each in session.items] == ids(answer)
    assert session.feature_names == COLUMNS.names
    for stored, shown in zip(session.items, answer.items, strict=True):
        assert stored.score == shown.score
        assert np.allclose(stored.features, shown.features, rtol=1e-6)
    assert (session.release, session.reranked, session.serve_time) == ("r2", True, NOW)
    assert session.subject_id == "u1"
    assert world.unranked("no_release") == 0


def test_features_are_logged_as_placed(world: World) -> None:
    answer = world.recommend()
    diversity = [item.features[COLUMNS.diversity] for item in answer.items]
    assert diversity[0] == 1.0
    assert min(diversity[1:]) < 1.0
    assert max(item.features[COLUMNS.model_score] for item in answer.items) == 1.0


def test_the_release_that_found_the_candidates_ranks_them(world: World, ranker: Ranker) -> None:
    world.slot.loaded = (loaded("r2", ranker), loaded("r1", ranker))
    for asked, expected in (("r1", "r1"), ("r2", "r2"), ("r3", "r2"), ("", "r2")):
        world.candidates.release = asked
        assert world.recommend().release == expected


def test_without_a_ranker_the_rule_orders(world: World, ranker: Ranker) -> None:
    world.candidates.release = "r1"
    by_rule = world.recommend()
    assert (by_rule.reranked, by_rule.release) == (False, "r1")
    assert world.unranked("no_release") == 1
    world.slot.loaded = (loaded("r1", None),)
    assert ids(world.recommend()) == ids(by_rule)
    assert world.unranked("no_ranker") == 1
    first = by_rule.items[0]
    rule = sum(MOVIE.ranking.rule.get(n, 0.0) * v for n, v in zip(COLUMNS.names, first.features, strict=True))
    assert first.score == pytest.approx(rule, abs=1e-6)


def test_a_popular_list_is_never_reranked(world: World, ranker: Ranker) -> None:
    world.slot.loaded = (loaded("r1", ranker),)
    world.candidates.items = [candidate(i, method=Method.POPULAR, score=9.0 - i) for i in range(9)]
    answer = world.recommend()
    assert ids(answer) == ["m0", "m1", "m2", "m3", "m4"]
    assert not answer.reranked
    assert world.unranked("popular") == 1


def test_preview_stores_nothing(world: World) -> None:
    answer = world.recommend(preview=True)
    assert (answer.session_id, len(answer.items), world.store.sessions) == ("", 5, {})


def test_an_empty_list_is_an_answer_without_a_session(world: World) -> None:
    world.candidates.items = ()
    answer = world.recommend()
    assert (answer.session_id, answer.items, answer.reranked) == ("", (), False)
    assert world.store.sessions == {}


def test_what_is_asked_is_passed_on(world: World) -> None:
    world.recommend(
        exclude=("m0",),
        filters=(Equals("language", "en"),),
        subject_features={"age": Numeric(3.0)},
        methods=(Method.ALS,),
        explain=True,
    )
    asked, _ = world.candidates.asked[0]
    assert (asked.exclude, asked.filters, asked.methods) == (
        ("m0",),
        (Equals("language", "en"),),
        (Method.ALS,),
    )


def test_explanations_say_why(world: World) -> None:
    assert all(item.explanation is None for item in world.recommend().items)
    for item in world.recommend(explain=True).items:
        assert item.explanation is not None
        assert item.explanation.features == tuple(zip(COLUMNS.names, item.features, strict=True))
        assert item.explanation.contributions[0].field == "genres~genres"
        assert item.explanation.retrieval_score == candidate(int(item.item_id[1:])).score
        assert item.explanation.original_score == item.features[COLUMNS.original_score]


def test_features_that_did_not_come_count_zero_and_are_told(world: World) -> None:
    assert SENT_NAMES == ("popularity", "subject_affinity", "als_score", "response")
    world.candidates.feature_names = ("popularity", "something_new")
    answer = world.recommend()
    assert answer.degraded == ("features",)
    assert {item.features[COLUMNS.names.index("subject_affinity")] for item in answer.items} == {0.0}
    assert {item.features[COLUMNS.names.index("popularity")] for item in answer.items} == {0.5}


def test_recency_is_about_the_moment_of_ranking(world: World) -> None:
    ages: tuple[float | None, ...] = (0.0, 30.0, 300.0, -5.0, None)
    world.candidates.items = [
        replace(candidate(i), create_time=None if age is None else NOW - timedelta(days=age))
        for i, age in enumerate(ages)
    ]
    answer = world.recommend()
    found = {item.item_id: item.features[COLUMNS.names.index("recency")] for item in answer.items}
    expected = (1.0, math.exp(-1), math.exp(-10), 1.0, 0.0)
    assert [found[f"m{i}"] for i in range(5)] == pytest.approx(expected, abs=1e-6)
    assert answer.degraded == ()


def test_features_in_another_order_find_their_columns(world: World) -> None:
    expected = world.recommend()
    shift = [replace(each, features=(0.0, *each.features)) for each in world.candidates.items]
    world.candidates.items = shift
    world.candidates.feature_names = ("unknown", *SENT_NAMES)
    answer = world.recommend()
    assert answer.degraded == ()
    assert [item.features for item in answer.items] == [item.features for item in expected.items]


def test_diversity_values_of_another_width_do_no_harm(world: World) -> None:
    world.candidates.items = [replace(candidate(i), diversity_values=((),) * i) for i in range(6)]
    assert len(world.recommend().items) == 5


def test_degraded_parts_of_candidate_svc_are_told(world: World) -> None:
    world.candidates.degraded = ("feedback",)
    assert world.recommend().degraded == ("feedback",)
    assert world.degraded("feedback") == 1


# --- Rank


def test_the_clients_scores_are_what_the_order_starts_from(world: World) -> None:
    world.candidates.items = [replace(candidate(i), diversity_values=()) for i in range(10)]
    answer = world.rank("m3", "nobody", "m1", "m7", scores=(-5.0, 9.0, 0.0, 20.0), explain=True)
    assert ids(answer) == ["m7", "m1", "m3"]
    assert answer.unknown == ("nobody",)
    assert [item.method for item in answer.items] == [None, None, None]
    assert [item.features[COLUMNS.model_score] for item in answer.items][::2] == [1.0, 0.0]
    assert answer.items[0].explanation.retrieval_score == 1.0
    session = read_session(world.store.sessions[answer.session_id])
    assert [item.item_id for item in session.items] == ids(answer)


def test_without_scores_the_clients_order_counts(world: World) -> None:
    world.candidates.items = [replace(candidate(i), diversity_values=()) for i in range(10)]
    assert ids(world.rank("m3", "m1", "m7")) == ["m3", "m1", "m7"]
    assert ids(world.rank("m3")) == ["m3"]


def test_a_model_reranks_the_clients_list(world: World, ranker: Ranker) -> None:
    world.slot.loaded = (loaded("r1", ranker),)
    world.candidates.release = "r1"
    answer = world.rank("m3", "m1", "m7", preview=True)
    assert (answer.reranked, answer.release, answer.session_id) == (True, "r1", "")
    assert sorted(ids(answer)) == ["m1", "m3", "m7"]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((1.7e308, -1.7e308, 0.0), ["m3", "m7", "m1"]),
        ((5e-324, 0.0, 0.0), ["m3", "m1", "m7"]),
        ((0.0, 0.0, 0.0), ["m3", "m1", "m7"]),
    ],
)
def test_any_finite_score_will_do(world: World, scores: tuple[float, ...], expected: list[str]) -> None:
    world.candidates.items = [replace(candidate(i), diversity_values=()) for i in range(10)]
    assert ids(world.rank("m3", "m1", "m7", scores=scores)) == expected


def test_the_clients_list_is_kept_while_candidate_svc_is_down(world: World) -> None:
    world.candidates.fault = Unavailable("away")
    answer = world.rank("m3", "nobody", "m7", scores=(0.1, 0.2, 0.3))
    assert ids(answer) == ["m7", "nobody", "m3"]
    assert (answer.degraded, answer.reranked, answer.unknown) == (("candidates",), False, ())
    assert answer.session_id


def test_a_list_of_unknown_items_is_empty(world: World) -> None:
    answer = world.rank("nobody", "noone")
    assert (answer.items, answer.unknown, answer.session_id) == ((), ("nobody", "noone"), "")


def test_stages_are_timed(world: World) -> None:
    world.recommend()
    for stage in ("candidates", "order", "session"):
        assert world.metrics.value("matchloop_stage_seconds_count", stage=stage) == 1
    assert world.metrics.value("matchloop_recommendations_total", use_case=MOVIE.id, tier="warm") == 1


def test_a_slot_without_a_use_case_has_no_release() -> None:
    assert FakeSlot().find("r1") is None
