"""The bounds of CandidateService and RankingService, RPC by RPC; see `tests.bounds`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from matchloop.candidate.v1 import candidate_pb2
from matchloop.candidate.v1 import candidate_service_pb2 as candidate
from matchloop.errors import Reason
from matchloop.ranking.v1 import ranking_service_pb2 as ranking
from tests.bounds import ANY, LARGEST, Bound, Features, Past, identifier, pages, startup_features

USE_CASE = "developer_startup"
REVERSE = "startup_developer"
"""Its subjects are startups: they have features of every type."""

LONG = "\U0001f600" * 256

METHODS: tuple[tuple[Any, str], ...] = ((candidate, "CandidateService"), (ranking, "RankingService"))


def base(method: str) -> Message:
    """Return a request that is answered OK."""
    of_subject: dict[str, Any] = {"use_case": USE_CASE, "subject_id": "d1"}
    test = candidate_pb2.FeatureFilter(feature="category", equals="games")
    requests: dict[str, Callable[[], Message]] = {
        "GetCandidates": lambda: candidate.GetCandidatesRequest(**of_subject, filters=[test]),
        "GetSimilarItems": lambda: candidate.GetSimilarItemsRequest(
            use_case=USE_CASE, item_id="s1", filters=[test]
        ),
        "ListTrending": lambda: candidate.ListTrendingRequest(use_case=USE_CASE, filters=[test]),
        "Recommend": lambda: ranking.RecommendRequest(**of_subject, preview=True, filters=[test]),
        "Rank": lambda: ranking.RankRequest(
            **of_subject, preview=True, items=[ranking.RankItem(item_id="s1")]
        ),
        "Trace": lambda: ranking.TraceRequest(session_id="s"),
        "GetExperimentResults": lambda: ranking.GetExperimentResultsRequest(use_case=USE_CASE),
    }
    return requests[method]()


LISTED_USE_CASE = Bound(
    (USE_CASE,),
    ("", "Not a name", "x" * 65, "a\x00", Past("x" * 64, reason=Reason.USE_CASE_NOT_FOUND)),
)


def ids(most: int, field: str) -> Bound:
    full = [f"{n:0128}" for n in range(most)]
    odd = ["\U0001f600" * 128, " ", '"\\{}']
    past = [Past([*full, "x"], (field,))]
    past += [Past(["fine", fault], (f"{field}[1]",)) for fault in ("", "x" * 129, "a\x00b", "a\nb")]
    return Bound(([], full, odd, ["same", "same"]), tuple(past))


def several_methods(field: str) -> Bound:
    past = [Past([1, 2, 3, 4, 5, 1], (field,)), Past([1, 2, 1], (f"{field}[2]",))]
    past += [Past([1, fault], (f"{field}[1]",)) for fault in (0, -1, 6, 2**31 - 1)]
    return Bound(([], [1], [5, 4, 3, 2, 1]), tuple(past))


def count(most: int) -> Bound:
    return Bound((0, 1, most), (-1, -(2**31), most + 1, 2**31 - 1))


def filters(method: str) -> dict[str, Bound]:
    """Rules of filters; a case is a whole request with one filter."""

    def having(feature: str = "category", **test: Any) -> Message:
        request: Any = base(method)
        request.ClearField("filters")
        request.filters.append(candidate_pb2.FeatureFilter(feature=feature, **test))
        return request  # type: ignore[no-any-return]

    def within(**sides: float) -> Message:
        return having("founded_year", range=candidate_pb2.Range(**sides))

    def one_of(*values: str, feature: str = "tags") -> Message:
        return having(feature, **{"in": candidate_pb2.ValueSet(values=values)})

    def past(request: Message, part: str) -> Past:
        return Past(request, (f"filters[0].{part}",))

    one = candidate_pb2.FeatureFilter(feature="category", equals="games")
    texts = ("", "x" * 257, "a\x00b")
    finite = (math.nan, math.inf, -math.inf)
    values = Bound(
        (one_of("x"), one_of(*(str(n) for n in range(100))), one_of(LONG, "a\nb", feature="category")),
        (
            past(one_of(), "in.values"),
            past(one_of(*["x"] * 101), "in.values"),
            *(past(one_of("a", fault), "in.values[1]") for fault in texts),
            *(past(one_of("a", feature=other), "in") for other in ("founded_year", "name", "embedding")),
        ),
    )
    ranges = Bound(
        (within(min=2001.0), within(max=2001.0), within(min=2001.0, max=2001.0)),
        (
            past(within(), "range"),
            past(within(min=2.0, max=1.0), "range"),
            *(
                past(having(other, range=candidate_pb2.Range(min=1.0)), "range")
                for other in ("category", "tags", "name", "embedding")
            ),
        ),
    )
    return {
        "filters": Bound(([], [one] * 16), (Past([one] * 17, ("filters",)), past(having(), "test"))),
        "filters.feature": Bound(
            ("category", "tags"),
            tuple(past(having(n, equals="x"), "feature") for n in ("", "nope", "a\x00")),
        ),
        "filters.equals": Bound(
            ("games", LONG, "a\nb"),
            (
                *(past(having(equals=fault), "equals") for fault in texts),
                *(past(having(n, equals="x"), "equals") for n in ("founded_year", "name", "embedding")),
            ),
        ),
        "filters.in": values,
        "filters.in.values": values,
        "filters.range": ranges,
        "filters.range.min": Bound(
            (within(min=-LARGEST), within(min=LARGEST), within(min=-0.0)),
            tuple(past(within(min=fault), "range.min") for fault in finite),
        ),
        "filters.range.max": Bound(
            (within(max=-LARGEST), within(max=LARGEST), within(max=5e-324)),
            tuple(past(within(max=fault), "range.max") for fault in finite),
        ),
    }


def subject_features(method: str) -> dict[str, Bound]:
    def made(given: Features) -> Message:
        request: Any = base(method)
        request.ClearField("filters")
        request.use_case, request.subject_id = REVERSE, "unheard of"
        for name, value in given.items():
            request.subject_features[name].CopyFrom(value)
        return request  # type: ignore[no-any-return]

    return startup_features("subject_features", "subject_features", made)


def with_items(*items: dict[str, Any]) -> Message:
    request: Any = base("Rank")
    del request.items[:]
    request.items.extend(ranking.RankItem(**item) for item in items)
    return request  # type: ignore[no-any-return]


def scored(score: float) -> Message:
    return with_items({"item_id": "s1", "score": score}, {"item_id": "s2", "score": 0.5})


OF_SUBJECT = {"use_case": LISTED_USE_CASE, "subject_id": identifier()}

BY_METHOD: dict[str, dict[str, Bound]] = {
    "GetCandidates": {
        **OF_SUBJECT,
        "count": count(500),
        "exclude_item_ids": ids(1000, "exclude_item_ids"),
        **filters("GetCandidates"),
        **subject_features("GetCandidates"),
        "methods": several_methods("methods"),
        "explain": ANY,
        "only_item_ids": ids(500, "only_item_ids"),
        "release_alias": Bound(("", "champion", "challenger"), ("other", "Champion", "champion ")),
    },
    "GetSimilarItems": {
        "use_case": LISTED_USE_CASE,
        "item_id": Bound(("s1",), ("", "x" * 129, "a\x00", Past("x" * 128, reason=Reason.ENTITY_NOT_FOUND))),
        "count": count(500),
        **filters("GetSimilarItems"),
        "explain": ANY,
    },
    "ListTrending": {"use_case": LISTED_USE_CASE, **filters("ListTrending"), **pages(500)},
    "Recommend": {
        **OF_SUBJECT,
        "count": count(200),
        "exclude_item_ids": ids(1000, "exclude_item_ids"),
        **filters("Recommend"),
        **subject_features("Recommend"),
        "explain": ANY,
        "preview": ANY,
        "methods": several_methods("methods"),
    },
    "Rank": {
        **OF_SUBJECT,
        "items": Bound(
            (with_items({"item_id": "s1"}), with_items(*({"item_id": f"{n:0128}"} for n in range(200)))),
            (
                Past(with_items(), ("items",)),
                Past(with_items(*({"item_id": f"i{n}"} for n in range(201))), ("items",)),
                Past(with_items({"item_id": "s1"}, {"item_id": "s1"}), ("items[1].item_id",)),
            ),
        ),
        "items.item_id": identifier(),
        "items.score": Bound(
            (None, *(scored(score) for score in (LARGEST, -LARGEST, 5e-324, -0.0))),
            (
                *(Past(scored(fault), ("items[0].score",)) for fault in (math.nan, math.inf, -math.inf)),
                Past(with_items({"item_id": "a", "score": 1.0}, {"item_id": "b"}), ("items[1].score",)),
            ),
        ),
        "explain": ANY,
        "preview": ANY,
    },
    "Trace": {"session_id": identifier(told=Reason.SESSION_NOT_FOUND)},
    "GetExperimentResults": {
        "use_case": Bound((USE_CASE,), LISTED_USE_CASE.past, told=Reason.EXPERIMENT_NOT_FOUND),
    },
}

BOUNDS = {f"{method}.{path}": bound for method, fields in BY_METHOD.items() for path, bound in fields.items()}
