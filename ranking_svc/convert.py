"""Between the contract's messages and ranking_svc's values; every violated field is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matchloop.candidate.v1 import candidate_pb2
from matchloop.feedback.v1 import session_pb2
from matchloop.ranking.v1 import ranking_service_pb2, recommendation_pb2
from matchloop.rpc.convert import features_from_proto, timestamp
from matchloop.rpc.validation import Violations
from matchloop.usecase import FeatureType, Method
from ranking_svc.domain import DEFAULT_COUNT, MAX_COUNT, Equals, FeatureFilter, OneOf, Rank, Recommend, Within
from ranking_svc.wire import METHODS, METHODS_TO_PROTO, method_to_proto, session_to_proto, tier_to_proto

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from matchloop.usecase import UseCase, UseCases
    from ranking_svc.domain import Contribution, Explanation, ListItem, Recommendation
    from ranking_svc.tracing import Trace

MAX_EXCLUDED = 1000
MAX_FILTERS = 16
MAX_FILTER_VALUES = 100
MAX_VALUE_LENGTH = 256
MAX_METHODS = 5


def read_recommend(
    request: ranking_service_pb2.RecommendRequest, use_cases: UseCases, now: datetime
) -> Recommend:
    """Check and convert a RecommendRequest.

    Raises
    ------
    InvalidInput
        Naming every violated field.
    NotFound
        If all is well but there is no such use case.
    """
    violations = Violations(now=now)
    use_case = _use_case(request.use_case, use_cases, violations)
    subject = violations.identifier("subject_id", request.subject_id)
    violations.number("count", request.count, least=0, most=MAX_COUNT)
    if violations.count("exclude_item_ids", request.exclude_item_ids, most=MAX_EXCLUDED):
        for index, item in enumerate(request.exclude_item_ids):
            violations.identifier(f"exclude_item_ids[{index}]", item)
    filters: list[FeatureFilter | None] = []
    if violations.count("filters", request.filters, most=MAX_FILTERS):
        filters = [
            _filter(each, use_case, violations.within(f"filters[{index}]"))
            for index, each in enumerate(request.filters)
        ]
    features = features_from_proto(
        request.subject_features,
        violations,
        field="subject_features",
        schema=use_case.subject_features if use_case else None,
        embedding_width=use_case.embedding_width if use_case else None,
    )
    methods = _methods(request.methods, violations)
    violations.raise_if_any()
    return Recommend(
        use_case=use_cases[request.use_case],
        subject_id=subject,
        count=request.count or DEFAULT_COUNT,
        exclude=tuple(dict.fromkeys(request.exclude_item_ids)),
        filters=tuple(each for each in filters if each is not None),
        subject_features=features,
        methods=methods,
        explain=request.explain,
        preview=request.preview,
    )


def read_rank(request: ranking_service_pb2.RankRequest, use_cases: UseCases, now: datetime) -> Rank:
    """Check and convert a RankRequest; raises as `read_recommend`."""
    violations = Violations(now=now)
    _use_case(request.use_case, use_cases, violations)
    subject = violations.identifier("subject_id", request.subject_id)
    if violations.count("items", request.items, least=1, most=MAX_COUNT):
        _check_items(request.items, violations)
    violations.raise_if_any()
    return Rank(
        use_case=use_cases[request.use_case],
        subject_id=subject,
        items=tuple(item.item_id for item in request.items),
        scores=tuple(item.score for item in request.items if item.HasField("score")),
        explain=request.explain,
        preview=request.preview,
    )


def read_session_id(request: ranking_service_pb2.TraceRequest, now: datetime) -> str:
    """Check and convert a TraceRequest; raises as `read_recommend`."""
    violations = Violations(now=now)
    session_id = violations.identifier("session_id", request.session_id)
    violations.raise_if_any()
    return session_id


def read_experiment(
    request: ranking_service_pb2.GetExperimentResultsRequest, use_cases: UseCases, now: datetime
) -> UseCase:
    """Check and convert a GetExperimentResultsRequest; raises as `read_recommend`."""
    violations = Violations(now=now)
    _use_case(request.use_case, use_cases, violations)
    violations.raise_if_any()
    return use_cases[request.use_case]


def _use_case(name: str, use_cases: UseCases, violations: Violations) -> UseCase | None:
    violations.name("use_case", name)
    return use_cases[name] if name in use_cases else None  # noqa: SIM401 - its lookup raises NotFound


def _check_items(items: Sequence[ranking_service_pb2.RankItem], violations: Violations) -> None:
    scored = sum(item.HasField("score") for item in items)
    for index, item in enumerate(items):
        each = violations.within(f"items[{index}]")
        each.identifier("item_id", item.item_id)
        if item.HasField("score"):
            each.number("score", item.score)
        elif scored:
            each.add("score", "is missing, though other items have one: all or none")
    violations.distinct("items", (item.item_id for item in items), part="item_id")


def _methods(numbers: Sequence[int], violations: Violations) -> tuple[Method, ...]:
    if not violations.count("methods", numbers, most=MAX_METHODS):
        return ()
    for index, number in enumerate(numbers):
        violations.enum(f"methods[{index}]", number, session_pb2.Method.Name)
    violations.distinct("methods", map(str, numbers))
    return tuple(METHODS[number] for number in numbers if number in METHODS)


def _filter(
    message: candidate_pb2.FeatureFilter, use_case: UseCase | None, violations: Violations
) -> FeatureFilter | None:
    """Check a filter; whether feature and test fit is checked where the use case is known."""
    feature = message.feature
    if use_case is None:
        violations.name("feature", feature)
    else:
        violations.one_of("feature", feature, use_case.item_features)
    case = message.WhichOneof("test")
    if case is None:
        violations.add("test", "is required: equals, in or range")
        return None
    if use_case is not None and feature in use_case.item_features:
        _check_fit(feature, case, use_case, violations)
    if case == "range":
        return _range(feature, message.range, violations)
    if case == "equals":
        violations.text("equals", message.equals, most=MAX_VALUE_LENGTH, required=True)
        return Equals(feature, message.equals)
    values = getattr(message, "in").values
    if violations.count("in.values", values, least=1, most=MAX_FILTER_VALUES):
        for index, value in enumerate(values):
            violations.text(f"in.values[{index}]", value, most=MAX_VALUE_LENGTH, required=True)
    return OneOf(feature, tuple(values))


def _check_fit(feature: str, case: str, use_case: UseCase, violations: Violations) -> None:
    type_ = use_case.item_features[feature]
    fitting = (FeatureType.NUMERIC,) if case == "range" else (FeatureType.CATEGORICAL, FeatureType.MULTI)
    if type_ not in fitting:
        violations.add(case, f"does not fit `{feature}`, which is {type_}")


def _range(feature: str, message: candidate_pb2.Range, violations: Violations) -> Within:
    low = message.min if message.HasField("min") else None
    high = message.max if message.HasField("max") else None
    if low is not None:
        violations.number("range.min", low)
    if high is not None:
        violations.number("range.max", high)
    if low is None and high is None:
        violations.add("range", "has neither min nor max")
    elif low is not None and high is not None and low > high:
        violations.add("range", f"min {low:g} is over max {high:g}")
    return Within(feature, low, high)


def recommend_response(answer: Recommendation) -> ranking_service_pb2.RecommendResponse:
    """Convert an answer to Recommend."""
    return ranking_service_pb2.RecommendResponse(
        session_id=answer.session_id,
        items=_ranked_items(answer.items),
        tier=tier_to_proto(answer.tier),
        release=answer.release,
        arm=answer.arm,
        reranked=answer.reranked,
        degraded=answer.degraded,
        skipped=[
            candidate_pb2.SkippedMethod(
                method=METHODS_TO_PROTO[each.method],
                reason=each.reason,  # type: ignore[arg-type]  # open enum: passed on as it came
            )
            for each in answer.skipped
        ],
    )


def rank_response(answer: Recommendation) -> ranking_service_pb2.RankResponse:
    """Convert an answer to Rank."""
    return ranking_service_pb2.RankResponse(
        session_id=answer.session_id,
        items=_ranked_items(answer.items),
        unknown_item_ids=answer.unknown,
        release=answer.release,
        reranked=answer.reranked,
        degraded=answer.degraded,
    )


def trace_response(trace: Trace) -> ranking_service_pb2.TraceResponse:
    """Convert a trace."""
    session = session_to_proto(trace.session)
    if trace.client_list:
        session.source = session_pb2.SESSION_SOURCE_CLIENT
    return ranking_service_pb2.TraceResponse(
        session=session,
        items=_ranked_items(trace.items),
        data_manifest_sha256=trace.data_manifest_sha256,
        snapshot_watermark=trace.snapshot_watermark,
        release_create_time=timestamp(trace.release_create_time),
        degraded=trace.degraded,
    )


def _ranked_items(items: Sequence[ListItem]) -> list[recommendation_pb2.RankedItem]:
    return [
        recommendation_pb2.RankedItem(
            item_id=item.item_id,
            rank=rank,
            score=item.score,
            method=method_to_proto(item.method),
            explanation=_explanation(item.explanation) if item.explanation else None,
        )
        for rank, item in enumerate(items, start=1)
    ]


def _explanation(explanation: Explanation) -> recommendation_pb2.Explanation:
    return recommendation_pb2.Explanation(
        features=[
            recommendation_pb2.RankingFeature(name=name, value=value) for name, value in explanation.features
        ],
        contributions=[_contribution(each) for each in explanation.contributions],
        retrieval_score=explanation.retrieval_score,
        original_score=explanation.original_score,
    )


def _contribution(each: Contribution) -> candidate_pb2.Contribution:
    return candidate_pb2.Contribution(
        field=each.field,
        values=each.values,
        amount=each.amount,
        factors=[candidate_pb2.ValueFactor(value=cut.value, factor=cut.factor) for cut in each.factors],
    )
