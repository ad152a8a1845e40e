"""A release on its validation part: every method and the baselines, and what the report tells beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from training_jobs.evaluate import random_top
from training_jobs.evaluate.baselines import EASE_ITEMS, baseline_tops
from training_jobs.evaluate.evaluation import Evaluation, Settings, evaluate_tops
from training_jobs.evaluate.report import Background, Choice
from training_jobs.tracking import flat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from matchloop.release import Manifest
    from matchloop.usecase import Method, Tier
    from training_jobs.config import TrainingConfig
    from training_jobs.material import Material


def evaluate_release(
    release: str, tops: Mapping[str, NDArray[np.int64]], material: Material, config: TrainingConfig
) -> Evaluation:
    """Measure what a release's methods gave the subjects of `Material.truth`, beside baselines and chance.

    Parameters
    ----------
    tops
        By method and for ``routed``: rows of items, best first, (subjects, `EvaluateConfig.depth`).
    """
    truth = material.truth(at_most=config.evaluate.subjects, seed=config.seed)
    rng = np.random.default_rng(config.seed)
    events, depth = material.training_events, config.evaluate.depth
    shape = (len(material.subjects), len(material.items))
    liked = (events.subject[events.positive], events.item[events.positive])
    found = {name: tops[name] for name in sorted(tops, key=lambda name: (name != "routed", name))}
    found |= baseline_tops(liked, truth, shape, depth)
    found["random"] = random_top(truth, depth, rng)
    evaluation = evaluate_tops(
        found,
        truth,
        use_case=material.use_case,
        release=release,
        items=material.items,
        known=(events.subject, events.item),
        settings=Settings(config.evaluate.k, config.evaluate.cuts, config.evaluate.bootstrap),
        rng=rng,
    )
    if "ease" not in found:
        evaluation.notes.append(f"EASE is left out: {shape[1]:,} items, it is for up to {EASE_ITEMS:,}.")
    return evaluation


def background_of(
    manifest: Manifest,
    material: Material,
    config: TrainingConfig,
    *,
    orders: Mapping[Tier, Sequence[Method]],
    manifests: Sequence[Mapping[str, Any]],
    curves: Mapping[str, Sequence[float]],
    gates: Sequence[Mapping[str, Any]],
    skipped: Mapping[str, str],
    evaluation: Evaluation,
) -> Background:
    """Gather what the report tells beside the measurements."""
    snapshot = material.snapshot.manifest
    return Background(
        created=f"{manifest.created:%Y-%m-%d %H:%M} UTC",
        snapshot={
            "watermark": str(snapshot.watermark),
            "fingerprint": snapshot.fingerprint[:12],
            "taken": f"{snapshot.created:%Y-%m-%d %H:%M} UTC",
            "interactions": material.count,
            "in training": material.cut,
        },
        manifests=manifests,
        settings=flat(config.model_dump(mode="json")),
        curves=curves,
        choices=[*_settings_chosen(manifest.metrics), *_orders_chosen(orders, evaluation)],
        gates=gates,
        skipped=skipped,
    )


def _settings_chosen(metrics: Mapping[str, float]) -> list[Choice]:
    """Return what validation decided about the models' settings."""
    found = []
    als = {name: metrics[f"als_{name}"] for name in ALS_SETTINGS if f"als_{name}" in metrics}
    if als:
        chosen = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in als.items())
        found.append(Choice("ALS", chosen, "the trial with the best NDCG on the validation part"))
    if "two_tower_best_epoch" in metrics:
        epoch = f"epoch {metrics['two_tower_best_epoch']:g}"
        found.append(Choice("Two-Tower", epoch, "the epoch with the best NDCG on the validation part"))
    return found


ALS_SETTINGS = ("regularization", "alpha", "half_life_days")


def _orders_chosen(orders: Mapping[Tier, Sequence[Method]], evaluation: Evaluation) -> list[Choice]:
    """Return each tier's method order with the methods' NDCG on the tier's subjects."""
    metric = f"ndcg@{evaluation.k}"
    found = []
    for tier, order in orders.items():
        part = evaluation.parts.get(f"subject {tier.value}")
        measured = part.methods if part else {}
        reached = [f"{m} {measured[m][metric].mean:.4f}" for m in order if m in measured]
        why = f"NDCG@{evaluation.k} of {part.subjects} subjects: " + ", ".join(reached) if part else ""
        said = why or "no validation subject of this tier: the use case's order"
        found.append(Choice(f"methods, {tier.value}", " → ".join(order), said))
    return found
