"""What a training run can be told, with presets in ``configs/*.toml``."""

from __future__ import annotations

import hashlib
import tomllib
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from matchloop.errors import InvalidInput, Violation
from matchloop.position import Weighting

if TYPE_CHECKING:
    from matchloop.usecase import UseCase

PRESETS = Path(str(resources.files("training_jobs") / "configs"))
"""The folder of the presets: default, fast, deep."""

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0)]


class Loss(StrEnum):
    """What the Two-Tower minimises."""

    BCE = "bce"
    SAMPLED_SOFTMAX = "sampled_softmax"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetConfig(_Part):
    """How data sets are built from a snapshot.

    Parameters
    ----------
    negatives_per_positive
        Ranker: negatives kept for each strong positive of a use case, explicit ones first.
    hard_score
        An item shown with a score over this and not strongly reacted to is a hard negative.
    hard_share
        This top share of each list counts as shown with a high score too, whatever the scores' scale.
    attribution_minutes
        A list younger than this when the snapshot was taken gives no implicit negatives.
    random_negatives, random_negatives_reverse
        Two-Tower: items never shown, for each positive of a forward and of a reverse use case.
    ranker_weighting, two_tower_weighting
        What an example is worth by the rank it was shown at. ``estimated`` needs lists whose order was
        varied by chance, with their propensities logged.
    least_explored
        Placements by chance that a rank needs for ``estimated``.
    rule_lists
        Whether lists served in the rule-based order teach the ranker too. Their features and scores were
        logged as served, like the others'; a degraded list, which has no features, never does.
    least_interactions
        ALS: subjects with fewer are left out.
    validation_share
        The latest share of the events, kept from training.
    """

    negatives_per_positive: Positive = 2
    hard_score: Share = 0.7
    hard_share: Share = 0.0
    attribution_minutes: Annotated[float, Field(ge=0.0)] = 30.0
    random_negatives: Annotated[int, Field(ge=0)] = 2
    random_negatives_reverse: Annotated[int, Field(ge=0)] = 5
    ranker_weighting: Weighting = Weighting.DISCOUNT
    two_tower_weighting: Weighting = Weighting.INVERSE
    least_explored: Positive = 100
    rule_lists: bool = True
    validation_share: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    least_interactions: Positive = 1

    def random_of(self, use_case: UseCase) -> int:
        """Return the random negatives for each positive of this use case."""
        return self.random_negatives_reverse if use_case.reverse_of else self.random_negatives


class AlsTrial(_Part):
    """One setting of the numbers that matter most.

    Parameters
    ----------
    half_life_days
        After so many days an event weighs half; None: all weigh alike.
    saturation
        In mean pair weights: from about there on, more events add ever less (logarithmically) to a pair's
        weight; near 0 every pair weighs the same. None: weights add up.
    """

    regularization: Rate
    alpha: Rate
    half_life_days: Rate | None = None
    saturation: Rate | None = None

    def __str__(self) -> str:
        aging = f", half-life {self.half_life_days:g} d" if self.half_life_days else ""
        flat = f", saturation {self.saturation:g}" if self.saturation else ""
        return f"regularization {self.regularization:g}, alpha {self.alpha:g}{aging}{flat}"


class AlsConfig(_Part):
    """ALS: `implicit`'s, with confidence alpha × pair weight / mean pair weight.

    A pair's weight is the sum of its events', aged and saturated as a trial says.

    Parameters
    ----------
    factors
        At most; never more than a third of the smaller side, at least 4.
    trials
        Settings that are tried on the training part; the best NDCG@10 on the validation part wins.
    checkpoint_every
        Iterations between checkpoints, from which a killed training goes on.
    """

    factors: Positive = 128
    iterations: Positive = 10
    trials: Annotated[tuple[AlsTrial, ...], Field(min_length=1)] = (AlsTrial(regularization=10.0, alpha=4.0),)
    trial_iterations: Positive = 5
    checkpoint_every: Positive = 5
    threads: Positive = 1


class TwoTowerConfig(_Part):
    """The two networks and how they are trained.

    Parameters
    ----------
    temperature
        Of the softmax; the inverse is the scale BCE's logits begin with.
    history, history_dropout
        Whether the subject's input holds what it reacted to, and how often training leaves that out.
    ids, id_dropout
        Whether ids have learnt vectors that are added to the towers' output (and, with `history`, those of
        the items reacted to), and how often training takes an id for one never seen.
    id_rows, id_least, id_buckets
        At most so many ids of a kind have a vector of their own, each with at least so many positives; all
        others share so many.
    popularity_correction
        Softmax: the share of log q, an item's chance to be in the batch, taken off its logit. 1: the model
        learns what a subject turns to, popularity in it; 0: what it turns to more than others do.
    examples_per_epoch
        At most so many positives make an epoch, drawn anew for each.
    """

    hidden: tuple[Positive, ...] = (512, 256)
    width: Positive = 128
    dropout: tuple[Share, ...] = (0.3, 0.2)
    temperature: Rate = 0.07
    loss: Loss = Loss.BCE
    history: bool = True
    history_dropout: Share = 0.2
    ids: bool = False
    id_dropout: Share = 0.2
    id_rows: Positive = 20_000
    id_least: Positive = 3
    id_buckets: Positive = 256
    popularity_correction: Share = 1.0
    learning_rate: Rate = 0.001
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    batch: Positive = 256
    epochs: Positive = 50
    examples_per_epoch: Positive = 1_000_000
    patience: Positive = 5
    clip: Rate = 1.0
    validation_subjects: Positive = 2000
    threads: Positive = 2


