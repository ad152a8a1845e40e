"""Exploration: chances are exactly what is logged, chance is bounded, and retries get the same list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import permutations, product
from math import factorial, prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchloop.errors import InvalidInput, Reason, Unavailable
from matchloop.observe import logs
from matchloop.position import examination
from matchloop.rpc.settings import read_settings
from matchloop.usecase import Exploration, load_use_cases
from ranking_svc.exploration import (
    TILINGS,
    Arrangement,
    arrange,
    blocks_of,
    explored,
    largest_cost,
    policies,
)
from ranking_svc.settings import RankingSettings
from ranking_svc.wire import read_session
from tests.ranking_world import MOVIE, World, candidate

SHARE = 0.3
CASES = [(n, reach, tiling) for n in range(8) for reach in (1, 2, 3) for tiling in range(TILINGS)]


class Scripted:
    """A generator whose outcomes are given."""

    def __init__(self, first: float, orders: Iterator[tuple[int, ...]]) -> None:
        self.first = first
        self.orders = orders

    def random(self) -> float:
        return self.first

    def permutation(self, _: int) -> np.ndarray[Any, Any]:
        return np.array(next(self.orders))


def outcomes(count: int, policy: Exploration, tiling: int) -> Iterator[tuple[float, Arrangement]]:
    """Every list chance can make, with its probability."""

    def drawn(first: float, *orders: tuple[int, ...]) -> Arrangement:
        rng: Any = Scripted(first, iter(orders))
        return arrange(count, policy, tiling=tiling, rng=rng)

    widths = [len(block) for block in blocks_of(count, policy.reach, tiling)]
    yield 1.0 - policy.share, drawn(policy.share)
    each = policy.share / prod(factorial(width) for width in widths)
    for orders in product(*(permutations(range(width)) for width in widths)):
        yield each, drawn(np.nextafter(policy.share, 0.0), *orders)


@pytest.mark.parametrize(("count", "reach", "tiling"), CASES)
def test_what_is_logged_is_the_chance_of_every_placement(count: int, reach: int, tiling: int) -> None:
    chance: dict[tuple[int, int], float] = defaultdict(float)
    weighted: dict[tuple[int, int], float] = defaultdict(float)
    logged: dict[tuple[int, int], set[float]] = defaultdict(set)
    total = 0.0
    for probability, found in outcomes(count, Exploration(share=SHARE, reach=reach), tiling):
        assert sorted(found.order) == list(range(count))
        total += probability
        for place, (before, propensity) in enumerate(zip(found.order, found.propensities, strict=True)):
            assert abs(place - before) <= reach
            chance[before, place] += probability
            weighted[before, place] += probability / propensity
            logged[before, place].add(propensity)

    assert total == pytest.approx(1.0)
    for placement, said in logged.items():
        assert list(said) == pytest.approx([chance[placement]]), placement
        assert weighted[placement] == pytest.approx(1.0), placement  # E[1/propensity · 1(placed)]


@pytest.mark.parametrize("reach", range(1, 10))
def test_the_two_ways_of_parting_link_all_ranks(reach: int) -> None:
    for count in range(2, 60):
        linked = {0}
        blocks = [set(block) for tiling in range(TILINGS) for block in blocks_of(count, reach, tiling)]
        assert {len(block) for block in blocks} == {min(reach + 1, count)}
        for _ in range(count):
            linked |= set().union(*(block for block in blocks if block & linked))
        assert linked == set(range(count)), (count, blocks)


def test_the_cost_is_bounded_and_the_bound_is_reached() -> None:
    rng = np.random.default_rng(3)
    for reach in (1, 2, 4):
        policy = Exploration(share=SHARE, reach=reach)
        worst = 0.0
        for count in (2, 5, 6):
            discount = examination(np.arange(1, count + 1))
            for tiling in range(TILINGS):
                placed = [(p, np.array(o.order)) for p, o in outcomes(count, policy, tiling)]
                for gains in [*rng.exponential(size=(5, count)) ** 2, np.eye(count)[0]]:
                    mean = sum(p * float(gains[order] @ discount) for p, order in placed)
                    worst = max(worst, 1.0 - mean / float(gains @ discount))
        assert worst == pytest.approx(largest_cost(policy))
    assert largest_cost(Exploration(share=0.1)) == pytest.approx(0.0185, abs=1e-4)  # docs/exploration.md


# --- in the pipeline


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


def explore(world: World, **policy: Any) -> None:
    world.pipeline = replace(world.pipeline, exploration={MOVIE.id: Exploration(**policy)})


def placed(world: World, answer: Any) -> list[tuple[str, float]]:
    session = read_session(world.store.sessions[answer.session_id])
    assert [each.item_id for each in session.items] == [each.item_id for each in answer.items]
    return [(each.item_id, each.propensity) for each in session.items]


def under(request: str, call: Any) -> Any:
    token = logs.request_id.set(request)
    try:
        return call()
    finally:
        logs.request_id.reset(token)


def counts(world: World) -> tuple[float, float]:
    name = "matchloop_explored_lists_total"
    changed, kept = (
        world.metrics.value(name, use_case=MOVIE.id, order=order) for order in ("changed", "kept")
    )
    return changed, kept


def test_it_is_off_by_default(world: World) -> None:
    assert {chance for _, chance in placed(world, world.recommend())} == {0.0}
    explore(world, share=0.0, reach=3)
    assert {chance for _, chance in placed(world, world.recommend())} == {0.0}
    assert counts(world) == (0, 0)


def test_items_keep_all_but_their_places(world: World) -> None:
    plain = {each.item_id: each for each in world.recommend(count=10).items}
    explore(world, share=1.0, reach=4)
    answer = world.recommend(count=10)

    assert [each.item_id for each in answer.items] != list(plain)
    assert {each.item_id: replace(each, propensity=0.0) for each in answer.items} == plain
    assert [chance for _, chance in placed(world, answer)] == [0.2] * 10
    assert counts(world) == (1, 0)


def test_lists_that_chance_left_alone_say_how_likely_that_was(world: World) -> None:
    explore(world, share=1e-6)
    answer = world.recommend(count=5, subject_id="u2")
    chances = [chance for _, chance in placed(world, answer)]

    assert sorted(chances) == pytest.approx([1.0 - 5e-7] * 4 + [1.0], abs=1e-12)  # five ranks: one is over
    assert chances.index(1.0) in (0, 4)
    assert counts(world) == (0, 1)


def test_a_retry_gets_the_same_list_and_another_request_another_chance(world: World) -> None:
    explore(world, share=0.5, reach=2)
    lists = {name: under(name, lambda: placed(world, world.recommend(count=12))) for name in "abcdefgh"}

    assert under("a", lambda: placed(world, world.recommend(count=12))) == lists["a"]
    assert len({str(each) for each in lists.values()}) > 2
    ranked = [f"m{number}" for number in range(6)]
    again = [under("a", lambda: placed(world, world.rank(*ranked))) for _ in range(2)]
    assert again[0] == again[1]
    assert all(0.0 < chance <= 1.0 for _, chance in again[0])


def test_previews_and_what_stands_in_keep_their_order(world: World) -> None:
    plain = [each.item_id for each in world.recommend(preview=True).items]
    explore(world, share=1.0, reach=4)
    shown = world.recommend(preview=True).items
    assert [(each.item_id, each.propensity) for each in shown] == [(item, 0.0) for item in plain]
    assert counts(world) == (0, 0)

    world.candidates.fault = Unavailable("away", reason=Reason.UPSTREAM_UNAVAILABLE)
    assert placed(world, world.rank("m1", "m2", "m3")) == [("m1", 1.0), ("m2", 1.0), ("m3", 1.0)]


def test_one_item_is_no_matter_of_chance(world: World) -> None:
    explore(world, share=1.0)
    assert placed(world, world.recommend(count=1)) == [("m0", 1.0)]


def test_subjects_with_the_same_list_are_parted_in_both_ways(world: World) -> None:
    explore(world, share=1.0)
    world.candidates.items = [candidate(number) for number in range(5)]
    last = {
        placed(world, world.recommend(count=5, subject_id=f"u{number}"))[4][1] == 1.0 for number in range(20)
    }
    assert last == {True, False}


# --- what it is set by


def test_settings_stand_over_what_use_cases_declare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "matchloop/usecase/defs/user_movie.toml").read_text()
    text = (
        text.replace('"user_movie"', '"user_film"', 1) + "\n[ranking.exploration]\nshare = 0.2\nreach = 3\n"
    )
    (tmp_path / "user_film.toml").write_text(text)
    use_cases = load_use_cases(tmp_path)
    assert use_cases["user_film"].schema_fingerprint == use_cases["user_movie"].schema_fingerprint

    def of(**environment: str) -> Mapping[str, Exploration]:
        for name, value in environment.items():
            monkeypatch.setenv(f"RANKING_{name}", value)
        told = read_settings(RankingSettings, candidate_address="c", feedback_address="f")
        return policies(use_cases, shares=told.exploration_shares, reach=told.exploration_reach)

    declared = Exploration(share=0.2, reach=3)
    assert of() == {name: declared if name == "user_film" else Exploration() for name in use_cases}
    told = of(EXPLORATION_SHARES="user_movie=0.1, user_film=0")
    assert (told["user_movie"].share, told["user_film"].share) == (0.1, 0.0)
    assert {name: each.reach for name, each in of(EXPLORATION_REACH="2").items()} == dict.fromkeys(
        use_cases, 2
    )
    with pytest.raises(InvalidInput, match=r"exploration_shares\.user_films: there is no such use case"):
        of(EXPLORATION_SHARES="user_films=0.1")
    with pytest.raises(InvalidInput, match="RANKING_EXPLORATION_SHARES__USER_MOVIE"):
        of(EXPLORATION_SHARES="user_movie=1.5")
    with pytest.raises(InvalidInput, match="RANKING_EXPLORATION_SHARES__USER_MOVIE"):
        of(EXPLORATION_SHARES="user_movie")


def test_the_chances_of_many_requests_are_those_logged(world: World) -> None:
    items = world.recommend(count=7).items
    policy = Exploration(share=0.4, reach=2)
    seen: dict[tuple[str, int], int] = defaultdict(int)
    said: dict[tuple[str, int], float] = {}
    requests = 4000
    for number in range(requests):
        found = explored(items, policy, use_case="u", subject_id="s", request_id=f"r{number}")
        for place, each in enumerate(found):
            seen[each.item_id, place] += 1
            said[each.item_id, place] = each.propensity
    for placement, chance in said.items():
        error = (chance * (1.0 - chance) / requests) ** 0.5
        assert abs(seen[placement] / requests - chance) <= 4.0 * error, placement
