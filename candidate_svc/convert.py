"""GetCandidates and its fellows between proto and domain; every violation of a request is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from candidate_svc.domain import (
    Asked,
    Equals,
    FeatureFilter,
    OneOf,
    SimilarAsked,
    TrendingAsked,
    Within,
)
from candidate_svc.trending import Position
from matchloop.candidate.v1 import candidate_pb2
from matchloop.candidate.v1 import candidate_service_pb2 as service_pb2
from matchloop.entities import EntityId
from matchloop.feedback.v1 import session_pb2
from matchloop.release import CHALLENGER, CHAMPION
from matchloop.retrieval.routing import SkipReason
from matchloop.rpc.convert import MAX_VALUE_LENGTH, features_from_proto, set_timestamp
from matchloop.rpc.paging import write_page_token
from matchloop.rpc.validation import Violations
from matchloop.usecase import FeatureType, Method, Tier, UseCase, UseCases

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from candidate_svc.domain import Candidate, Contribution, Found, Trends

DEFAULT_COUNT = 20
MAX_COUNT = 500
MAX_EXCLUDED = 1000
MAX_ONLY = 500
MAX_FILTERS = 16
MAX_FILTER_VALUES = 100

_METHODS: Mapping[Method, session_pb2.Method.ValueType] = {
    Method.CONTENT: session_pb2.METHOD_CONTENT,
    Method.ALS: session_pb2.METHOD_ALS,
    Method.TWO_TOWER: session_pb2.METHOD_TWO_TOWER,
    Method.ENSEMBLE: session_pb2.METHOD_ENSEMBLE,
    Method.POPULAR: session_pb2.METHOD_POPULAR,
}
_METHOD_OF: Mapping[int, Method] = {number: method for method, number in _METHODS.items()}
_TIERS: Mapping[Tier, session_pb2.Tier.ValueType] = {
    Tier.COLD: session_pb2.TIER_COLD,
    Tier.WARM: session_pb2.TIER_WARM,
    Tier.HOT: session_pb2.TIER_HOT,
}
_SKIPS: Mapping[SkipReason, candidate_pb2.SkipReason.ValueType] = {
    SkipReason.MISSING: candidate_pb2.SKIP_REASON_MISSING,
    SkipReason.FAILED: candidate_pb2.SKIP_REASON_FAILED,
    SkipReason.TIMED_OUT: candidate_pb2.SKIP_REASON_TIMED_OUT,
    SkipReason.NO_SIGNAL: candidate_pb2.SKIP_REASON_NO_SIGNAL,
    SkipReason.TOO_FEW: candidate_pb2.SKIP_REASON_TOO_FEW,
}


def asked_from_proto(request: service_pb2.GetCandidatesRequest, use_cases: UseCases, now: datetime) -> Asked:
    """Check and convert a request.

    Raises
    ------
    InvalidInput
        With every violated field.
    NotFound
        If there is no such use case and nothing else is wrong.
    """
    violations = Violations(now=now)
    use_case = _use_case(request.use_case, use_cases, violations)
    subject_id = violations.identifier("subject_id", request.subject_id)
    count = _count(request.count, violations)
    _ids("exclude_item_ids", request.exclude_item_ids, MAX_EXCLUDED, violations)
    _ids("only_item_ids", request.only_item_ids, MAX_ONLY, violations)
    filters = _filters(request.filters, use_case, violations)
    features = features_from_proto(
        request.subject_features,
        violations,
        field="subject_features",
        schema=None if use_case is None else use_case.subject_features,
        embedding_width=None if use_case is None else use_case.embedding_width,
    )
    methods = _methods(request.methods, violations)
    alias = request.release_alias or CHAMPION
    violations.one_of("release_alias", alias, (CHAMPION, CHALLENGER))
    use_case = _settled(request.use_case, use_case, use_cases, violations)
    return Asked(
        use_case=use_case,
        subject_id=EntityId(subject_id),
        count=count,
        exclude=frozenset(request.exclude_item_ids),
        filters=filters,
        subject_features=features,
        methods=methods,
        explain=request.explain,
        only=tuple(dict.fromkeys(request.only_item_ids)),
        challenger=alias == CHALLENGER,
    )


def similar_from_proto(
    request: service_pb2.GetSimilarItemsRequest, use_cases: UseCases, now: datetime
) -> SimilarAsked:
    """Check and convert a request; raises as `asked_from_proto`."""
    violations = Violations(now=now)
    use_case = _use_case(request.use_case, use_cases, violations)
    item_id = violations.identifier("item_id", request.item_id)
    count = _count(request.count, violations)
    filters = _filters(request.filters, use_case, violations)
    use_case = _settled(request.use_case, use_case, use_cases, violations)
    return SimilarAsked(use_case, EntityId(item_id), count, filters, request.explain)


def trending_from_proto(
    request: service_pb2.ListTrendingRequest, use_cases: UseCases, now: datetime
) -> TrendingAsked:
    """Check and convert a request; raises as `asked_from_proto`."""
    violations = Violations(now=now)
    use_case = _use_case(request.use_case, use_cases, violations)
    filters = _filters(request.filters, use_case, violations)
    page_size = violations.page_size(request.page_size, default=DEFAULT_COUNT, most=MAX_COUNT)
    parts = violations.page_token(request, request.page_token, parts=2)
    use_case = _settled(request.use_case, use_case, use_cases, violations)
    after = None if parts is None else Position(int(parts[0]), int(parts[1]))
    return TrendingAsked(use_case, page_size, after, filters)


def _use_case(name: str, use_cases: UseCases, violations: Violations) -> UseCase | None:
    """Return the use case; None when the name is at fault, or unknown, which `_settled` tells."""
    violations.name("use_case", name)
    return use_cases[name] if name in use_cases else None  # noqa: SIM401 - its lookup raises NotFound


def _settled(name: str, use_case: UseCase | None, use_cases: UseCases, violations: Violations) -> UseCase:
    violations.raise_if_any()
    return use_cases[name] if use_case is None else use_case


def _count(count: int, violations: Violations) -> int:
    violations.number("count", count, least=0, most=MAX_COUNT)
    return count or DEFAULT_COUNT


def _ids(field: str, ids: Sequence[str], most: int, violations: Violations) -> None:
    if violations.count(field, ids, most=most):
        for index, item_id in enumerate(ids):
            violations.identifier(f"{field}[{index}]", item_id)


def _methods(numbers: Sequence[int], violations: Violations) -> tuple[Method, ...]:
    if not violations.count("methods", numbers, most=len(_METHODS)):
        return ()
    for index, number in enumerate(numbers):
        violations.enum(f"methods[{index}]", number, lambda value: session_pb2.Method.Name(value))
    violations.distinct("methods", [str(number) for number in numbers])
    return tuple(_METHOD_OF[number] for number in numbers if number in _METHOD_OF)


def _filters(
    messages: Sequence[candidate_pb2.FeatureFilter], use_case: UseCase | None, violations: Violations
) -> tuple[FeatureFilter, ...]:
    if not violations.count("filters", messages, most=MAX_FILTERS):
        return ()
    found = [
        _filter(message, use_case, violations.within(f"filters[{index}]"))
        for index, message in enumerate(messages)
    ]
    return tuple(test for test in found if test is not None)


def _filter(
    message: candidate_pb2.FeatureFilter, use_case: UseCase | None, violations: Violations
) -> FeatureFilter | None:
    type_ = _feature_type(message.feature, use_case, violations)
    case = message.WhichOneof("test")
    match case:
        case "equals":
            _discrete(type_, case, violations)
            violations.text(case, message.equals, most=MAX_VALUE_LENGTH, required=True)
            return Equals(message.feature, message.equals)
        case "in":
            _discrete(type_, case, violations)
            return OneOf(message.feature, _values(getattr(message, "in").values, violations))
        case "range":
            return _range(message.range, message.feature, type_, violations)
        case _:
            violations.add("test", "is required: equals, in or range")
            return None


def _feature_type(feature: str, use_case: UseCase | None, violations: Violations) -> FeatureType | None:
    if use_case is None:
        violations.name("feature", feature)
        return None
    violations.one_of("feature", feature, use_case.item_features)
    return use_case.item_features.get(feature)


def _discrete(type_: FeatureType | None, case: str, violations: Violations) -> None:
    if type_ not in (None, FeatureType.CATEGORICAL, FeatureType.MULTI):
        violations.add(case, f"tests categorical and multi features, this one is {type_}")


def _values(values: Sequence[str], violations: Violations) -> tuple[str, ...]:
    if violations.count("in.values", values, least=1, most=MAX_FILTER_VALUES):
        for index, value in enumerate(values):
            violations.text(f"in.values[{index}]", value, most=MAX_VALUE_LENGTH, required=True)
    return tuple(values)


def _range(
    message: candidate_pb2.Range, feature: str, type_: FeatureType | None, violations: Violations
) -> Within:
    if type_ not in (None, FeatureType.NUMERIC):
        violations.add("range", f"tests numeric features, this one is {type_}")
    minimum = message.min if message.HasField("min") else None
    maximum = message.max if message.HasField("max") else None
    if minimum is not None:
        violations.number("range.min", minimum)
    if maximum is not None:
        violations.number("range.max", maximum)
    if minimum is None and maximum is None:
        violations.add("range", "has neither min nor max")
    elif minimum is not None and maximum is not None and minimum > maximum:
        violations.add("range", f"min {minimum:g} is over max {maximum:g}")
    return Within(feature, minimum, maximum)


def found_to_proto(found: Found) -> service_pb2.GetCandidatesResponse:
    """Convert an answer."""
    return service_pb2.GetCandidatesResponse(
        candidates=candidates_to_proto(found.candidates),
        tier=_TIERS[found.tier],
        release=found.release,
        skipped=[
            candidate_pb2.SkippedMethod(method=_METHODS[skip.method], reason=_SKIPS[skip.reason])
            for skip in found.skipped
        ],
        feature_names=found.feature_names,
        degraded=found.degraded,
    )


def candidates_to_proto(candidates: Sequence[Candidate]) -> list[candidate_pb2.Candidate]:
    """Convert candidates, in order."""
    return [_candidate_to_proto(each) for each in candidates]


def _candidate_to_proto(candidate: Candidate) -> candidate_pb2.Candidate:
    message = candidate_pb2.Candidate(
        item_id=candidate.item_id,
        method=_METHODS[candidate.method],
        score=candidate.score,
        features=candidate.features,
    )
    # Adding to a message costs half of making its parts apart: each would be copied.
    if candidate.create_time is not None:
        set_timestamp(message.create_time, candidate.create_time)
    add = message.diversity_values.add
    for values in candidate.diversity_values:
        add(values=values)
    if candidate.contributions:
        message.contributions.extend(map(_contribution_to_proto, candidate.contributions))
    return message


def _contribution_to_proto(part: Contribution) -> candidate_pb2.Contribution:
    return candidate_pb2.Contribution(
        field=part.field,
        values=part.values,
        amount=part.amount,
        factors=[candidate_pb2.ValueFactor(value=cut.value, factor=cut.factor) for cut in part.factors],
    )


def trending_to_proto(
    request: service_pb2.ListTrendingRequest, page: Trends, feature_names: Sequence[str]
) -> service_pb2.ListTrendingResponse:
    """Convert a page; its token continues `request`."""
    token = write_page_token(request, *map(str, page.end)) if page.end is not None else ""
    return service_pb2.ListTrendingResponse(
        candidates=candidates_to_proto(page.candidates),
        next_page_token=token,
        feature_names=feature_names,
    )
