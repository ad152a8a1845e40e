"""What holds for every list of candidates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matchloop.rerank.features import FeatureColumns, ItemFacts, item_features
from matchloop.rerank.placement import CandidateList, place, similarities
from matchloop.rerank.scorer import Ranker, RuleScorer
from matchloop.rerank.values import ValueProfile, value_shares
from matchloop.testing.releases import write_ranker
from matchloop.usecase import Method, load_use_cases

USE_CASE = load_use_cases()["user_movie"]
COLUMNS = FeatureColumns.of(USE_CASE)
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 24)


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    folder = tmp_path_factory.mktemp("ranker")
    write_ranker(folder, USE_CASE, np.random.default_rng(0))
    return Ranker.load(folder, USE_CASE)


def draw(seed: int, n: int) -> CandidateList:
    rng = np.random.default_rng(seed)
    methods = (Method.CONTENT, Method.ALS, Method.POPULAR)
    return CandidateList(
        items=tuple(f"m{i}" for i in range(n)),
        retrieval_scores=(rng.permutation(n) / n).astype(np.float32),
        methods=(Method.CONTENT, *(methods[i] for i in rng.integers(0, 3, n - 1))),
        item_features=rng.random((n, len(COLUMNS.item_names)), dtype=np.float32),
        diversity_values=[
            [[str(value) for value in rng.integers(0, 4, 2)] for _ in range(3)] for _ in range(n)
        ],
    )


def shuffled(candidates: CandidateList, order: list[int]) -> CandidateList:
    return CandidateList(
        tuple(candidates.items[i] for i in order),
        candidates.retrieval_scores[order],
        tuple(candidates.methods[i] for i in order),
        candidates.item_features[order],
        [candidates.diversity_values[i] for i in order],
    )


@settings(max_examples=30, deadline=None)
@given(SEEDS, SIZES)
def test_nothing_is_lost_and_a_limit_is_a_prefix(ranker: Ranker, seed: int, n: int) -> None:
    candidates = draw(seed, n)
    for scorer in (ranker, RuleScorer(USE_CASE)):
        whole = place(candidates, COLUMNS, scorer)
        assert sorted(whole.items) == sorted(candidates.items)
        short = place(candidates, COLUMNS, scorer, limit=n // 2)
        assert short.items == whole.items[: n // 2]
        np.testing.assert_array_equal(short.features, whole.features[: n // 2])
        assert np.isfinite(whole.scores).all()
        assert whole.features.min() >= 0.0
        assert whole.features.max() <= 1.0


@settings(max_examples=30, deadline=None)
@given(SEEDS, SIZES)
def test_placement_is_the_definition(ranker: Ranker, seed: int, n: int) -> None:
    candidates = draw(seed, n)
    for scorer in (ranker, RuleScorer(USE_CASE)):
        placed = place(candidates, COLUMNS, scorer)
        features = np.empty_like(placed.features)
        features[placed.order] = placed.features
        like = similarities(candidates.diversity_values)
        for rank, row in enumerate(placed.order):
            nearest = like[:, placed.order[:rank]].max(axis=1, initial=0.0)
            diversity = (1.0 - nearest).astype(np.float32)
            assert placed.features[rank, COLUMNS.diversity] == pytest.approx(diversity[row], abs=1e-6)
            scores = scorer.final(scorer.by_diversity(features)(diversity))
            assert scores[placed.order[rank:]].max() <= scores[row] + 1e-5, "a better one was left out"
            assert placed.scores[rank] == pytest.approx(scores[row], abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(SEEDS, SIZES)
def test_the_order_candidates_come_in_does_not_matter(ranker: Ranker, seed: int, n: int) -> None:
    candidates = draw(seed, n)
    order = np.random.default_rng(seed).permutation(n).tolist()
    for scorer in (ranker, RuleScorer(USE_CASE)):
        one, other = (place(given, COLUMNS, scorer) for given in (candidates, shuffled(candidates, order)))
        assert one.items == other.items
        np.testing.assert_allclose(one.features, other.features, atol=1e-6)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(SEEDS, SIZES)
def test_a_batch_of_one_equals_one(ranker: Ranker, seed: int, n: int) -> None:
    rows = np.random.default_rng(seed).random((n, len(COLUMNS.names)), dtype=np.float32)
    alone = np.concatenate([ranker.score(rows[i : i + 1]) for i in range(n)])
    np.testing.assert_allclose(ranker.score(rows), alone, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(SEEDS, SIZES)
def test_item_features_are_made_item_by_item(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    values = [value_shares({"genres": [str(g) for g in rng.integers(0, 5, 2)]}) for _ in range(n)]
    profile = ValueProfile.of([(value, float(rng.normal())) for value in values])
    age, views, interactions = (rng.exponential(mean, n) for mean in (30.0, 9.0, 3.0))
    als = rng.random(n)

    def facts(rows: list[int]) -> ItemFacts:
        picked = [values[row] for row in rows]
        scores = {Method.ALS: als[rows]}
        return ItemFacts(age[rows], views[rows], interactions[rows], 100.0, picked, profile, scores)

    together = item_features(COLUMNS.item_features, facts(list(range(n))))
    alone = np.concatenate([item_features(COLUMNS.item_features, facts([row])) for row in range(n)])
    np.testing.assert_array_equal(together, alone)
    order = rng.permutation(n).tolist()
    np.testing.assert_array_equal(item_features(COLUMNS.item_features, facts(order)), together[order])
    assert together.min() >= 0.0
    assert together.max() <= 1.0
