"""The present champion on the candidate's validation data, through the classes that serve it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import ReleaseRefused
from matchloop.features import EntityEncoder, load_embedder
from matchloop.release import Manifest
from matchloop.rerank.calibration import logit
from matchloop.rerank.scorer import Ranker
from matchloop.retrieval.als import AlsModel
from matchloop.retrieval.popular import PopularModel
from matchloop.retrieval.two_tower import TwoTowerModel
from matchloop.usecase import Method, Tier
from training_jobs.assemble import ROUTING_FILE
from training_jobs.scoring import Known, als_top, popular_top, routed_top, tiers_of, two_tower_top

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from matchloop.usecase import UseCase
    from training_jobs.config import TrainingConfig
    from training_jobs.datasets import RankerDataset
    from training_jobs.evaluate import Truth
    from training_jobs.material import Material


def champion_top(folder: Path, material: Material, truth: Truth, config: TrainingConfig) -> NDArray[np.int64]:
    """Return what the champion would give each subject of `truth`, routed, (n, k) rows of items.

    It knows each subject's events before the validation part, folded in and as history, as it would have when
    serving; items it was not trained on are embedded from their features.
    """
    use_case, k = material.use_case, config.evaluate.k
    known = Known.of(material.training_events)
    manifest = Manifest.read(folder)
    parts, watermark = manifest.parts, int(manifest.snapshot.watermark)
    tops: dict[Method, NDArray[np.int64]] = {}
    if "als" in parts:
        als = AlsModel.load(folder / "als")
        tops[Method.ALS] = als_top(als, material, known, truth, k, watermark=watermark)
    if "two_tower" in parts:
        tops[Method.TWO_TOWER] = two_tower_top(load_two_tower(folder, use_case), material, known, truth, k)
    if "popular" in parts:
        tops[Method.POPULAR] = popular_top(PopularModel.load(folder / "popular"), material, known, truth, k)
    tiers = tiers_of(use_case, known.counts(truth.subjects))
    return routed_top(tops, orders_of(folder, use_case), tiers, k)


def champion_ranker(folder: Path, use_case: UseCase) -> Ranker | None:
    """Return the champion's ranker; None when it has none, or it can't be read."""
    if "ranker" not in Manifest.read(folder).parts:
        return None
    try:
        return Ranker.load(folder / "ranker", use_case)
    except ReleaseRefused:
        return None


def ranker_duel(
    candidate: Ranker, champion: Ranker | None, latest: RankerDataset
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both rankers' NDCG@10 on each of the latest lists; without a champion, the teacher's.

    Each adds to the teacher's logit as it was logged.
    """
    from training_jobs.recipes.ranker import each_list_ndcg

    teacher = logit(latest.original_score)
    rival = teacher if champion is None else teacher + champion.adjustment(latest.features)
    mine = teacher + candidate.adjustment(latest.features)
    return each_list_ndcg(latest, mine), each_list_ndcg(latest, rival)


def load_two_tower(folder: Path, use_case: UseCase) -> TwoTowerModel:
    """Load the Two-Tower of a release with its encoders."""
    embedder = load_embedder(None, use_case.embedding_width)
    return TwoTowerModel.load(
        folder / "two_tower",
        subject_encoder=EntityEncoder.load(folder / "encoder" / "subject.json", embedder),
        item_encoder=EntityEncoder.load(folder / "encoder" / "item.json", embedder),
    )


def orders_of(folder: Path, use_case: UseCase) -> dict[Tier, tuple[Method, ...]]:
    """Return the release's method order by tier; the use case's where it has none."""
    path = folder / ROUTING_FILE
    if not path.is_file():
        return {tier: use_case.methods.of(tier) for tier in Tier}
    declared = json.loads(path.read_text(encoding="utf-8"))
    return {Tier(tier): tuple(Method(method) for method in order) for tier, order in declared.items()}
