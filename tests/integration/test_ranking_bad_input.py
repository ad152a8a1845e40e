"""Whatever is sent: an answer, or every violated field by name; never INTERNAL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matchloop.candidate.v1 import candidate_pb2
from matchloop.catalog.v1 import entity_pb2
from matchloop.errors import (
    InvalidInput,
    NotFound,
    Reason,
)
from matchloop.ranking.v1 import ranking_service_pb2 as pb
from matchloop.rpc.channel import call
from tests.integration.ranking_rig import Rig, filter_of, one_of
from tests.ranking_world import MOVIE

LONG = "x" * 129


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """For tests that change nothing."""
    with Rig(tmp_path_factory.mktemp("shared")) as made:
        yield made


# --- bad input


BAD_RECOMMENDS: list[tuple[dict[str, Any], list[str]]] = [
    ({"use_case": ""}, ["use_case"]),
    ({"use_case": "Not a name"}, ["use_case"]),
    ({"subject_id": ""}, ["subject_id"]),
    ({"subject_id": LONG}, ["subject_id"]),
    ({"subject_id": "a\nb"}, ["subject_id"]),
    ({"count": -1}, ["count"]),
    ({"count": 201}, ["count"]),
    ({"exclude_item_ids": ["", "m1", LONG]}, ["exclude_item_ids[0]", "exclude_item_ids[2]"]),
    ({"exclude_item_ids": [f"m{i}" for i in range(1001)]}, ["exclude_item_ids"]),
    ({"filters": [filter_of(equals="x")] * 17}, ["filters"]),
    ({"filters": [filter_of(equals="x"), filter_of()]}, ["filters[1].test"]),
    ({"filters": [filter_of("nothing", equals="x")]}, ["filters[0].feature"]),
    ({"filters": [filter_of("", equals="x")]}, ["filters[0].feature"]),
    ({"filters": [filter_of("release_year", equals="x")]}, ["filters[0].equals"]),
    ({"filters": [filter_of(equals="")]}, ["filters[0].equals"]),
    ({"filters": [one_of()]}, ["filters[0].in.values"]),
    (
        {"filters": [one_of("a", "")]},
        ["filters[0].in.values[1]"],
    ),
    ({"filters": [filter_of(range=candidate_pb2.Range(min=1.0))]}, ["filters[0].range"]),
    ({"filters": [filter_of("release_year", range=candidate_pb2.Range())]}, ["filters[0].range"]),
    (
        {"filters": [filter_of("release_year", range=candidate_pb2.Range(min=math.nan, max=math.inf))]},
        ["filters[0].range.min", "filters[0].range.max"],
    ),
    (
        {"filters": [filter_of("release_year", range=candidate_pb2.Range(min=2.0, max=1.0))]},
        ["filters[0].range"],
    ),
    (
        {"subject_features": {"age": entity_pb2.FeatureValue(numeric=math.nan)}},
        ['subject_features["age"]'],
    ),
    ({"subject_features": {"nothing": entity_pb2.FeatureValue(numeric=1)}}, ['subject_features["nothing"]']),
    ({"subject_features": {"age": entity_pb2.FeatureValue(text="x")}}, ['subject_features["age"]']),
    ({"methods": [0]}, ["methods[0]"]),
    ({"methods": [99]}, ["methods[0]"]),
    ({"methods": [1, 2, 1]}, ["methods[2]"]),
    ({"methods": [1, 2, 3, 4, 5, 1]}, ["methods"]),
    (
        {"subject_id": "", "count": -3, "methods": [0], "use_case": ""},
        ["use_case", "subject_id", "count", "methods[0]"],
    ),
]


@pytest.mark.parametrize(("fields", "expected"), BAD_RECOMMENDS)
def test_every_violated_field_of_a_recommend_is_named(
    shared: Rig, fields: dict[str, Any], expected: list[str]
) -> None:
    before = len(shared.feedback.sessions)
    with pytest.raises(InvalidInput) as caught:
        shared.recommend(**fields)
    assert caught.value.reason is Reason.INVALID_INPUT
    assert [violation.field for violation in caught.value.violations] == expected
    assert len(shared.feedback.sessions) == before


BAD_RANKS: list[tuple[list[pb.RankItem], list[str]]] = [
    ([], ["items"]),
    ([pb.RankItem(item_id=f"m{i}") for i in range(201)], ["items"]),
    ([pb.RankItem(item_id="m1"), pb.RankItem()], ["items[1].item_id"]),
    ([pb.RankItem(item_id="m1"), pb.RankItem(item_id=LONG)], ["items[1].item_id"]),
    ([pb.RankItem(item_id="m1"), pb.RankItem(item_id="m1")], ["items[1].item_id"]),
    ([pb.RankItem(item_id="m1", score=math.nan)], ["items[0].score"]),
    ([pb.RankItem(item_id="m1", score=-math.inf)], ["items[0].score"]),
    ([pb.RankItem(item_id="m1", score=1.0), pb.RankItem(item_id="m2")], ["items[1].score"]),
]


@pytest.mark.parametrize(("items", "expected"), BAD_RANKS)
def test_every_violated_field_of_a_rank_is_named(
    shared: Rig, items: list[pb.RankItem], expected: list[str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        shared.rank(items=items)
    assert [violation.field for violation in caught.value.violations] == expected


@pytest.mark.parametrize("method", ["Recommend", "Rank", "GetExperimentResults"])
def test_an_unknown_use_case_is_not_found(shared: Rig, method: str) -> None:
    requests = {
        "Recommend": pb.RecommendRequest(use_case="unknown", subject_id="u1"),
        "Rank": pb.RankRequest(use_case="unknown", subject_id="u1", items=[pb.RankItem(item_id="m1")]),
        "GetExperimentResults": pb.GetExperimentResultsRequest(use_case="unknown"),
    }
    with pytest.raises(NotFound) as caught:
        call(getattr(shared.stub, method), requests[method], upstream="ranking_svc")
    assert caught.value.reason is Reason.USE_CASE_NOT_FOUND


def test_an_empty_session_id_cannot_be_traced(shared: Rig) -> None:
    with pytest.raises(InvalidInput):
        call(shared.stub.Trace, pb.TraceRequest(), upstream="ranking_svc")


SOME_TEXT = st.one_of(st.sampled_from(["", "m1", "genres", MOVIE.id, LONG]), st.text(max_size=8))
ODD_FLOATS = st.floats(allow_nan=True, allow_infinity=True)
FILTERS = st.builds(
    candidate_pb2.FeatureFilter, feature=st.sampled_from(["genres", "release_year", "title", ""])
) | st.builds(
    lambda low, high: filter_of("release_year", range=candidate_pb2.Range(min=low, max=high)),
    ODD_FLOATS,
    ODD_FLOATS,
)
RECOMMENDS = st.builds(
    pb.RecommendRequest,
    use_case=st.sampled_from([MOVIE.id, "developer_startup", "", "nothing"]),
    subject_id=SOME_TEXT,
    count=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 200),
    exclude_item_ids=st.lists(SOME_TEXT, max_size=4),
    filters=st.lists(FILTERS, max_size=2),
    methods=st.lists(st.integers(-1, 7), max_size=6),
    explain=st.booleans(),
    preview=st.booleans(),
)
RANKS = st.builds(
    pb.RankRequest,
    use_case=st.sampled_from([MOVIE.id, "", "nothing"]),
    subject_id=SOME_TEXT,
    items=st.lists(
        st.builds(pb.RankItem, item_id=SOME_TEXT, score=st.none() | ODD_FLOATS | st.floats(0, 1)), max_size=6
    ),
    explain=st.booleans(),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=st.one_of(RECOMMENDS, RANKS))
def test_any_request_is_answered_or_told_what_is_wrong(shared: Rig, request: Any) -> None:
    method: Any = shared.stub.Recommend if isinstance(request, pb.RecommendRequest) else shared.stub.Rank
    try:
        reply: Any = call(method, request, upstream="ranking_svc")
    except (InvalidInput, NotFound):
        return
    assert [item.rank for item in reply.items] == list(range(1, len(reply.items) + 1))
    assert len({item.item_id for item in reply.items}) == len(reply.items)
    assert all(math.isfinite(item.score) for item in reply.items)
