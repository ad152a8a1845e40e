"""Lists made without a part: ranker, candidate_svc, feedback_svc, disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchloop.errors import (
    DeadlinePassed,
    InvalidInput,
    MatchloopError,
    NotImplementedYet,
    Overloaded,
    Unavailable,
    Violation,
)
from matchloop.rerank.features import FeatureColumns
from matchloop.rerank.scorer import RuleScorer
from matchloop.usecase import Method, Tier
from ranking_svc.domain import Equals
from ranking_svc.wire import read_session
from tests.ranking_world import MOVIE, World, candidate, loaded

COLUMNS = FeatureColumns.of(MOVIE)
DOWN = (Unavailable("away"), DeadlinePassed("late"), Overloaded("full"), MatchloopError("a bug"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


def ids(answer: Any) -> list[str]:
    return [item.item_id for item in answer.items]


class BrokenRanker(RuleScorer):
    learned = True

    def by_diversity(self, features: Any) -> Any:
        raise FloatingPointError("a broken network")


class NanRanker(RuleScorer):
    learned = True

    def by_diversity(self, features: Any) -> Any:
        return lambda diversity: np.full_like(diversity, np.nan)


@pytest.mark.parametrize("broken", [BrokenRanker, NanRanker])
def test_a_failing_ranker_gives_way_to_the_rule(world: World, broken: type[RuleScorer]) -> None:
    expected = ids(world.recommend())
    world.slot.loaded = (loaded("r1", broken(MOVIE)),)
    answer = world.recommend()
    assert ids(answer) == expected
    assert (answer.reranked, answer.degraded) == (False, ("ranker",))
    assert (world.unranked("ranker_failed"), world.degraded("ranker")) == (1, 1)


# --- candidate_svc is down


@pytest.fixture
def popular_world(world: World) -> World:
    world.candidates.popular = [candidate(i, method=Method.POPULAR, score=99.0 - i) for i in range(20)]
    world.popular.refresh()
    return world


@pytest.mark.parametrize("fault", DOWN, ids=lambda fault: type(fault).__name__)
def test_the_last_popular_list_stands_in(popular_world: World, fault: MatchloopError) -> None:
    popular_world.candidates.fault = fault
    answer = popular_world.recommend(explain=True)
    assert ids(answer) == ["m0", "m1", "m2", "m3", "m4"]
    assert (answer.degraded, answer.reranked, answer.release) == (("candidates",), False, "")
    assert answer.items[0].method is Method.POPULAR
    assert [item.score for item in answer.items] == sorted((i.score for i in answer.items), reverse=True)
    assert answer.items[0].explanation.features == ()
    assert (popular_world.unranked("no_candidates"), popular_world.degraded("candidates")) == (1, 1)
    session = read_session(popular_world.store.sessions[answer.session_id])
    assert (session.reranked, session.feature_names) == (False, ())
    assert all(item.features == () for item in session.items)


def test_the_last_popular_list_hides_what_the_subject_hides(popular_world: World) -> None:
    popular_world.candidates.fault = Unavailable("away")
    popular_world.store.hidden = frozenset({"m0", "m3"})
    popular_world.store.interactions = 30
    answer = popular_world.recommend(exclude=("m1",))
    assert ids(answer) == ["m2", "m4", "m5", "m6", "m7"]
    assert answer.tier is Tier.HOT


def test_the_last_popular_list_without_the_store(popular_world: World) -> None:
    popular_world.candidates.fault = popular_world.store.fault = Unavailable("away")
    answer = popular_world.recommend()
    assert ids(answer) == ["m0", "m1", "m2", "m3", "m4"]
    assert answer.degraded == ("candidates", "feedback", "session_store")
    assert answer.tier is Tier.COLD


def test_everything_popular_hidden_is_an_empty_list(popular_world: World) -> None:
    popular_world.candidates.fault = Unavailable("away")
    popular_world.store.hidden = frozenset(f"m{i}" for i in range(20))
    answer = popular_world.recommend()
    assert (answer.items, answer.degraded, answer.session_id) == ((), ("candidates",), "")


def test_nothing_left_is_unavailable(world: World) -> None:
    world.candidates.fault = Unavailable("away")
    with pytest.raises(Unavailable, match="no popular list"):
        world.recommend()


def test_a_popular_list_is_not_shown_where_filters_would_be_broken(popular_world: World) -> None:
    popular_world.candidates.fault = DeadlinePassed("late")
    with pytest.raises(Unavailable, match="filtered"):
        popular_world.recommend(filters=(Equals("language", "en"),))


@pytest.mark.parametrize(
    "fault", [InvalidInput.of([Violation("filters[0].feature", "unknown")]), NotImplementedYet("later")]
)
def test_what_is_wrong_with_the_request_is_told(popular_world: World, fault: MatchloopError) -> None:
    popular_world.candidates.fault = fault
    with pytest.raises(type(fault)):
        popular_world.recommend()
    with pytest.raises(type(fault)):
        popular_world.rank("m1")


# --- feedback_svc is down


def test_a_session_waits_on_disk_while_the_store_is_down(world: World) -> None:
    world.store.fault = Unavailable("away")
    first, second = world.recommend(), world.recommend()
    assert first.session_id
    assert (first.degraded, second.degraded) == (("session_store",), ("session_store",))
    assert world.metrics.value("matchloop_spool_depth") == 2
    world.store.fault = None
    third = world.recommend()  # joins the queue: sessions arrive in order
    assert third.degraded == ("session_store",)
    assert world.log.deliver() == 3
    assert world.store.arrivals == [first.session_id, second.session_id, third.session_id]
    assert world.recommend().degraded == ()
    assert world.metrics.value("matchloop_spool_depth") == 0


def test_a_full_spool_loses_the_session_and_says_so(tmp_path: Path) -> None:
    with World(tmp_path, max_records=1) as world:
        world.store.fault = Unavailable("away")
        assert world.recommend().session_id
        lost = world.recommend()
        assert (lost.session_id, lost.degraded, len(lost.items)) == ("", ("session_store",), 5)
        assert world.metrics.value("matchloop_spool_dropped_total") == 1
        assert world.metrics.value("matchloop_spool_depth") == 1


def test_a_session_the_store_will_never_take_is_lost_not_queued(world: World) -> None:
    world.store.poison = "u1"
    answer = world.recommend()
    assert (answer.session_id, answer.degraded) == ("", ("session_store",))
    assert len(world.spool) == 0
    assert world.metrics.value("matchloop_spool_dropped_total") == 1
