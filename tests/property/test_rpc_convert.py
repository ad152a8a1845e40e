"""Entities survive the wire; faults are named by feature."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matchloop.catalog.v1 import entity_pb2
from matchloop.entities import (
    Categorical,
    Embedding,
    Entity,
    EntityId,
    EntityKey,
    FeatureValue,
    Kind,
    Multi,
    Numeric,
    Text,
)
from matchloop.rpc import convert
from matchloop.rpc.validation import Violations

NOW = datetime(2100, 1, 1, tzinfo=UTC)

words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)
ids = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), min_size=1, max_size=128)
names = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
values: st.SearchStrategy[FeatureValue] = st.one_of(
    words.map(Categorical),
    st.lists(words, max_size=5, unique=True).map(lambda found: Multi(tuple(found))),
    st.floats(allow_nan=False, allow_infinity=False).map(Numeric),
    words.map(Text),
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8).map(lambda v: Embedding(tuple(v))),
)
times = st.datetimes(datetime(1900, 1, 2), datetime(2099, 1, 1), timezones=st.just(UTC))
entities = st.builds(
    Entity,
    st.builds(EntityKey, names.map(Kind), ids.map(EntityId)),
    st.dictionaries(names, values, max_size=6),
    st.none() | times,
    st.none() | times,
    st.booleans(),
    st.integers(0, 2**62),
)


@given(entities)
def test_an_entity_survives_the_wire(entity: Entity) -> None:
    wire = convert.entity_to_proto(entity).SerializeToString()
    message = entity_pb2.Entity.FromString(wire)
    assert convert.read_entity(message) == entity
    violations = Violations(now=NOW)
    checked = convert.entity_from_proto(message, violations)
    violations.raise_if_any()
    assert (checked.key, checked.features, checked.create_time) == (
        entity.key,
        entity.features,
        entity.create_time,
    )
    assert checked.change_sequence == 0


SCHEMAS = {"movie": {"genres": "multi", "year": "numeric", "title": "text", "look": "embedding"}}


@pytest.mark.parametrize(
    ("features", "fault"),
    [
        ({"budget": Numeric(1.0)}, ('features["budget"]', "is no feature of this kind")),
        ({"year": Text("1994")}, ('features["year"]', "is text, not numeric as the use case declares")),
        ({"year": Numeric(math.inf)}, ('features["year"]', "is inf, not a finite number")),
        ({"genres": Multi(("a", "a"))}, ('features["genres"][1]', 'repeats features["genres"][0]')),
        ({"genres": Multi(("",))}, ('features["genres"][0]', "is required")),
        (
            {"genres": Multi(tuple(map(str, range(65))))},
            ('features["genres"]', "has 65 entries, at most 64 are allowed"),
        ),
        ({"look": Embedding((0.0,))}, ('features["look"]', "is 1 wide, not 2 as the use case declares")),
        ({"look": Embedding((0.0, math.nan))}, ('features["look"][1]', "is nan, not a finite number")),
    ],
)
def test_faults_are_named(features: dict[str, FeatureValue], fault: tuple[str, str]) -> None:
    message = convert.entity_to_proto(Entity(EntityKey(Kind("movie"), EntityId("m1")), features))
    violations = Violations(now=NOW)
    convert.entity_from_proto(message, violations.within("entities[2]"), schemas=SCHEMAS, embedding_width=2)
    assert [(v.field, v.description) for v in violations.found] == [("entities[2]." + fault[0], fault[1])]


def test_an_empty_entity_names_all_it_lacks() -> None:
    violations = Violations(now=NOW)
    message = entity_pb2.Entity(features={"x": entity_pb2.FeatureValue()})
    convert.entity_from_proto(message, violations)
    assert [v.field for v in violations.found] == ["key.kind", "key.id", 'features["x"]']
    unknown = Violations(now=NOW)
    known_shape = entity_pb2.Entity(key=entity_pb2.EntityKey(kind="film", id="1"))
    convert.entity_from_proto(known_shape, unknown, schemas=SCHEMAS)
    assert [v.field for v in unknown.found] == ["key.kind"]


def test_naive_times_are_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        convert.timestamp(datetime(2020, 1, 1))
