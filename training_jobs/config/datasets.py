"""How data sets are built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from matchloop.position import Weighting
from training_jobs.config.machine import Engine
from training_jobs.config.part import Part, Positive, Share

if TYPE_CHECKING:
    from matchloop.usecase import UseCase


class DatasetConfig(Part):
    """How data sets are built from a snapshot.

    Parameters
    ----------
    negatives_per_positive
        Ranker: negatives kept for each strong positive of a use case, explicit ones first.
    hard_score
        An item shown with a score over this and not strongly reacted to is a hard negative.
    hard_share
        This top share of each list counts as shown with a high score too, whatever the scores' scale.
    ranker_hard_share
        The same for the ranker; None: `hard_share`. 1 in the presets: whole lists, so that a pair of ranks
        can come either way round. Were the upper half alone passed over, the ranker would learn to turn the
        order it saw upside down (the bias of "skip above" preferences, Radlinski, Joachims 2006).
    attribution_minutes
        A list younger than this when the snapshot was taken gives no implicit negatives.
    random_negatives, random_negatives_reverse
        Two-Tower: items never shown, for each positive of a forward and of a reverse use case.
    ranker_weighting, two_tower_weighting
        What an example is worth by the rank it was shown at. ``estimated`` needs lists whose order was
        varied by chance, with their propensities logged.
    least_explored
        Placements that a rank needs for ``estimated``, in effect: (Σ 1 / propensity)² / Σ 1 / propensity².
    rule_lists
        Whether lists served in the rule-based order teach the ranker too. Their features and scores were
        logged as served, like the others'; a degraded list, which has no features, never does.
    least_interactions
        ALS: subjects with fewer are left out.
    validation_share
        The latest share of the events, kept from training.
    engine
        What builds them. The data sets are the same with either, so it is no part of a release's key.
    """

    negatives_per_positive: Positive = 2
    hard_score: Share = 0.7
    hard_share: Share = 0.0
    ranker_hard_share: Share | None = None
    attribution_minutes: Annotated[float, Field(ge=0.0)] = 30.0
    random_negatives: Annotated[int, Field(ge=0)] = 2
    random_negatives_reverse: Annotated[int, Field(ge=0)] = 5
    ranker_weighting: Weighting = Weighting.DISCOUNT
    two_tower_weighting: Weighting = Weighting.INVERSE
    least_explored: Positive = 1000
    rule_lists: bool = True
    validation_share: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    least_interactions: Positive = 1
    engine: Engine = Engine.DUCKDB

    def random_of(self, use_case: UseCase) -> int:
        """Return the random negatives for each positive of this use case."""
        return self.random_negatives_reverse if use_case.reverse_of else self.random_negatives
