"""The simulated market: what it holds, how lists are reacted to, how rounds are scored."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from benchmarks.market import study
from matchloop.entities import Categorical, Entity, EntityId, EntityKey, Kind
from matchloop.errors import InvalidInput, NotFound
from matchloop.usecase import load_use_cases
from playground.dataset.model import Dataset, Events, Reading
from playground.market import ClickModel, Market, Shown, score_round
from playground.market.generated import Sizes
from playground.market.scoring import rate_interval

NOW = datetime(2026, 1, 1, tzinfo=UTC)
USE_CASES = load_use_cases()


@pytest.fixture(scope="module")
def market() -> Market:
    return Market.generated(USE_CASES, seed=3, now=NOW, sizes=Sizes(120, 60, 150))


def fitted() -> Market:
    rng = np.random.default_rng(0)
    entities = {
        kind: tuple(
            Entity(
                EntityKey(Kind(kind), EntityId(f"{kind}{i}")),
                {name: Categorical(str(rng.integers(4)))},
            )
            for i in range(n)
        )
        for kind, name, n in (("investor", "country", 60), ("startup", "category", 80))
    }
    n = 900
    events = Events(
        rows={
            "investor": rng.integers(0, 60, n).astype(np.int32),
            "startup": rng.integers(0, 80, n).astype(np.int32),
        },
        time=np.datetime64("2020-01-01", "us") + np.arange(n),
        event_type=np.full(n, "", dtype=np.str_),
        value=np.full(n, np.nan),
        part=np.zeros(n, dtype=np.int8),
    )
    readings = {
        "investor_startup": Reading(USE_CASES["investor_startup"], "interest"),
        "startup_investor": Reading(USE_CASES["startup_investor"], "contact"),
    }
    data = Dataset("small", entities, events, readings, None, ())
    return Market.fitted(data, ["investor_startup", "startup_investor"], seed=1, now=NOW)


def test_the_market_follows_from_its_seed(market: Market) -> None:
    again = Market.generated(USE_CASES, seed=3, now=NOW, sizes=Sizes(120, 60, 150))
    assert again.entities == market.entities
    assert again.history(np.random.default_rng(1)) == market.history(np.random.default_rng(1))
    truth = market.relevance("startup_developer", "startup-0003")
    assert np.array_equal(truth, again.relevance("startup_developer", "startup-0003"))
    assert truth.shape == (120,)
    assert truth.min() >= 0.0
    assert truth.max() <= 1.0


def test_entities_keep_to_the_schemas_and_lie_in_the_past(market: Market) -> None:
    for kind, schema in USE_CASES.kinds.items():
        for entity in market.entities.get(kind, ()):
            assert {
                name: type(value).__name__.lower() for name, value in entity.features.items()
            }.items() <= (schema.items())
            assert entity.create_time is not None
            assert entity.create_time < NOW
    ages = [(NOW - (e.create_time or NOW)) / timedelta(days=1) for e in market.entities["startup"]]
    assert np.median(ages) > 20


def test_history_is_ordered_and_no_pair_reacts_before_both_exist(market: Market) -> None:
    events = market.history(np.random.default_rng(0))
    created = {str(e.key.id): e.create_time for found in market.entities.values() for e in found}
    assert {event.use_case for event in events} == set(market.use_cases)
    assert [e.event_time for e in events] == sorted(e.event_time for e in events)
    assert len({event.interaction_id for event in events}) == len(events)
    for event in events:
        assert event.event_type in USE_CASES[event.use_case].events
        born = max(created[event.subject_id] or NOW, created[event.item_id] or NOW)
        assert born <= event.event_time <= NOW


@pytest.mark.parametrize("make", ["generated", "fitted"])
def test_reactions_are_the_use_cases_own(make: str, market: Market) -> None:
    played = market if make == "generated" else fitted()
    for name, use_case in played.use_cases.items():
        direction = played.direction(name)
        lists = [Shown(s, direction.item_ids) for s in direction.subject_ids]
        happened = played.play(name, lists, 1)
        told = [reaction for one in played.react_all(name, lists, 1) for reaction in one]
        assert {reaction.event_type for reaction in told} <= set(use_case.events)
        assert all((r.reason in use_case.dislikes) == (r.event_type == "dislike") for r in told)
        assert sum(r.event_type == "click" for r in told) == happened.clicked.sum() > 0
        assert happened.strong.sum() == sum(r.event_type in use_case.strong_events for r in told)
        assert all(direction.item_ids[r.rank - 1] == r.item_id for r in told)
        assert not (happened.clicked & ~happened.examined).any()
        assert happened.examined[happened.rank == 1].all()


def test_one_list_alone_reacts_as_among_many(market: Market) -> None:
    direction = market.direction("developer_startup")
    lists = [Shown(s, direction.item_ids[5:15]) for s in direction.subject_ids[:30]]
    together = market.react_all("developer_startup", lists, 2)
    alone = [market.react("developer_startup", one.subject_id, one.item_ids, 2) for one in lists]
    assert together == alone


def test_examination_falls_with_rank_and_clicks_follow_the_preference(market: Market) -> None:
    name = "developer_startup"
    direction = market.direction(name)
    lists = [Shown(s, direction.item_ids[:10]) for s in direction.subject_ids]
    rounds = [market.play(name, lists, number) for number in range(30)]
    examined = np.mean([one.examined.reshape(-1, 10).mean(axis=0) for one in rounds], axis=0)
    np.testing.assert_allclose(examined, 1 / np.log2(np.arange(2, 12)), atol=0.03)
    first = np.mean([one.clicked.reshape(-1, 10)[:, 0] for one in rounds])
    expected = direction.preferences(np.arange(len(lists)))[:, 0].mean()
    assert first == pytest.approx(expected, abs=0.03)


def test_300_lists_are_played_in_a_fifth_of_a_second() -> None:
    market = Market.generated(USE_CASES, seed=0, now=NOW)
    name = "developer_startup"
    direction = market.direction(name)
    lists = [Shown(s, direction.item_ids[i : i + 10]) for i, s in enumerate(direction.subject_ids[:300])]
    market.play(name, lists, 0)
    started = time.perf_counter()
    market.react_all(name, lists, 1)
    assert time.perf_counter() - started < 0.2


def test_ndcg_is_one_for_the_best_order_and_less_for_another(market: Market) -> None:
    name, subject = "startup_developer", "startup-0001"
    direction, truth = market.direction(name), market.relevance(name, subject)
    best = [direction.item_ids[i] for i in np.argsort(-truth)]
    assert market.truth_ndcg(name, Shown(subject, tuple(best[:10]))) == pytest.approx(1.0)
    assert market.truth_ndcg(name, Shown(subject, tuple(best[-10:]))) < 0.1
    rest = Shown(subject, tuple(best[3:13]))
    assert market.truth_ndcg(name, rest) < 1.0
    assert market.truth_ndcg(name, rest, excluded=frozenset(best[:3])) == pytest.approx(1.0)


def test_a_panel_mixes_tiers_without_repeats(market: Market) -> None:
    panel = market.panel("developer_startup", 50, np.random.default_rng(0))
    assert len(set(panel)) == 50
    direction = market.direction("developer_startup")
    counts = direction.activity[[direction.subject_row[name] for name in panel]]
    assert (counts < 5).any()
    assert (counts >= 5).any()
    assert len(market.panel("developer_startup", 5000, np.random.default_rng(0))) == 120


def test_a_round_is_scored_with_an_interval_around_its_rate(market: Market) -> None:
    name = "developer_startup"
    direction = market.direction(name)
    lists = [Shown(s, direction.item_ids[:10]) for s in direction.subject_ids]
    happened = market.play(name, lists, 1)
    score = score_round(market, name, lists, happened, excluded={}, rng=np.random.default_rng(0))
    assert score.low < score.click_rate < score.high
    assert score.strong_positive_rate <= score.click_rate
    assert (score.lists, score.shown) == (120, 1200)
    assert (
        score_round(
            market, name, [], market.play(name, [], 1), excluded={}, rng=np.random.default_rng(0)
        ).shown
        == 0
    )
    assert rate_interval(np.zeros(0, bool), np.zeros(0, np.intp), rng=np.random.default_rng(0)) == (0.0, 0.0)


def test_nothing_is_disliked_when_nobody_dislikes(market: Market) -> None:
    calm = Market.generated(USE_CASES, seed=3, now=NOW, sizes=Sizes(120, 60, 150))
    calm.clicks = ClickModel(dislike=0.0)
    direction = calm.direction("developer_startup")
    lists = [Shown(s, direction.item_ids[:10]) for s in direction.subject_ids]
    assert market.play("developer_startup", lists, 1).disliked.any()
    assert not calm.play("developer_startup", lists, 1).disliked.any()


def test_what_the_market_does_not_run_is_named(market: Market) -> None:
    with pytest.raises(NotFound, match="user_movie"):
        market.direction("user_movie")
    data = Dataset("none", {}, _no_events(), {}, None, ())
    with pytest.raises(InvalidInput, match="no `x`"):
        Market.fitted(data, ["x"], seed=0, now=NOW)


def _no_events() -> Events:
    none = np.zeros(0)
    return Events({}, none.astype("datetime64[us]"), none.astype(np.str_), none, none.astype(np.int8))


def test_feedback_pays() -> None:
    """Retrained beats untrained, popularity, content and chance; the truth beats them all."""
    market = Market.generated(USE_CASES, seed=0, now=NOW)
    played = study(market, "developer_startup", rounds=4)
    last = {policy: scores[-1] for policy, scores in played.items()}
    assert last["oracle"].low > last["als_retrained"].high
    assert last["als_retrained"].low > max(last[p].high for p in ("popular", "content", "random"))
    assert last["als_retrained"].click_rate > last["als_frozen"].high
    assert last["als_retrained"].low > played["als_retrained"][0].high
