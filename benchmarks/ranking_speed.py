"""How long ranking takes: a list of 20 candidates; data set and training from a million impressions."""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from matchloop.entities import Entity, EntityId, EntityKey, Kind
from matchloop.position import Weighting, examination
from matchloop.rerank.features import FeatureColumns, ItemFacts, item_features
from matchloop.rerank.placement import CandidateList, place
from matchloop.rerank.scorer import Ranker
from matchloop.rerank.values import ValueProfile, value_shares
from matchloop.snapshot import TableName, entity_tables, write_snapshot
from matchloop.testing.releases import write_ranker
from matchloop.usecase import Method, load_use_cases
from training_jobs import datasets
from training_jobs.config import load_config
from training_jobs.recipes.ranker import recalibrated, train_ranker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from matchloop.rerank.values import ValueShares
    from matchloop.snapshot import Snapshot
    from matchloop.usecase import UseCase

USE_CASE = "developer_startup"
CANDIDATES = 20
SIZE = 10
"""Items of a list."""

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SUBJECTS, ITEMS = 10_000, 20_000


def rerank_milliseconds(requests: int = 3000) -> NDArray[np.float64]:
    """Return what each of so many requests took: ITEM features, scores and placement of 20 candidates."""
    use_case, rng = load_use_cases()[USE_CASE], np.random.default_rng(0)
    columns = FeatureColumns.of(use_case)
    with tempfile.TemporaryDirectory(prefix="ranking-") as folder:
        write_ranker(Path(folder), use_case, rng)
        ranker = Ranker.load(Path(folder), use_case)
    items = tuple(f"item-{number}" for number in range(CANDIDATES))
    values = [_values(use_case, rng) for _ in items]
    shares = [value_shares(each) for each in values]
    liked: list[tuple[ValueShares, float]] = [(value_shares(_values(use_case, rng)), 1.0) for _ in range(20)]
    facts = ItemFacts(
        age_days=rng.exponential(30.0, CANDIDATES),
        views=rng.integers(0, 500, CANDIDATES).astype(np.float64),
        interactions=rng.integers(0, 100, CANDIDATES).astype(np.float64),
        popularity_maximum=900.0,
        values=shares,
        profile=ValueProfile.of(liked),
        scores={Method.ALS: rng.random(CANDIDATES)},
    )
    scores = np.sort(rng.random(CANDIDATES).astype(np.float32))[::-1]
    fields = use_case.ranking.diversity_fields
    diversity = [tuple(each.get(name, ()) for name in fields) for each in values]
    took = np.empty(requests)
    for request in range(requests):
        begin = time.perf_counter()
        candidates = CandidateList(
            items, scores, (Method.ALS,) * CANDIDATES, item_features(columns.item_features, facts), diversity
        )
        place(candidates, columns, ranker)
        took[request] = time.perf_counter() - begin
    return took[requests // 10 :] * 1e3


def _values(use_case: UseCase, rng: np.random.Generator) -> Mapping[str, tuple[str, ...]]:
    discrete = ("type", "category", "field", "phase", "country", "tags", "stages", "open_positions")
    assert set(discrete) <= set(use_case.item_features)
    return {
        name: tuple(f"{name}-{value}" for value in rng.choice(12, 1 + at // 5, replace=False))
        for at, name in enumerate(discrete)
    }


def training_minutes(folder: Path, lists: int = 100_000, threads: int = 2) -> dict[str, float]:
    """Return how long the data set and the training took of so many lists of ten, after their snapshot.

    The shipped settings, but for the threads.
    """
    use_case, config = load_use_cases()[USE_CASE], load_config("default")
    snapshot = snapshot_of_lists(folder, use_case, lists)
    begin = time.perf_counter()
    tables = datasets.open_tables(snapshot)
    found = datasets.ranker_dataset(
        datasets.ranker_examples(tables, use_case, config.dataset),
        use_case=use_case,
        snapshot=snapshot.manifest.fingerprint,
        weighting=Weighting.DISCOUNT,
    )
    built = time.perf_counter()
    found, calibration = recalibrated(found, {}, least_positives=config.ranker.least_calibration_positives)
    train_ranker(
        found,
        config.ranker.model_copy(update={"threads": threads}),
        validation_share=config.dataset.validation_share,
        seed=config.seed,
        calibration=calibration,
    )
    trained = time.perf_counter()
    return {
        "impressions": float(lists * SIZE),
        "examples": float(len(found)),
        "positives": float(found.positives),
        "dataset_seconds": built - begin,
        "training_seconds": trained - built,
        "minutes": (trained - begin) / 60.0,
    }


def snapshot_of_lists(folder: Path, use_case: UseCase, lists: int, seed: int = 0) -> Snapshot:
    """Write a snapshot of lists of ten: of the items examined about half are clicked or viewed, 6 % liked."""
    rng = np.random.default_rng(seed)
    names = use_case.ranking.features
    items = (rng.integers(0, ITEMS - SIZE, lists)[:, None] + np.arange(SIZE)).reshape(-1)
    subjects = rng.integers(0, SUBJECTS, lists)
    features = rng.random((lists * SIZE, len(names)), dtype=np.float32)
    scores = -np.sort(-rng.random((lists, SIZE)), axis=1).reshape(-1)
    features[:, names.index("original_score")] = np.clip(scores, 0.01, 0.99)
    seconds = np.arange(lists) * (90 * 86_400 // max(lists, 1))
    times = np.datetime64(BEGAN.replace(tzinfo=None), "us") + seconds.astype("timedelta64[s]")
    session = _texts("list", np.arange(lists))
    item_ids, subject_ids = _texts("startup", items), _texts("developer", subjects)
    sessions = pa.table(
        {
            "sequence": np.arange(lists),
            "session_id": session,
            "use_case": _same(use_case.id, lists),
            "subject_id": subject_ids,
            "release": pa.nulls(lists, pa.string()),
            "arm": pa.nulls(lists, pa.string()),
            "tier": pa.nulls(lists, pa.string()),
            "reranked": np.ones(lists, dtype=np.bool_),
            "source": _same("ranking", lists),
            "serve_time": _utc(times),
            "item_ids": _lists(item_ids, SIZE),
            "scores": _lists(pa.array(scores), SIZE),
            "methods": _lists(_same("als", lists * SIZE), SIZE),
            "retrieval_scores": _lists(pa.array(scores), SIZE),
            "propensities": pa.nulls(lists, pa.list_(pa.float64())),
            "feature_names": pa.array([list(names)] * lists, pa.list_(pa.string())),
            "feature_values": _lists(pa.array(features.reshape(-1)), SIZE * len(names)),
        }
    )
    at, types = _reactions(features[:, names.index("popularity")], rng)
    count, of_list = len(at), at // SIZE
    interactions = pa.table(
        {
            "sequence": np.arange(count),
            "interaction_id": _texts("reaction", np.arange(count)),
            "use_case": _same(use_case.id, count),
            "subject_id": subject_ids.take(pa.array(of_list)),
            "item_id": item_ids.take(pa.array(at)),
            "event_type": pa.array(types),
            "event_time": _utc(times[of_list]),
            "receive_time": _utc(times[of_list]),
            "source": _same("recommendation", count),
            "session_id": session.take(pa.array(of_list)),
            "rank": (at % SIZE + 1).astype(np.int32),
            "score": scores[at],
            "method": _same("als", count),
            "release": pa.nulls(count, pa.string()),
        }
    )
    entities = [
        Entity(EntityKey(Kind(kind), EntityId(f"{kind}-{number}")))
        for kind, size in (("developer", SUBJECTS), ("startup", ITEMS))
        for number in range(size)
    ]
    tables = {**entity_tables(entities), TableName.SESSIONS: sessions, TableName.INTERACTIONS: interactions}
    return write_snapshot(folder, tables, watermark=count, created=BEGAN + timedelta(days=91))


def _reactions(
    liking: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Return the impressions that were reacted to, and how: the higher `liking` in [0, 1], the likelier."""
    rank = np.arange(len(liking)) % SIZE + 1
    seen = rng.random(len(liking)) < examination(rank)
    drawn = rng.random(len(liking))
    types = np.select(
        [drawn < 0.12 * liking, drawn < 0.12 * liking + 0.2, drawn < 0.5], ["like", "click", "view"], ""
    )
    at = np.flatnonzero(seen & (types != ""))
    return at, types[at]


def _texts(prefix: str, numbers: NDArray[np.int64]) -> pa.Array:
    return pa.array([f"{prefix}-{number}" for number in numbers.tolist()])


def _same(value: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value), count)


def _utc(times: NDArray[np.datetime64]) -> pa.Array:
    return pa.array(times.astype("datetime64[us]"), pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))


def _lists(flat: pa.Array, size: int) -> pa.Array:
    return pa.ListArray.from_arrays(np.arange(0, len(flat) + 1, size, dtype=np.int32), flat)
