"""How releases are measured, and what a candidate has to reach."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from training_jobs.config.part import Part, Positive, Rate, Share


class EvaluateConfig(Part):
    """What is measured, and on how many.

    Parameters
    ----------
    k
        Cut-off of every choice and of the tables.
    cuts
        Cut-offs at which NDCG is drawn.
    subjects
        At most so many validation subjects, drawn at random.
    bootstrap
        Resamples behind an interval.
    """

    k: Positive = 10
    cuts: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 3, 5, 10, 20, 50)
    subjects: Positive = 2000
    bootstrap: Positive = 500

    @property
    def depth(self) -> int:
        """How long the measured lists are."""
        return max(self.k, *self.cuts)


class GateConfig(Part):
    """What a candidate has to reach.

    Parameters
    ----------
    tolerance, confidence
        So far the candidate may be behind the champion, as a share of what the champion is worth; and how
        sure it must be (one-sided) that it is no further. `benchmarks.gates` measures what they cost: much
        stricter, and better candidates are refused too.
    ranker_least_ratio
        The ranker's NDCG over the champion's, and over the retrieval's, on the same served lists, at least.
    calibration_tolerance
        So much more expected calibration error than the champion's ranker the candidate's may have. Wide:
        pairwise training fits an order, and leaves the level of its scores to chance.
    latency_p50_ms, latency_p99_ms
        Time in process to rank 20 candidates, at most; or, where that is more, `latency_over_rule` times
        what the rule-based order takes at the same moment: a slow machine refuses nothing.
    least_pairs
        Subjects, or lists, that evidence has to rest on.
    largest_megabytes
        Of the whole release.
    off_policy_tolerance
        So far the candidate's order of explored lists may be behind the champion's, as a share of the clicks
        they got; sure at `confidence`.
    off_policy_rows
        Effective sample size that takes, of slots where the two orders differ.
    """

    tolerance: Share = 0.3
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.6
    ranker_least_ratio: Rate = 0.97
    calibration_tolerance: Share = 0.25
    latency_p50_ms: Rate = 1.0
    latency_p99_ms: Rate = 20.0
    latency_over_rule: Rate = 6.0
    least_pairs: Positive = 20
    largest_megabytes: Rate = 2000.0
    off_policy_tolerance: Share = 0.05
    off_policy_rows: Rate = 100.0
