"""What the gates compare: the candidate with chance and with the champion, on data new to both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matchloop.release import Manifest
from training_jobs.champion import champion_top, load_champion
from training_jobs.evaluate import random_top
from training_jobs.gates import (
    Gate,
    Verdict,
    champion_gate,
    lift_evidence,
    paired_evidence,
    random_gate,
)
from training_jobs.lists import shown_truth

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from training_jobs.config import TrainingConfig
    from training_jobs.material import Material


@dataclass(frozen=True, slots=True)
class Tops:
    """What the candidate gives: rows of items, best first, int64 (subjects, k).

    Parameters
    ----------
    routed
        For the subjects of `Material.truth`, over the whole catalogue.
    listed
        For the subjects of `shown_truth`, over what they were shown.
    """

    routed: NDArray[np.int64]
    listed: NDArray[np.int64]


def retrieval_gates(
    tops: Tops,
    champion: Path | None,
    material: Material,
    config: TrainingConfig,
    rng: np.random.Generator,
    *,
    metrics: Mapping[str, float],
) -> list[Gate]:
    """Compare with chance on the validation pairs, and with a champion on what came after its snapshot.

    What its own lists brought about speaks for the champion, so those are compared list by list.

    Parameters
    ----------
    metrics
        The candidate's, its lift among them.
    champion
        Its release's folder; None: there is none to compare with.
    """
    k = config.evaluate.k
    truth = material.truth(at_most=config.evaluate.subjects, seed=config.seed)
    ndcg, random = (truth.metrics(top, k)[f"ndcg@{k}"] for top in (tops.routed, random_top(truth, k, rng)))
    gates = [random_gate(ndcg, random, config.gates, k=k)]
    if champion is None:
        return gates
    faults = load_champion(champion, material.use_case).faults
    if faults:
        note = "; ".join(f"{part}: {why}" for part, why in faults.items())
        gates.append(
            Gate("champion_parts", float(len(faults)), 0.0, Verdict.SKIPPED, f"compared without {note}")
        )
    rival = Manifest.read(champion)
    watermark = int(rival.snapshot.watermark)
    evidence = []
    for name, whole, newer, mine in (
        ("own finds", truth, material.newer(truth, watermark), tops.routed),
        ("lists", shown_truth(material), shown_truth(material, after=watermark), tops.listed),
    ):
        own = mine[np.searchsorted(whole.subjects, newer.subjects)]
        theirs = champion_top(champion, material, newer, config) if len(newer) else own
        ndcg, rivals = (newer.weighted_ndcg(top, k) for top in (own, theirs))
        evidence.append(paired_evidence(name, ndcg, rivals, newer.chance_ndcg(k), rng=rng))
    if all(each.count < config.gates.least_pairs for each in evidence):
        # Each lift is over neighbours of its own data. Where lists were served, those data are mostly what
        # the champion chose to show, which makes its neighbours strong: the same pairs tell more, if there
        # are enough of them.
        lift = lift_evidence(metrics, rival.metrics, rng)
        evidence = [*evidence, *([lift] if lift else [])]
    gates.append(champion_gate(evidence, config.gates))
    return gates
