"""What a release that serves may not do to people and to requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from training_jobs.config.part import Part, Positive, Rate, Share

Margin = Annotated[float, Field(ge=0.0, lt=1.0)]


class GuardConfig(Part):
    """Bounds of the guards, which compare a release with the one before it, or beside it in an experiment.

    Parameters
    ----------
    confidence
        That a release no worse than the margins allow is left alone: over all guards together, and over all
        looks at it for as long as it is watched.
    least_items
        Items shown on either side before rates of reactions are compared.
    dislike_margin, strong_positive_margin
        So much more, or less, of the other's rate is put up with, as a share of it.
    least_requests
        Lists made on either side before error rate and latency are compared.
    error_margin, error_allowance
        So much more of the other's error rate, as a share of it, and then so many errors a list besides.
    slow_seconds
        A list that takes longer is slow; taken up to the next edge of the histogram.
    slow_margin, slow_allowance
        As for errors, of the share of slow lists.
    settle_minutes
        Lists younger than this are not counted: reactions to them are still to come, and a release that just
        started to serve would seem to get fewer.
    watch_days
        So long after its promotion a champion is watched. Before and after are not dealt by chance: in the
        long run everything differs from what it was.
    baseline_days
        Lists of the release before are taken from so long before the promotion.
    """

    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.99
    least_items: Positive = 500
    dislike_margin: Annotated[float, Field(ge=0.0)] = 0.25
    strong_positive_margin: Margin = 0.25
    least_requests: Positive = 200
    error_margin: Annotated[float, Field(ge=0.0)] = 0.5
    error_allowance: Share = 0.01
    slow_seconds: Rate = 0.25
    slow_margin: Annotated[float, Field(ge=0.0)] = 0.5
    slow_allowance: Share = 0.02
    settle_minutes: Annotated[float, Field(ge=0.0)] = 10.0
    watch_days: Rate = 14.0
    baseline_days: Rate = 28.0
