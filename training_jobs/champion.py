"""The present champion on the candidate's validation data, through the classes that serve it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from matchloop.errors import MatchloopError, ReleaseRefused
from matchloop.features import EntityEncoder, load_embedder
from matchloop.release import Manifest
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
    from training_jobs.evaluate import Truth
    from training_jobs.material import Material

T = TypeVar("T")


def champion_top(folder: Path, material: Material, truth: Truth, config: TrainingConfig) -> NDArray[np.int64]:
    """Return what the champion would give each subject of `truth`, routed, (n, k) rows of items.

    It knows each subject's events before the validation part, folded in and as history, as it would have when
    serving; items it was not trained on are embedded from their features. Parts that cannot be loaded
    here are taken as missing: see `Champion`.
    """
    use_case, k = material.use_case, config.evaluate.k
    known = Known.of(material.training_events)
    champion = load_champion(folder, use_case)
    watermark = int(Manifest.read(folder).snapshot.watermark)
    tops: dict[Method, NDArray[np.int64]] = {}
    if champion.als is not None:
        tops[Method.ALS] = als_top(champion.als, material, known, truth, POOL, watermark=watermark)
    if champion.two_tower is not None:
        tops[Method.TWO_TOWER] = two_tower_top(champion.two_tower, material, known, truth, POOL)
    if champion.popular is not None:
        tops[Method.POPULAR] = popular_top(champion.popular, material, known, truth, POOL)
    tops[Method.CONTENT] = content_top(content_index(material), material, known, truth, POOL)
    tiers = tiers_of(use_case, known.counts(truth.subjects))
    tops[Method.ENSEMBLE] = ensemble_top(tops, champion.choices.fusions, tiers, POOL)
    return routed_top(tops, _orders(champion.choices, use_case), tiers, k)


@dataclass(frozen=True, slots=True)
class Champion:
    """What can be loaded of a champion by the version that runs here.

    Parameters
    ----------
    faults
        By part that is there and cannot be loaded: why. It is compared without these. No service of this
        version would serve it at all, so this is more than it is worth, and never stops a retraining.
    """

    als: AlsModel | None
    two_tower: TwoTowerModel | None
    popular: PopularModel | None
    choices: Choices
    faults: Mapping[str, str]


def load_champion(folder: Path, use_case: UseCase) -> Champion:
    """Load the parts of a champion that retrieve; what cannot be loaded is left out and named."""
    parts, faults = Manifest.read(folder).parts, {}

    def loaded(part: str, load: Callable[[], T]) -> T | None:
        try:
            return load()
        except MatchloopError as error:
            faults[part] = error.message
            return None

    return Champion(
        als=loaded("als", lambda: AlsModel.load(folder / "als")) if "als" in parts else None,
        two_tower=loaded("two_tower", lambda: load_two_tower(folder, use_case))
        if "two_tower" in parts
        else None,
        popular=loaded("popular", lambda: PopularModel.load(folder / "popular"))
        if "popular" in parts
        else None,
        choices=loaded("routing", lambda: Choices.read(folder)) or Choices(),
        faults=faults,
    )


def champion_ranker(folder: Path, use_case: UseCase) -> Ranker | None:
    """Return the champion's ranker; None when it has none, or it can't be read."""
    if "ranker" not in Manifest.read(folder).parts:
        return None
    try:
        return Ranker.load(folder / "ranker", use_case)
    except ReleaseRefused:
        return None


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
    return _orders(Choices.read(folder), use_case)


def _orders(choices: Choices, use_case: UseCase) -> dict[Tier, tuple[Method, ...]]:
    return {tier: choices.orders.get(tier) or use_case.methods.of(tier) for tier in Tier}
