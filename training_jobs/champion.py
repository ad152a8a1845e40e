"""The present champion on the candidate's validation data, through the classes that serve it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import ReleaseRefused
from matchloop.features import EntityEncoder, load_embedder
from matchloop.release import Manifest
from matchloop.rerank.calibration import logit
from matchloop.rerank.scorer import Ranker
from matchloop.retrieval.als import AlsModel
from matchloop.retrieval.choices import Choices
from matchloop.retrieval.fusion import POOL
from matchloop.retrieval.popular import PopularModel
from matchloop.retrieval.two_tower import TwoTowerModel
from matchloop.usecase import Method, Tier
from training_jobs.choosing import ensemble_top
from training_jobs.scoring import Known, als_top, popular_top, routed_top, tiers_of, two_tower_top
from training_jobs.scoring_content import content_index, content_top

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
        tops[Method.ALS] = als_top(als, material, known, truth, POOL, watermark=watermark)
    if "two_tower" in parts:
        tops[Method.TWO_TOWER] = two_tower_top(load_two_tower(folder, use_case), material, known, truth, POOL)
    if "popular" in parts:
        tops[Method.POPULAR] = popular_top(
            PopularModel.load(folder / "popular"), material, known, truth, POOL
        )
    tops[Method.CONTENT] = content_top(content_index(material), material, known, truth, POOL)
    tiers, choices = tiers_of(use_case, known.counts(truth.subjects)), Choices.read(folder)
    tops[Method.ENSEMBLE] = ensemble_top(tops, choices.fusions, tiers, POOL)
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
    chosen = Choices.read(folder).orders
    return {tier: chosen.get(tier) or use_case.methods.of(tier) for tier in Tier}
