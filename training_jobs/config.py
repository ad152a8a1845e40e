"""What a training run can be told, with presets in ``configs/*.toml``."""

from __future__ import annotations

import hashlib
import tomllib
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from matchloop.errors import InvalidInput, Violation
from matchloop.position import Weighting

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
        An item shown with at least this score and not strongly reacted to is a hard negative.
    hard_share
        This top share of each list counts as shown with a high score too, whatever the scores' scale.
    attribution_minutes
        A list younger than this when the snapshot was taken gives no implicit negatives.
    random_negatives
        Two-Tower: items never shown, for each positive.
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
    rule_lists: bool = True
    validation_share: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    least_interactions: Positive = 1


class AlsTrial(_Part):
    """One setting of the numbers that matter most.

    `half_life_days`: after so many days an event weighs half; None: all weigh alike.
    """

    regularization: Rate
    alpha: Rate
    half_life_days: Rate | None = None

    def __str__(self) -> str:
        aging = f", half-life {self.half_life_days:g} d" if self.half_life_days else ""
        return f"regularization {self.regularization:g}, alpha {self.alpha:g}{aging}"


class AlsConfig(_Part):
    """ALS: `implicit`'s, with confidence alpha × summed event weight / mean of these sums.

    Parameters
    ----------
    factors
        At most; never more than a third of the smaller side, at least 4.
    trials
        Settings that are tried on the training part; the best NDCG@10 on the validation part wins.
    """

    factors: Positive = 128
    iterations: Positive = 10
    trials: Annotated[tuple[AlsTrial, ...], Field(min_length=1)] = (AlsTrial(regularization=10.0, alpha=4.0),)
    trial_iterations: Positive = 5
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
    """What is measured, and on how many."""

    k: Positive = 10
    subjects: Positive = 2000
    bootstrap: Positive = 500


class GateConfig(_Part):
    """What a candidate has to reach.

    Parameters
    ----------
    least_ratio
        The candidate's NDCG over the champion's on the same validation pairs, at least.
    ranker_least_ratio
        The same for the ranker's NDCG over served lists.
    largest_megabytes
        Of the whole release.
    """

    least_ratio: Rate = 0.97
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
