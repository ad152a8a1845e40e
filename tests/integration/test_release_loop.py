"""A slot over MLflow on SQLite: registered by one client, served by another, from another thread."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from matchloop.release import MlflowRegistry, ReleaseSlot
from matchloop.release.slot import Poll
from matchloop.rerank.features import FeatureColumns
from matchloop.rerank.placement import CandidateList, place
from matchloop.rerank.scorer import PART, Ranker
from matchloop.testing.releases import build_release
from matchloop.usecase import Method, load_use_cases

USE_CASE = load_use_cases()["developer_startup"]
COLUMNS = FeatureColumns.of(USE_CASE)


def test_what_is_promoted_is_served(tmp_path: Path, new_registry: Callable[[Path], str]) -> None:
    uri = new_registry(tmp_path)
    slot: ReleaseSlot[Ranker] = ReleaseSlot(
        USE_CASE,
        MlflowRegistry(uri),
        lambda folder, manifest: Ranker.load(folder / PART, USE_CASE),
        tmp_path / "cache",
        3600.0,
        answers=lambda ranker: {PART: ranker.answer},
    )
    slot.start()
    try:
        assert slot.current() is None
        jobs = MlflowRegistry(uri)
        for seed, release in enumerate(("r1", "r2")):
            folder = build_release(tmp_path / release, USE_CASE, release=release, seed=seed)
            registered = jobs.register(folder, USE_CASE.id, run_id=None, metrics={"ndcg_at_10": 0.5})
            jobs.set_alias(USE_CASE.id, "champion", registered.version)
            assert slot.poll_once() is Poll.SWAPPED
        loaded = slot.current()
        assert loaded is not None
        assert (loaded.release, loaded.manifest.metrics) == ("r2", {"ndcg_at_10": 0.5})
        rng = np.random.default_rng(0)
        candidates = CandidateList(
            items=("a", "b", "c"),
            retrieval_scores=rng.random(3, dtype=np.float32),
            methods=(Method.TWO_TOWER,) * 3,
            item_features=rng.random((3, len(COLUMNS.item_names)), dtype=np.float32),
            diversity_values=[(("ai",), (), ())] * 3,
        )
        placed = place(candidates, COLUMNS, loaded.value, limit=2)
        assert placed.reranked
        assert len(placed.items) == 2
    finally:
        slot.close()
