"""Messages about patterns, improvement and whether a retraining is due."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from feedback_svc.answers import DislikeReport
from feedback_svc.improvement import Improvement, Rate, Week
from feedback_svc.patterns import Pattern
from feedback_svc.retraining import RetrainingBounds, RetrainingStatus
from matchloop.feedback.v1 import dislike_pb2, insight_pb2
from matchloop.feedback.v1 import feedback_service_pb2 as calls
from matchloop.rpc.convert import timestamp
from matchloop.rpc.validation import Violations


def subject_asked(request: calls.GetDislikePatternsRequest, now: datetime) -> str:
    """Return the subject whose dislikes are asked for; empty for all."""
    violations = Violations(now=now)
    subject_id = violations.identifier("subject_id", request.subject_id, required=False)
    violations.raise_if_any()
    return subject_id


def patterns_reply(report: DislikeReport) -> calls.GetDislikePatternsResponse:
    """Convert reasons, trend and patterns."""
    return calls.GetDislikePatternsResponse(
        total=report.total,
        reasons=[
            insight_pb2.ReasonCount(reason=reason, count=count, share=count / report.total)
            for reason, count in report.reasons
        ],
        trend=_weeks(report.trend),
        patterns=[_pattern(pattern) for pattern in report.patterns],
        sampled_lists=report.lists,
        sampled_places=report.places,
    )


def metrics_reply(found: Improvement) -> calls.GetFeedbackMetricsResponse:
    """Convert the improvement metrics."""
    scores = found.scores
    return calls.GetFeedbackMetricsResponse(
        metrics=insight_pb2.FeedbackMetrics(
            negatives=found.negatives,
            unused_negatives=found.unused,
            mean_prediction_error=scores.mean,
            min_prediction_error=scores.least,
            max_prediction_error=scores.greatest,
            mean_predicted_score=scores.mean,
            weekly=_weeks(found.weekly),
            dislike_rate_by_category=_rates(found.rate_by_category),
            mean_adjustment=found.mean_adjustment,
            mean_days_between_retrainings=found.days_between_retrainings,
            repeat_rate_by_reason=_rates(found.repeat_rate_by_reason),
            retrainings=[
                insight_pb2.Retraining(
                    release=each.release,
                    to_sequence=each.to_sequence,
                    marked=each.marked,
                    mark_time=timestamp(each.mark_time),
                )
                for each in found.retrainings
            ],
            scored=scores.scored,
        )
    )


def status_reply(status: RetrainingStatus, bounds: RetrainingBounds) -> calls.GetRetrainingStatusResponse:
    """Convert the verdict and its numbers."""
    numbers = status.numbers
    causes = [insight_pb2.RetrainingCause.Value(f"RETRAINING_CAUSE_{cause.name}") for cause in status.causes]
    return calls.GetRetrainingStatusResponse(
        status=insight_pb2.RetrainingStatus(
            due=status.due,
            causes=causes,
            unused_negatives=numbers.unused,
            unused_negatives_bound=bounds.negatives,
            mean_prediction_error=numbers.mean_error,
            mean_prediction_error_bound=bounds.error,
            persistent_patterns=[_pattern(pattern) for pattern in status.persistent_patterns],
            last_retrain_time=timestamp(numbers.last_retrain_time),
            last_release=numbers.last_release,
            scored_negatives=numbers.with_error,
            scored_negatives_bound=bounds.error_negatives,
        )
    )


def _pattern(pattern: Pattern) -> dislike_pb2.DislikePattern:
    return dislike_pb2.DislikePattern(
        name=pattern.name,
        feature=pattern.feature,
        value=pattern.value,
        rejected_share=pattern.rejected_share,
        shown_share=pattern.shown_share,
        dislikes=pattern.dislikes,
        severity=dislike_pb2.PatternSeverity.Value(f"PATTERN_SEVERITY_{pattern.severity.name}"),
        find_time=timestamp(pattern.find_time),
        lift_bound=pattern.lift_bound,
        weeks=pattern.weeks,
    )


def _weeks(weeks: Iterable[Week]) -> list[insight_pb2.WeeklyDislikes]:
    return [
        insight_pb2.WeeklyDislikes(
            week_start=timestamp(week.start),
            count=week.count,
            mean_predicted_score=week.mean_predicted_score,
            scored=week.scored,
        )
        for week in weeks
    ]


def _rates(rates: Iterable[Rate]) -> list[insight_pb2.NamedRate]:
    return [
        insight_pb2.NamedRate(name=each.name, count=each.count, rate=each.rate, of=each.of) for each in rates
    ]
