"""All that a training run can be told, and the presets."""

from __future__ import annotations

import hashlib
import tomllib
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from matchloop.errors import InvalidInput, Violation
from training_jobs.config.datasets import DatasetConfig
from training_jobs.config.guards import GuardConfig
from training_jobs.config.judging import EvaluateConfig, GateConfig
from training_jobs.config.machine import Device, Engine
from training_jobs.config.part import Part
from training_jobs.config.ranker import RankerConfig
from training_jobs.config.retrieval import AlsConfig, EnsembleConfig, PopularConfig, TwoTowerConfig
from training_jobs.config.triggers import TriggerConfig

PRESETS = Path(str(resources.files("training_jobs") / "configs"))
"""The folder of the presets: default, fast, deep."""


class TrainingConfig(Part):
    """All of it; the hash of it is part of every step's key, `triggers` left out: they say when to run."""

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
    guards: GuardConfig = GuardConfig()
    triggers: TriggerConfig = TriggerConfig()

    @property
    def fingerprint(self) -> str:
        """Ten hex digits over every setting that a release depends on.

        Guards and triggers judge it later, and every engine builds the same data sets.
        """
        settings = self.model_dump_json(exclude={"guards": True, "triggers": True, "dataset": {"engine"}})
        return hashlib.sha256(settings.encode()).hexdigest()[:10]

    def on(self, engine: Engine | None, device: Device | None) -> TrainingConfig:
        """Return the same, with data sets built and networks trained elsewhere; None changes nothing."""
        sections: dict[str, Part] = {}
        if engine is not None:
            sections["dataset"] = self.dataset.model_copy(update={"engine": engine})
        for name in ("two_tower", "ranker") if device is not None else ():
            sections[name] = getattr(self, name).model_copy(update={"device": device})
        return self.model_copy(update=sections)


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
