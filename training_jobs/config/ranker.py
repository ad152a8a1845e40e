"""How the ranker is trained."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from training_jobs.config.machine import Device
from training_jobs.config.part import Part, Positive, Rate, Share


class RankerConfig(Part):
    """The ranker's network and how it is trained.

    Parameters
    ----------
    teacher_seen
        Whether the network looks at `model_score` and `original_score`, and so learns how far the teacher is
        to be followed within a list, where its calibration was fitted across lists; else they reach the score
        by the teacher's logit alone.
    """

    hidden: tuple[Positive, ...] = (32, 16)
    dropout: Share = 0.2
    teacher_seen: bool = True
    epochs: Positive = 20
    batch: Positive = 128
    learning_rate: Rate = 0.001
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    least_positives: Positive = 100
    least_calibration_positives: Positive = 30
    threads: Positive = 1
    device: Device = Device.AUTO
