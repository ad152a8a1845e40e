"""Messages that ranking_svc exchanges with others: enums, filters, sessions, results of experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matchloop.candidate.v1 import candidate_pb2
from matchloop.feedback.v1 import session_pb2
from matchloop.ranking.v1 import experiment_pb2, ranking_service_pb2
from matchloop.rpc.convert import read_time, timestamp
from matchloop.usecase import Method, Tier
from ranking_svc.domain import Equals, FeatureFilter, ListItem, OneOf, Session, Within

if TYPE_CHECKING:
    from matchloop.experiments.intervals import Interval
    from matchloop.experiments.results import Rates, Results

METHODS: dict[int, Method] = {
    session_pb2.METHOD_CONTENT: Method.CONTENT,
    session_pb2.METHOD_ALS: Method.ALS,
    session_pb2.METHOD_TWO_TOWER: Method.TWO_TOWER,
    session_pb2.METHOD_ENSEMBLE: Method.ENSEMBLE,
    session_pb2.METHOD_POPULAR: Method.POPULAR,
}
METHODS_TO_PROTO: dict[Method, session_pb2.Method.ValueType] = {
    method: session_pb2.Method.Value(f"METHOD_{method.name}") for method in Method
}
TIERS: dict[int, Tier] = {
    session_pb2.TIER_COLD: Tier.COLD,
    session_pb2.TIER_WARM: Tier.WARM,
    session_pb2.TIER_HOT: Tier.HOT,
}
_TIERS_TO_PROTO: dict[Tier, session_pb2.Tier.ValueType] = {
    tier: session_pb2.Tier.Value(f"TIER_{tier.name}") for tier in Tier
}


def method_to_proto(method: Method | None) -> session_pb2.Method.ValueType:
    """Convert a method; None is UNSPECIFIED."""
    return METHODS_TO_PROTO[method] if method is not None else session_pb2.METHOD_UNSPECIFIED


def tier_to_proto(tier: Tier | None) -> session_pb2.Tier.ValueType:
    """Convert a tier; None is UNSPECIFIED."""
    return _TIERS_TO_PROTO[tier] if tier is not None else session_pb2.TIER_UNSPECIFIED


def filter_to_proto(each: FeatureFilter) -> candidate_pb2.FeatureFilter:
    """Convert a filter."""
    match each:
        case Equals(feature, value):
            return candidate_pb2.FeatureFilter(feature=feature, equals=value)
        case OneOf(feature, values):
            message = candidate_pb2.FeatureFilter(feature=feature)
            getattr(message, "in").values.extend(values)
            return message
        case Within(feature, minimum, maximum):
            closed = candidate_pb2.Range(min=minimum, max=maximum)
            return candidate_pb2.FeatureFilter(feature=feature, range=closed)


def session_to_proto(session: Session) -> session_pb2.Session:
    """Convert a session that ranking_svc made."""
    return session_pb2.Session(
        session_id=session.session_id,
        use_case=session.use_case,
        subject_id=session.subject_id,
        release=session.release,
        arm=session.arm,
        tier=tier_to_proto(session.tier),
        reranked=session.reranked,
        source=session_pb2.SESSION_SOURCE_RANKING,
        serve_time=timestamp(session.serve_time),
        feature_names=session.feature_names,
        items=[
            session_pb2.SessionItem(
                item_id=item.item_id,
                score=item.score,
                method=method_to_proto(item.method),
                features=item.features,
                propensity=item.propensity,
                retrieval_score=item.retrieval_score,
            )
            for item in session.items
        ],
    )


def read_session(message: session_pb2.Session) -> Session:
    """Return a session that the store keeps."""
    return Session(
        session_id=message.session_id,
        use_case=message.use_case,
        subject_id=message.subject_id,
        release=message.release,
        arm=message.arm,
        tier=TIERS.get(message.tier),
        reranked=message.reranked,
        serve_time=read_time(message.serve_time),
        feature_names=tuple(message.feature_names),
        items=tuple(
            ListItem(
                item.item_id,
                item.score,
                METHODS.get(item.method),
                features=tuple(item.features),
                propensity=item.propensity,
                retrieval_score=item.retrieval_score if item.HasField("retrieval_score") else None,
            )
            for item in message.items
        ),
    )


def experiment_results_response(results: Results) -> ranking_service_pb2.GetExperimentResultsResponse:
    """Convert the results of an experiment."""
    experiment = results.experiment
    return ranking_service_pb2.GetExperimentResultsResponse(
        arms=[
            experiment_pb2.ArmResult(
                arm=arm.arm,
                release=arm.release,
                subjects=arm.sums.subjects,
                sessions=arm.sums.sessions,
                shown=arm.sums.shown,
                expected_share=arm.expected_share,
                mean_diversity=arm.sums.mean_diversity,
                mean_freshness=arm.sums.mean_freshness,
                **_rates(arm.rates),
            )
            for arm in results.arms
        ],
        difference=experiment_pb2.ArmDifference(**_rates(results.difference)) if results.difference else None,
        sample_ratio_p_value=results.sample_ratio_p_value,
        stopped=not experiment.runs,
        stop_reason=experiment.stop_reason,
        experiment_id=experiment.experiment_id,
        challenger_share=experiment.challenger_share,
        start_time=timestamp(experiment.start_time),
        confidence=results.confidence,
    )


def _rates(rates: Rates) -> dict[str, experiment_pb2.RateInterval]:
    return {
        name: _interval(getattr(rates, name))
        for name in ("click_rate", "strong_positive_rate", "dislike_rate")
    }


def _interval(interval: Interval) -> experiment_pb2.RateInterval:
    return experiment_pb2.RateInterval(rate=interval.rate, low=interval.low, high=interval.high)
