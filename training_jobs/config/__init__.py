"""What a training run can be told, with presets in ``configs/*.toml``. A section a module."""

from training_jobs.config.datasets import DatasetConfig
from training_jobs.config.guards import GuardConfig
from training_jobs.config.judging import EvaluateConfig, GateConfig
from training_jobs.config.machine import AlsLibrary, Device, Engine
from training_jobs.config.part import Part, Positive, Rate, Share
from training_jobs.config.ranker import RankerConfig
from training_jobs.config.retrieval import (
    AlsConfig,
    AlsTrial,
    EnsembleConfig,
    Loss,
    PopularConfig,
    TwoTowerConfig,
)
from training_jobs.config.training import PRESETS, TrainingConfig, load_config
from training_jobs.config.triggers import TriggerConfig

__all__ = [
    "PRESETS",
    "AlsConfig",
    "AlsLibrary",
    "AlsTrial",
    "DatasetConfig",
    "Device",
    "Engine",
    "EnsembleConfig",
    "EvaluateConfig",
    "GateConfig",
    "GuardConfig",
    "Loss",
    "Part",
    "PopularConfig",
    "Positive",
    "RankerConfig",
    "Rate",
    "Share",
    "TrainingConfig",
    "TriggerConfig",
    "TwoTowerConfig",
    "load_config",
]
