"""Order of arrival, repetition and grouping change nothing; literals and features come back as they went."""

from __future__ import annotations

import random
from datetime import timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_svc.catalog import ChangePosition, halved, merge_decayed
from feedback_svc.dislikes import FLOOR, Cut, decayed_factor, fold
from feedback_svc.interactions import Interaction
from feedback_svc.store.features import canonical
from feedback_svc.store.memory import MemoryStore
from feedback_svc.store.postgres.literals import float_array, number_array, text_array
from matchloop.entities import Categorical, Embedding, Multi, Numeric, Text
from tests.feedback_worlds import NOW, USE_CASE, event, facts, key

days = st.floats(-4000, 1, allow_nan=False)
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)

weighted = st.tuples(st.floats(0.01, 10), days.map(lambda d: NOW + timedelta(days=d)))


@given(st.lists(weighted, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_decayed_sums_do_not_depend_on_order(events: list[tuple[float, object]], rng: random.Random) -> None:
    def total(of: list[tuple[float, object]]) -> tuple[float, object]:
        state = of[0]
        for one in of[1:]:
            state = merge_decayed(state, one, 86_400.0 * 14)  # type: ignore[arg-type]
        return state

    shuffled = rng.sample(events, len(events))
    (weight, time), (other, other_time) = total(events), total(shuffled)
    assert time == other_time
    assert abs(weight - other) <= 1e-9 * weight


@given(days, st.floats(1, 1e9))
def test_what_is_left_is_a_share(age: float, half_life: float) -> None:
    assert 0.0 < halved(NOW + timedelta(days=min(age, 0.0)), NOW, half_life) <= 1.0


cuts = st.builds(
    Cut,
    st.just("category"),
    st.just("fintech"),
    st.floats(0.0, 0.99),
    days.map(lambda d: NOW + timedelta(days=d)),
    st.integers(0, 99).map(str),
)


@given(st.lists(cuts, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_factors_are_of_the_set_and_stay_between_the_floor_and_one(
    found: list[Cut], rng: random.Random
) -> None:
    factor = fold(found)
    assert factor is not None
    assert factor == fold(rng.sample(found, len(found))) or len({c.dislike_id for c in found}) < len(found)
    assert FLOOR <= factor.factor <= 1.0
    later = decayed_factor(factor.factor, factor.as_of, factor.as_of + timedelta(days=90))
    assert abs((1 - later) - (1 - factor.factor) / 2) < 1e-12


reactions = st.builds(
    lambda number, type_, age: event(str(number), f"s{number % 2}", f"i{number % 3}", type_, days=age),
    st.integers(0, 12),
    st.sampled_from(["view", "click", "like", "dislike"]),
    st.integers(-100, 0),
)


@settings(max_examples=50)
@given(st.lists(reactions, min_size=1, max_size=20, unique_by=lambda i: i.interaction_id), st.data())
def test_replays_in_any_order_and_grouping_leave_one_state(
    events: list[Interaction], data: st.DataObject
) -> None:
    once, often = MemoryStore(), MemoryStore()
    once.record_interactions(events, facts(events), now=NOW)
    for _ in range(3):
        order = data.draw(st.permutations(events))
        cut = data.draw(st.integers(0, len(order)))
        for batch in (order[:cut], order[cut:]):
            often.record_interactions(batch, facts(batch), now=NOW)
    for subject in ("s0", "s1"):
        one, other = (
            s.lookup_subject_state(USE_CASE, key("investor", subject), now=NOW) for s in (once, often)
        )
        assert one.interaction_count == other.interaction_count
        assert sorted(one.recent_events.times) == sorted(other.recent_events.times)
        assert set(one.hidden_item_ids) == set(other.hidden_item_ids)
    stats = [
        {
            s.item_id: (s.views, s.interactions, round(s.decayed_weight, 9), s.decay_time)
            for s in store.list_item_stats(USE_CASE, after=ChangePosition(), limit=99).rows
        }
        for store in (once, often)
    ]
    assert stats[0] == stats[1]


@given(st.lists(texts, max_size=5))
def test_text_literals_unquote_to_what_they_were(values: list[str]) -> None:
    assert unquoted(text_array(values)) == values


def unquoted(literal: str) -> list[str]:
    """Read a PostgreSQL array literal of quoted elements."""
    found, current, at = [], [], 1
    inside = False
    while at < len(literal) - 1:
        letter = literal[at]
        if inside and letter == "\\":
            at += 1
            current.append(literal[at])
        elif letter == '"':
            if inside:
                found.append("".join(current))
                current = []
            inside = not inside
        elif inside:
            current.append(letter)
        at += 1
    return found


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_number_literals_are_exact(values: list[float]) -> None:
    body = number_array(values)[1:-1]
    assert [float(part) for part in body.split(",") if part] == values


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_float_literals_are_exact(values: list[float]) -> None:
    assert [float(part) for part in float_array(values)[1:-1].split(",") if part] == values


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=5))
def test_literals_of_single_precision_are_exact_in_it(values: list[float]) -> None:
    parts = [part for part in float_array(values, digits=9)[1:-1].split(",") if part]
    assert [float(np.float32(part)) for part in parts] == values


values = st.one_of(
    texts.map(Categorical),
    st.sets(texts, max_size=4).map(lambda v: Multi(tuple(sorted(v)))),
    st.floats(allow_nan=False, allow_infinity=False).map(Numeric),
    texts.map(Text),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=4).map(
        lambda v: Embedding(tuple(v))
    ),
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), values, max_size=4))
def test_features_come_back_as_they_went(features: dict[str, Text]) -> None:
    assert dict(canonical(features)) == features
