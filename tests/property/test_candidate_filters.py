"""Filters agree with reading the features one by one, however the rows came to be."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from candidate_svc.domain import Equals, FeatureFilter, OneOf, Within
from candidate_svc.filters import fitting
from candidate_svc.row_map import RowMap
from candidate_svc.rows import ItemRows
from matchloop.entities import (
    Categorical,
    Entity,
    EntityId,
    FeatureValue,
    Kind,
    Multi,
    Numeric,
    discrete_values,
)
from matchloop.rerank.values import discrete_features, value_shares
from tests.candidate_world import startup, use_case

VALUES = st.sampled_from(["a", "b", "c", "d"])
NUMBERS = st.sampled_from([-1.0, 0.0, 2.5, 7.0])

features: st.SearchStrategy[dict[str, FeatureValue]] = st.fixed_dictionaries(
    {},
    optional={
        "category": VALUES.map(Categorical),
        "tags": st.lists(VALUES, unique=True, max_size=3).map(tuple).map(Multi),
        "founded_year": NUMBERS.map(Numeric),
    },
)
items = st.builds(
    lambda name, given, active: Entity(
        startup(name).key, given, active=active, create_time=startup(name).create_time
    ),
    st.sampled_from(["i0", "i1", "i2", "i3", "i4"]),
    features,
    st.booleans(),
)
filters: st.SearchStrategy[FeatureFilter] = st.one_of(
    st.builds(Equals, st.sampled_from(["category", "tags"]), VALUES),
    st.builds(
        OneOf, st.sampled_from(["category", "tags"]), st.lists(VALUES, min_size=1, max_size=3).map(tuple)
    ),
    st.builds(Within, st.just("founded_year"), st.none() | NUMBERS, st.none() | NUMBERS),
)


def fits(test: FeatureFilter, item: Entity) -> bool:
    value = item.features.get(test.feature)
    match test:
        case Equals(_, wanted):
            return wanted in discrete_values(value)
        case OneOf(_, wanted_any):
            return not set(wanted_any).isdisjoint(discrete_values(value))
        case Within(_, minimum, maximum):
            number = value.value if isinstance(value, Numeric) else math.nan
            low, high = (
                (-math.inf if minimum is None else minimum),
                (math.inf if maximum is None else maximum),
            )
            return low <= number <= high


@given(st.lists(st.lists(items, max_size=6), max_size=4), st.lists(filters, min_size=1, max_size=4))
def test_a_mask_is_what_each_item_says(
    batches: Sequence[Sequence[Entity]], tests: Sequence[FeatureFilter]
) -> None:
    rows = ItemRows(Kind("startup"), use_case().item_features)
    last: dict[str, Entity] = {}
    for batch in batches:
        rows.apply(batch)
        last |= {item.key.id: item for item in batch}
    mask = fitting(tests, rows, rows.count)
    assert mask is not None
    expected = [all(fits(test, last[rows.entity(row).key.id]) for test in tests) for row in range(rows.count)]
    assert mask.tolist() == expected
    assert rows.active(rows.count).tolist() == [
        last[rows.entity(row).key.id].active for row in range(rows.count)
    ]


@given(st.lists(st.lists(items, max_size=6), max_size=4))
def test_what_is_kept_of_a_row_is_what_its_item_says(batches: Sequence[Sequence[Entity]]) -> None:
    rows = ItemRows(Kind("startup"), use_case().item_features)
    states: dict[int, tuple[object, Entity]] = {}
    for batch in batches:
        rows.apply(batch)
        for row in range(rows.count):
            item, state = rows.entity(row), rows.state(row)
            assert rows.discrete(row) == discrete_features(item)
            assert rows.shares(row) == value_shares(discrete_features(item))
            assert rows.came(np.array([row]), rows.count) == [item.create_time]
            assert (state is None) == (not item.features)
            if row in states and states[row][0] is state:
                assert states[row][1].features == item.features
            states[row] = (state, item)


@given(st.lists(st.lists(items, max_size=6), max_size=4))
def test_an_order_of_changes_or_all_at_once_is_the_same(batches: Sequence[Sequence[Entity]]) -> None:
    one, other = (ItemRows(Kind("startup"), use_case().item_features) for _ in range(2))
    for batch in batches:
        one.apply(batch)
    other.apply([item for batch in batches for item in batch])
    for name in ("i0", "i1", "i2", "i3", "i4"):
        assert one.find(name) == other.find(name)
    for value in ("a", "b", "c", "d"):
        held = [
            {rows.entity(row).key.id for row in rows.holding("tags", value, rows.count)}
            for rows in (one, other)
        ]
        assert held[0] == held[1]


def test_no_filter_is_no_mask() -> None:
    assert fitting((), ItemRows(Kind("startup"), use_case().item_features), 0) is None


@given(st.lists(st.sampled_from(["i0", "i1", "i2", "i3"]), unique=True), st.integers(0, 6))
def test_a_row_map_follows_the_rows(names: list[str], cut: int) -> None:
    rows = ItemRows(Kind("startup"), use_case().item_features)
    where = RowMap([EntityId(f"i{i}") for i in range(6)], rows)
    for at, name in enumerate(names):
        rows.apply([startup(name)])
        expected = [names.index(f"i{i}") if f"i{i}" in names[: at + 1] else -1 for i in range(6)]
        assert where.rows(rows.count).tolist() == expected
    count = min(cut, rows.count)
    assert (where.rows(count) < count).all()
    assert np.array_equal(np.sort(where.rows(count)[where.rows(count) >= 0]), np.arange(count))
