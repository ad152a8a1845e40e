"""Common random numbers: what happens to a pair at a rank does not depend on the list around it."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from matchloop.usecase import load_use_cases
from playground.market import Market, Shown
from playground.market.chance import Purpose, hashes, uniforms
from playground.market.generated import Sizes

NAME = "developer_startup"
MARKET = Market.generated(
    load_use_cases(), seed=1, now=datetime(2026, 1, 1, tzinfo=UTC), sizes=Sizes(20, 10, 40)
)
ITEMS = MARKET.direction(NAME).item_ids


@settings(max_examples=60, deadline=None)
@given(st.permutations(ITEMS), st.permutations(ITEMS), st.integers(0, 9), st.integers(0, 50))
def test_same_item_same_rank_same_outcome(one: list[str], other: list[str], rank: int, round_: int) -> None:
    item = one[rank]
    other.remove(item)
    other.insert(rank, item)
    subject = MARKET.direction(NAME).subject_ids[3]
    first = [r for r in MARKET.react(NAME, subject, one[:10], round_) if r.item_id == item]
    second = [r for r in MARKET.react(NAME, subject, other[:10], round_) if r.item_id == item]
    assert first == second


@settings(max_examples=60, deadline=None)
@given(st.permutations(ITEMS), st.integers(0, 50))
def test_higher_up_is_never_worse(order: list[str], round_: int) -> None:
    """The same luck at a better rank: what is clicked at one rank is clicked at every better one."""
    subject = MARKET.direction(NAME).subject_ids[5]
    lists = [Shown(subject, tuple(order)), Shown(subject, tuple(reversed(order)))]
    happened = MARKET.play(NAME, lists, round_)
    clicked = {
        (i, int(item)): bool(hit)
        for i, item, hit in zip(happened.list_index, happened.item_row, happened.clicked, strict=True)
    }
    n = len(order)
    for place, item in enumerate(order):
        row = MARKET.direction(NAME).item_row[item]
        better, worse = (0, 1) if place < n - 1 - place else (1, 0)
        assert clicked[better, row] >= clicked[worse, row]


def test_numbers_are_uniform_and_purposes_independent() -> None:
    subjects, items = hashes([f"s{i}" for i in range(200)]), hashes([f"i{i}" for i in range(200)])

    def draw(purpose: Purpose, round_: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return uniforms(
            seed=1,
            round_=round_,
            use_case="x",
            subjects=subjects[:, None],
            items=items[None, :],
            purpose=purpose,
        ).reshape(-1)

    clicks = draw(Purpose.CLICK)
    counts, _ = np.histogram(clicks, bins=20, range=(0, 1))
    assert abs(counts / len(clicks) - 0.05).max() < 0.006
    for other in (draw(Purpose.EXAMINE), draw(Purpose.CLICK, round_=2)):
        assert abs(np.corrcoef(clicks, other)[0, 1]) < 0.02