class PopularConfig(_Part):
    """Popular: settings tried one at a time, judged on the validation part.

    Parameters
    ----------
    exponents
        How much a segment says, tried for each.
    smoothing
        Mass of the prior, in events of mean weight.
    half_lives
        Of the ratios, as multiples of the use case's half-life.
    rounds
        At most so often are all settings gone through.
    seconds
        No setting is tried after this long.
    subjects
        Judged on at most so many.
    least_subjects
        With fewer to judge by, defaults hold.
    """

    exponents: tuple[Annotated[float, Field(ge=0.0, le=4.0)], ...] = (0.0, 0.3, 0.5, 0.7, 1.0, 1.3)
    smoothing: tuple[Rate, ...] = (10.0, 30.0, 100.0, 300.0)
    half_lives: tuple[Rate, ...] = (0.5, 1.0, 2.0, 4.0)
    rounds: Positive = 3
    seconds: Annotated[float, Field(ge=0.0)] = 60.0
    subjects: Positive = 1000
    least_subjects: Positive = 50


class EnsembleConfig(_Part):
    """Ensemble and method orders: weights and constant tried one at a time, judged on the validation part.

    Parameters
    ----------
    constants, weights
        Tried for the rank constant and for each method.
    margin
        By how many standard errors of the difference a choice has to beat the one before it.
    rounds
        At most so often are all numbers gone through.
    seconds
        Nothing is tried after this long.
    subjects
        Judged by at most so many lines of evidence at a time.
    least_subjects
        With fewer to judge by, a tier has the weights of all together.
    """

    constants: Annotated[tuple[Rate, ...], Field(min_length=1)] = (2.0, 5.0, 10.0, 20.0, 60.0)
    weights: Annotated[tuple[Annotated[float, Field(ge=0.0)], ...], Field(min_length=1)] = (
        0.0,
        0.1,
        0.3,
        0.6,
        1.0,
        1.6,
        2.5,
    )
    margin: Annotated[float, Field(ge=0.0)] = 0.5
    rounds: Positive = 3
    seconds: Annotated[float, Field(ge=0.0)] = 60.0
    subjects: Positive = 2000
    least_subjects: Positive = 100


class RankerConfig(_Part):
    """The ranker's network and how it is trained."""

    hidden: tuple[Positive, ...] = (32, 16)
    dropout: Share = 0.2
    epochs: Positive = 20
    batch: Positive = 128
    learning_rate: Rate = 0.001
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    least_positives: Positive = 100
    least_calibration_positives: Positive = 30
    threads: Positive = 1


class EvaluateConfig(_Part):
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


class GateConfig(_Part):
    """What a candidate has to reach.

    Parameters
    ----------
    tolerance, confidence
        So far the candidate may be behind the champion, as a share of what the champion is worth; and how
        sure it must be (one-sided) that it is no further. `benchmarks.gates` measures what they cost: much
        stricter, and better candidates are refused too.
    ranker_least_ratio
        The ranker's NDCG over the champion's on the same served lists, at least.
    least_pairs
        Subjects, or lists, that evidence has to rest on.
    largest_megabytes
        Of the whole release.
    """

    tolerance: Share = 0.3
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.6
    ranker_least_ratio: Rate = 0.97
    least_pairs: Positive = 20
    largest_megabytes: Rate = 2000.0


class TrainingConfig(_Part):
    """All of it; the hash of it is part of every step's key."""

    name: str = "default"
    seed: int = 20260101
    dataset: DatasetConfig = DatasetConfig()
    als: AlsConfig = AlsConfig()
    two_tower: TwoTowerConfig = TwoTowerConfig()
    popular: PopularConfig = PopularConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    ranker: RankerConfig = RankerConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    gates: GateConfig = GateConfig()

    @property
    def fingerprint(self) -> str:
        """Ten hex digits over every setting."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:10]


def load_config(preset: str | Path = "default") -> TrainingConfig:
    """Load a preset by name, or a TOML file by path.

    Raises
    ------
    InvalidInput
        Naming every setting that is unknown or out of range; or the presets, when there is none of that name.
    """
    path = Path(preset) if str(preset).endswith(".toml") else PRESETS / f"{preset}.toml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in PRESETS.glob("*.toml")))
        raise InvalidInput(f"no configuration {preset}: give a .toml file or one of {known}")
    try:
        declared = tomllib.loads(path.read_text(encoding="utf-8"))
        return TrainingConfig.model_validate({"name": path.stem, **declared})
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput.of([Violation(path.name, str(error))]) from error
    except ValidationError as error:
        raise InvalidInput.of(
            [
                Violation(f"{path.name}: {'.'.join(map(str, fault['loc']))}", fault["msg"])
                for fault in error.errors()
            ]
        ) from error
