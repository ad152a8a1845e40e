"""How the parts that retrieve are trained and chosen."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from training_jobs.config.machine import AlsLibrary, Device
from training_jobs.config.part import Part, Positive, Rate, Share


class Loss(StrEnum):
    """What the Two-Tower minimises."""

    BCE = "bce"
    SAMPLED_SOFTMAX = "sampled_softmax"


class AlsTrial(Part):
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


class AlsConfig(Part):
    """ALS: with confidence alpha × pair weight / mean pair weight.

    A pair's weight is the sum of its events', aged and saturated as a trial says.

    Parameters
    ----------
    factors
        At most; never more than a third of the smaller side, at least 4.
    trials
        Settings that are tried on the training part; the best NDCG@10 on the validation part wins.
    checkpoint_seconds
        Between checkpoints, at least: what a killed training does again, and an iteration more.
    threads
        Of `implicit`.
    library
        What factorises. Spark's MLlib regularises each side by how many pairs it has; it gets the λ that
        comes to the same on average, and keeps no checkpoint of a fit.
    """

    factors: Positive = 128
    iterations: Positive = 10
    trials: Annotated[tuple[AlsTrial, ...], Field(min_length=1)] = (AlsTrial(regularization=10.0, alpha=4.0),)
    trial_iterations: Positive = 5
    checkpoint_seconds: Annotated[float, Field(ge=0.0)] = 30.0
    threads: Positive = 1
    library: AlsLibrary = AlsLibrary.IMPLICIT


class TwoTowerConfig(Part):
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
    device: Device = Device.AUTO


class PopularConfig(Part):
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


class EnsembleConfig(Part):
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
