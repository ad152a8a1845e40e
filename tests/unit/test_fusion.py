"""Fusion of rankings, by hand; what validation chose, written and read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matchloop.entities import EntityId
from matchloop.errors import InvalidInput, ReleaseRefused
from matchloop.release import check_golden, write_golden
from matchloop.retrieval.choices import ENSEMBLE, Choices
from matchloop.retrieval.fusion import POOL, Fusion, Places, fuse, pool_of
from matchloop.usecase import Method, Tier

ALS, CONTENT, POPULAR, TOWERS = Method.ALS, Method.CONTENT, Method.POPULAR, Method.TWO_TOWER
ITEMS = [EntityId(letter) for letter in "abcdefgh"]

rankings_of_all = st.fixed_dictionaries(
    {method: st.permutations(ITEMS).flatmap(lambda p: st.integers(0, 8).map(lambda n: p[:n]))
     for method in (ALS, CONTENT, POPULAR, TOWERS)}
)  # fmt: skip


def names(text: str) -> list[EntityId]:
    return [EntityId(letter) for letter in text]


def test_fusion_by_hand() -> None:
    """Constant 1, weights 2 and 1: a has 2/2, b 2/3 + 1/2, c 1/3; the most there can be is 2/2 + 1/2."""
    fusion = Fusion({ALS: 2.0, CONTENT: 1.0}, 1.0)
    found = fuse({ALS: names("ab"), CONTENT: names("bc")}, 9, fusion=fusion)

    assert [hit.item for hit in found] == ["b", "a", "c"]
    assert [hit.score for hit in found] == pytest.approx([(2 / 3 + 1 / 2) / 1.5, 1 / 1.5, (1 / 3) / 1.5])
    assert fuse({ALS: names("ab"), CONTENT: names("ax")}, 1, fusion=fusion)[0] == ("a", 1.0)
    assert [hit.item for hit in fuse({ALS: names("aba")}, 9, fusion=fusion)] == ["a", "b"]


def test_by_default_als_towers_and_content_weigh_alike() -> None:
    rankings = {ALS: names("abc"), TOWERS: names("bca"), CONTENT: names("bd"), POPULAR: names("x")}
    assert [hit.item for hit in fuse(rankings, 9)] == ["b", "a", "c", "d"]
    assert [hit.item for hit in fuse({ALS: names("ab"), CONTENT: names("ba")}, 2)] == ["a", "b"]
    assert fuse({}, 5) == []
    assert fuse(rankings, 0) == []


def test_a_method_of_weight_0_has_no_say() -> None:
    fusion = Fusion({ALS: 0.0, CONTENT: 1.0}, 5.0)
    assert fusion.methods == (CONTENT,)
    assert [hit.item for hit in fuse({ALS: names("x"), CONTENT: names("y")}, 2, fusion=fusion)] == ["y"]
    assert fuse({ALS: names("x")}, 2, fusion=fusion) == []


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), 0.0])
def test_weights_that_mean_nothing_are_refused(weight: float) -> None:
    with pytest.raises(InvalidInput):
        Fusion({ALS: weight})
    with pytest.raises(InvalidInput):
        Fusion({ALS: 1.0, Method.ENSEMBLE: 1.0})
    with pytest.raises(InvalidInput):
        Fusion({ALS: 1.0}, constant=-1.0)
    with pytest.raises(InvalidInput):
        fuse({ALS: names("a")}, -1)


@given(rankings_of_all, st.permutations([ALS, CONTENT, POPULAR, TOWERS]), st.sampled_from([0.5, 2.0, 60.0]))
def test_the_order_methods_are_named_in_does_not_matter(
    rankings: dict[Method, list[EntityId]], order: list[Method], constant: float
) -> None:
    weights = {ALS: 1.0, CONTENT: 0.3, POPULAR: 0.6, TOWERS: 1.0}
    found = fuse(rankings, 8, fusion=Fusion(weights, constant))
    turned = Fusion({method: weights[method] for method in order}, constant)
    assert fuse({method: rankings[method] for method in order}, 8, fusion=turned) == found


@given(st.lists(rankings_of_all, min_size=1, max_size=4))
def test_many_subjects_at_once_get_what_each_gets_alone(many: list[dict[Method, list[EntityId]]]) -> None:
    fusion = Fusion({ALS: 1.0, CONTENT: 0.3, POPULAR: 0.6}, 5.0)
    lines = {}
    for method in (ALS, CONTENT, POPULAR, TOWERS):
        lines[method] = np.full((len(many), 8), -1, dtype=np.int64)
        for at, rankings in enumerate(many):
            rows = [ITEMS.index(item) for item in rankings[method]]
            lines[method][at, : len(rows)] = rows
    items, scores = Places.of(lines).fused(fusion, 8)
    for at, rankings in enumerate(many):
        alone = fuse(rankings, 8, fusion=fusion)
        assert [ITEMS[row] for row in items[at].tolist() if row >= 0] == [hit.item for hit in alone]
        assert scores[at, : len(alone)].tolist() == [hit.score for hit in alone]


def test_a_list_of_twenty_is_fused_as_one_of_ten() -> None:
    assert pool_of(10) == pool_of(20) == POOL
    assert pool_of(500) == 2500


CHOICES = Choices(
    {Tier.WARM: (Method.ENSEMBLE, ALS), Tier.COLD: (CONTENT,)},
    {Tier.WARM: Fusion({ALS: 1.0, POPULAR: 0.6, TOWERS: 0.0}, 5.0), Tier.COLD: Fusion({CONTENT: 1.0}, 2.0)},
)


def test_choices_are_read_as_written_and_answer_their_golden_request(tmp_path: Path) -> None:
    CHOICES.write(tmp_path)
    write_golden(tmp_path, {ENSEMBLE: CHOICES.golden_case()})
    read = Choices.read(tmp_path)

    assert read == CHOICES
    assert read.fusion(Tier.HOT) == Fusion()
    check_golden(tmp_path, {ENSEMBLE: read.answer})
    other = Choices(CHOICES.orders, {**CHOICES.fusions, Tier.WARM: Fusion({ALS: 1.0, POPULAR: 0.6}, 6.0)})
    with pytest.raises(ReleaseRefused, match=r"ensemble\.warm"):
        check_golden(tmp_path, {ENSEMBLE: other.answer})


def test_a_file_of_the_first_version_holds_orders_alone(tmp_path: Path) -> None:
    (tmp_path / "routing.json").write_text(json.dumps({"warm": ["als", "popular"]}))
    assert Choices.read(tmp_path) == Choices({Tier.WARM: (ALS, POPULAR)})
    assert Choices.read(tmp_path / "nowhere") == Choices()


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"warm": ["unheard_of"]}',
        '{"version": 3, "orders": {}, "ensemble": {}}',
        '{"version": 2, "orders": {}}',
        '{"version": 2, "orders": {}, "ensemble": {"warm": {"constant": 5, "weights": {"als": -1}}}}',
        '{"version": 2, "orders": {}, "ensemble": {"warm": {"constant": "x", "weights": {"als": 1}}}}',
    ],
)
def test_choices_that_cannot_be_read_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "routing.json").write_text(text)
    with pytest.raises(ReleaseRefused, match=r"routing\.json"):
        Choices.read(tmp_path)
