"""Fusion, the order of methods, and weights by position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from matchloop.entities import EntityId
from matchloop.errors import InvalidInput
from matchloop.position import Weighting, examination, exposure_weight
from matchloop.retrieval.routing import Skip, SkipReason, method_order, route
from matchloop.retrieval.scored import Hit
from matchloop.usecase import Method, Tier, load_use_cases

ALS, CONTENT, POPULAR, TOWERS = Method.ALS, Method.CONTENT, Method.POPULAR, Method.TWO_TOWER


def names(text: str) -> list[EntityId]:
    return [EntityId(letter) for letter in text]


def hits(text: str) -> list[Hit]:
    return [Hit(item, 1.0 / (at + 1)) for at, item in enumerate(names(text))]


def test_the_order_is_the_requests_or_the_tiers() -> None:
    use_case = load_use_cases()["investor_startup"]
    assert method_order(use_case, Tier.COLD) == (CONTENT, POPULAR)
    assert method_order(use_case, Tier.HOT) == (TOWERS, ALS, CONTENT, POPULAR)
    assert method_order(use_case, Tier.HOT, [ALS, POPULAR, ALS]) == (ALS, POPULAR)


def test_each_method_fills_what_the_ones_before_it_left() -> None:
    answers: dict[Method, Sequence[Hit] | SkipReason] = {
        ALS: SkipReason.NO_SIGNAL,
        CONTENT: hits("ab"),
        POPULAR: hits("bcde"),
    }
    asked: list[tuple[Method, int]] = []

    def ask(method: Method, k: int) -> Sequence[Hit] | SkipReason:
        asked.append((method, k))
        return answers[method]

    routed = route([TOWERS, ALS, CONTENT, POPULAR], lambda method: method is not TOWERS, ask, 4)
    found = [(candidate.hit.item, candidate.method) for candidate in routed.candidates]
    assert found == [("a", CONTENT), ("b", CONTENT), ("c", POPULAR), ("d", POPULAR)]
    assert routed.skipped == (
        Skip(TOWERS, SkipReason.MISSING),
        Skip(ALS, SkipReason.NO_SIGNAL),
        Skip(CONTENT, SkipReason.TOO_FEW, found=2),
    )
    assert asked == [(ALS, 4), (CONTENT, 4), (POPULAR, 4)]


def test_methods_after_a_full_list_are_not_asked() -> None:
    def ask(method: Method, k: int) -> Sequence[Hit]:
        assert method is ALS
        return hits("abcdef")

    routed = route([ALS, POPULAR], lambda method: True, ask, 2)
    assert [candidate.hit.item for candidate in routed.candidates] == ["a", "b"]
    assert routed.skipped == ()
    assert route([ALS], lambda method: True, ask, 0).candidates == ()


def test_routing_never_fails_for_want_of_items() -> None:
    routed = route([ALS, POPULAR], lambda method: True, lambda method, k: SkipReason.FAILED, 3)
    assert routed.candidates == ()
    assert [skip.reason for skip in routed.skipped] == [SkipReason.FAILED, SkipReason.FAILED]
    with pytest.raises(InvalidInput):
        route([], lambda method: True, lambda method, k: [], -1)


def test_examination_is_as_specified() -> None:
    assert examination([1, 5, 10]) == pytest.approx([1.0, 0.39, 0.29], abs=0.005)
    assert float(examination(3)) == 0.5


def test_exposure_weights() -> None:
    ranks = np.asarray([1, 3, 10_000])
    assert exposure_weight(ranks, Weighting.DISCOUNT)[:2].tolist() == [1.0, 0.5]
    assert exposure_weight(ranks, Weighting.INVERSE).tolist() == [1.0, 2.0, 5.0]
    assert exposure_weight(ranks, Weighting.INVERSE, cap=1.5).tolist() == [1.0, 1.5, 1.5]
    assert exposure_weight(ranks, Weighting.NONE).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("rank", [0, -1, float("nan"), float("inf")])
def test_ranks_start_at_one(rank: float) -> None:
    with pytest.raises(InvalidInput):
        examination([1, rank])
    with pytest.raises(InvalidInput):
        exposure_weight([1], Weighting.INVERSE, cap=0.5)
