"""The gates in the order they are asked: each looks at the candidate beside the champion.

A gate is a function from `Judged` to what it found; one that has nothing to look at returns nothing. A new
one is a line in `GATES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matchloop.position import Weighting
from matchloop.release import Manifest
from matchloop.rerank.scorer import Ranker
from training_jobs.champion import champion_ranker
from training_jobs.comparison import Tops, retrieval_gates
from training_jobs.datasets import RankerDataset, ranker_dataset, whole_lists
from training_jobs.datasets.ranker import split_by_time, take
from training_jobs.gates import Gate, folder_gates
from training_jobs.off_policy_gate import off_policy_gate
from training_jobs.ranker_gates import calibration_gate, direction_gate, latency_gates, quality_gate

if TYPE_CHECKING:
    from matchloop.usecase import UseCase
    from training_jobs.config import TrainingConfig
    from training_jobs.material import Material


@dataclass(frozen=True)
class Judged:
    """A candidate and what it is judged by.

    Parameters
    ----------
    folder, manifest
        The candidate's release.
    champion
        The champion's folder; None: there is none to compare with, or it is the candidate itself.
    material
        The snapshot the candidate was trained on.
    tops
        What the candidate gives on the validation part.
    examples
        What the candidate's ranker was trained on; None where it has none.
    """

    folder: Path
    manifest: Manifest
    champion: Path | None
    material: Material
    tops: Tops
    config: TrainingConfig
    examples: RankerDataset | None = None

    @property
    def use_case(self) -> UseCase:
        """The use case it is for."""
        return self.material.use_case

    @property
    def rng(self) -> np.random.Generator:
        """A generator of the gate's own, the same each time."""
        return np.random.default_rng(self.config.seed)

    @cached_property
    def ranker(self) -> Ranker | None:
        """The candidate's ranker, as it would serve."""
        if "ranker" not in self.manifest.parts:
            return None
        return Ranker.load(self.folder / "ranker", self.use_case)

    @cached_property
    def champion_ranker(self) -> Ranker | None:
        """The champion's, if it has one that can be read here."""
        return champion_ranker(self.champion, self.use_case) if self.champion is not None else None

    @cached_property
    def lists(self) -> RankerDataset:
        """The latest lists, whole; with a champion that has a ranker, those served after it was made."""
        config = self.config.dataset
        examples = whole_lists(self.material.tables, self.use_case, config)
        found = ranker_dataset(examples, use_case=self.use_case, snapshot="", weighting=Weighting.INVERSE)
        _, latest = split_by_time(found, config.validation_share)
        if self.champion is None or self.champion_ranker is None:
            return latest
        made = np.datetime64(Manifest.read(self.champion).created.replace(tzinfo=None), "us")
        return take(latest, latest.serve_time > made)


def retrieval(judged: Judged) -> Sequence[Gate]:
    """Judge what is found, against chance and against the champion."""
    return retrieval_gates(
        judged.tops,
        judged.champion,
        judged.material,
        judged.config,
        judged.rng,
        metrics=judged.manifest.metrics,
    )


def ranker(judged: Judged) -> Sequence[Gate]:
    """Judge how the latest lists are ordered, how far scores can be believed, and how long it takes."""
    if judged.ranker is None:
        return ()
    gates, both = judged.config.gates, (judged.ranker, judged.champion_ranker)
    return (
        quality_gate(judged.lists, *both, gates, judged.rng),
        direction_gate(judged.lists, *both, gates, judged.rng),
        calibration_gate(judged.lists, *both, gates, judged.config.dataset.ranker_weighting),
        *latency_gates(judged.ranker, judged.use_case, gates, judged.rng),
    )


def off_policy(judged: Judged) -> Sequence[Gate]:
    """Judge what explored lists would have brought in the candidate's order."""
    if judged.ranker is None or judged.examples is None:
        return ()
    tables, examples = judged.material.tables, judged.examples
    return (
        off_policy_gate(
            judged.ranker, judged.champion, tables, examples, judged.use_case, judged.config, judged.rng
        ),
    )


def folder(judged: Judged) -> Sequence[Gate]:
    """Check size, checksums, schema, golden requests."""
    return folder_gates(judged.folder, judged.use_case, judged.config.gates)


GATES: tuple[Callable[[Judged], Sequence[Gate]], ...] = (retrieval, ranker, off_policy, folder)
"""In the order they are asked and shown."""


def ask(judged: Judged) -> list[Gate]:
    """Ask every gate of `GATES`."""
    return [gate for asked in GATES for gate in asked(judged)]
