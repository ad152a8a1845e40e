"""Settings of what makes a retraining due."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from training_jobs.config.part import Part, Positive, Rate


class TriggerConfig(Part):
    """What makes a retraining due, and how often one may be.

    These are no part of a release's key: changing a bound trains nothing anew.

    Parameters
    ----------
    max_age_days
        A champion older than this is due. Dislikes have their bounds in feedback_svc.
    drift_psi
        A feature whose PSI is over this, less what it is by chance, has drifted. The usual reading: under 0.1
        nothing moved, over 0.25 it is another population (Siddiqi 2006).
    drift_days, drift_lists
        Lists of so many days at most, and so many at most, are looked at.
    drift_least_lists
        With fewer, in the baseline or since, nothing is said of drift.
    least_hours
        The pause after a run before the next that is started by a trigger. Doubled with every run since that
        did not end in a promotion, up to `max_age_days`: what retraining doesn't mend isn't tried for ever.
    lease_seconds
        So long after it was last heard of is a run taken for dead; another may begin then.
    """

    max_age_days: Rate = 31.0
    drift_psi: Rate = 0.25
    drift_days: Rate = 7.0
    drift_lists: Positive = 5000
    drift_least_lists: Positive = 150
    least_hours: Annotated[float, Field(ge=0.0)] = 20.0
    lease_seconds: Annotated[int, Field(ge=5, le=86_400)] = 120
