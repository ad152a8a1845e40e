"""Exploration of any list under any policy: bounded moves, and weights that are right on average."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from matchloop.usecase import Exploration
from ranking_svc.domain import ListItem
from ranking_svc.exploration import TILINGS, arrange, blocks_of, explored

POLICIES = st.builds(
    Exploration,
    share=st.floats(1e-6, 1.0, allow_subnormal=False),
    reach=st.integers(1, 9),
)


@given(st.integers(0, 200), POLICIES, st.integers(0, TILINGS - 1), st.integers(0, 2**64))
def test_items_move_within_their_block_and_say_how_likely_that_was(
    count: int, policy: Exploration, tiling: int, seed: int
) -> None:
    found = arrange(count, policy, tiling=tiling, rng=np.random.default_rng(seed))
    blocks = blocks_of(count, policy.reach, tiling)
    block_of = {place: block for block in blocks for place in block}

    assert sorted(found.order) == list(range(count))
    assert len(block_of) == sum(map(len, blocks))
    for place, (before, propensity) in enumerate(zip(found.order, found.propensities, strict=True)):
        assert abs(place - before) <= policy.reach
        assert 0.0 < propensity <= 1.0
        if place not in block_of:
            assert (before, propensity) == (place, 1.0)
        else:
            assert before in block_of[place]


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.sampled_from([0.2, 0.5, 1.0]), st.integers(1, 3), st.integers(0, 2**32))
def test_inverse_propensities_are_right_on_average(count: int, share: float, reach: int, seed: int) -> None:
    """E[1/propensity · 1(item at rank)] = 1 for each item and rank within reach."""
    items = [ListItem(f"i{number}", 0.5, None) for number in range(count)]
    policy = Exploration(share=share, reach=reach)
    requests = 2000
    weight = np.zeros((count, count))
    chance = np.ones((count, count))
    for number in range(requests):
        found = explored(items, policy, use_case="u", subject_id="s", request_id=f"{seed}/{number}")
        for place, each in enumerate(found):
            row = int(each.item_id[1:])
            weight[row, place] += 1.0 / each.propensity
            chance[row, place] = each.propensity
    there = weight > 0.0
    error = np.sqrt((1.0 / chance - 1.0) / requests)
    assert (np.abs(weight / requests - 1.0)[there] <= 5.5 * error[there] + 1e-9).all()


@given(st.integers(0, 20), POLICIES, st.text(max_size=9), st.text(max_size=9))
def test_a_request_gets_the_same_list_again(
    count: int, policy: Exploration, request: str, subject: str
) -> None:
    items = [ListItem(f"i{number}", 0.5, None) for number in range(count)]
    lists = [explored(items, policy, use_case="u", subject_id=subject, request_id=request) for _ in range(2)]
    assert lists[0] == lists[1]
    assert {each.item_id for each in lists[0]} == {each.item_id for each in items}
