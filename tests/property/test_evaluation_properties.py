"""Vectorised metrics against slow, obvious ones; baselines against their formulas."""

from __future__ import annotations

from itertools import combinations, permutations
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from training_jobs.evaluate import Ease, ItemKnn, Truth, metrics_at, split_parts, truth_of
from training_jobs.evaluate.bootstrap import intervals_of
from training_jobs.evaluate.metrics import coverage, exposure, gini, list_diversity, lorenz, novelty

SEEDS = st.integers(0, 10_000)
few = settings(deadline=None, max_examples=40)


def lists_of(rng: np.random.Generator, n: int, items: int, k: int) -> np.ndarray:
    """Lists without repeats, some shorter."""
    top = np.array([rng.permutation(items)[:k] for _ in range(n)])
    top[np.arange(k)[None, :] >= rng.integers(0, k + 1, n)[:, None]] = -1
    return top


def slow_metrics(top: list[int], relevant: set[int], k: int) -> dict[str, float]:
    hits = [item in relevant for item in top[:k]]
    found = sum(hits)
    ideal = sum(1 / log2(r + 1) for r in range(1, min(k, len(relevant)) + 1))
    precision, recall = found / k, found / len(relevant)
    return {
        "ndcg": sum(1 / log2(r + 1) for r, hit in enumerate(hits, 1) if hit) / ideal,
        "hit": float(found > 0),
        "recall": recall,
        "precision": precision,
        "f1": 2 * precision * recall / (precision + recall) if found else 0.0,
        "map": sum(sum(hits[:r]) / r for r, hit in enumerate(hits, 1) if hit) / min(k, len(relevant)),
        "mrr": next((1 / r for r, hit in enumerate(hits, 1) if hit), 0.0),
    }


@few
@given(SEEDS, st.integers(1, 6), st.integers(1, 12))
def test_metrics_equal_slow_ones(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    items = 12
    top = lists_of(rng, n, items, 8)
    relevant = [set(rng.permutation(items)[: rng.integers(1, items)].tolist()) for _ in range(n)]
    hits = np.array([[i in r for i in row] for row, r in zip(top.tolist(), relevant, strict=True)])
    found = metrics_at(hits, np.array([len(r) for r in relevant]), k)
    for at in range(n):
        for name, value in slow_metrics(top[at].tolist(), relevant[at], k).items():
            assert found[f"{name}@{k}"][at] == pytest.approx(value)


def weighted_truth(rng: np.random.Generator, n: int, items: int, *, shown: bool) -> Truth:
    gains = np.where(rng.random((n, items)) < 0.4, rng.integers(1, 5, (n, items)), 0).astype(np.float32)
    gains[np.arange(n), rng.integers(0, items, n)] = 2.0
    seen = sparse.csr_matrix((n, items), dtype=np.float32)
    held = sparse.csr_matrix(np.ones((n, items), np.float32)) if shown else None
    return Truth(np.arange(n), sparse.csr_matrix(gains), seen, held)


@few
@given(SEEDS, st.integers(1, 6), st.integers(1, 9), st.booleans())
def test_weighted_ndcg_equals_a_slow_one(seed: int, n: int, k: int, shown: bool) -> None:
    rng = np.random.default_rng(seed)
    items = 9
    truth = weighted_truth(rng, n, items, shown=shown)
    top, gains = lists_of(rng, n, items, 7), truth.relevant.toarray()
    dcg = [
        sum(gains[s, i] / log2(r + 1) for r, i in enumerate(top[s, :k].tolist(), 1) if i >= 0)
        for s in range(n)
    ]
    ideal = [
        sum(g / log2(r + 1) for r, g in enumerate(sorted(gains[s], reverse=True)[:k], 1)) for s in range(n)
    ]
    wanted = np.array(dcg) / (np.mean(ideal) if shown else np.array(ideal))
    np.testing.assert_allclose(truth.weighted_ndcg(top, k), wanted, rtol=1e-5, atol=1e-9)


@few
@given(SEEDS)
def test_the_order_by_chance_is_the_mean_of_all_orders(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = weighted_truth(rng, 1, 5, shown=bool(seed % 2))
    orders = np.array(list(permutations(range(5))))
    every = truth.of(np.zeros(len(orders), dtype=np.int64)).weighted_ndcg(orders, 3)
    assert truth.chance_ndcg(3)[0] == pytest.approx(every.mean())


@few
@given(SEEDS)
def test_clicks_by_position_alone_favour_no_order(seed: int) -> None:
    """All items are alike; clicks fall with the rank: weighted by it, the served order is no better."""
    rng = np.random.default_rng(seed)
    n, m = 4000, 4
    seen = rng.random((n, m)) < 1.0 / np.log2(np.arange(2, m + 2))
    clicked = seen & (rng.random((n, m)) < 0.5)
    gains = np.where(clicked, np.log2(np.arange(2, m + 2)), 0.0).astype(np.float32)
    kept = np.flatnonzero(clicked.any(axis=1))
    nothing = sparse.csr_matrix((len(kept), m), dtype=np.float32)
    truth = Truth(
        kept, sparse.csr_matrix(gains[kept]), nothing, sparse.csr_matrix(np.ones((len(kept), m), np.float32))
    )
    served, turned = np.tile(np.arange(m), (len(kept), 1)), np.tile(np.arange(m)[::-1], (len(kept), 1))
    gap = truth.weighted_ndcg(served, m).mean() - truth.weighted_ndcg(turned, m).mean()
    assert abs(gap) < 0.05


@few
@given(SEEDS, st.integers(1, 6))
def test_what_lists_do_to_the_catalogue_equals_slow_ones(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    items, k = 8, 5
    top, information = lists_of(rng, n, items, k), rng.random(items)
    values = [[set(rng.permutation(4)[: rng.integers(0, 4)].tolist()) for _ in range(items)] for _ in "ab"]
    fields = [sparse.csr_matrix([[float(v in held) for v in range(4)] for held in of]) for of in values]

    def likeness(i: int, j: int) -> float:
        both = [(of[i] & of[j], of[i] | of[j]) for of in values]
        return sum(len(common) / len(union) if union else 0.0 for common, union in both) / len(both)

    diversity, new = list_diversity(top, fields), novelty(top, information)
    for at, row in enumerate(top.tolist()):
        held = [item for item in row if item >= 0]
        pairs = [1.0 - likeness(i, j) for i, j in combinations(held, 2)]
        np.testing.assert_allclose(diversity[at], np.mean(pairs) if pairs else np.nan, atol=1e-6)
        np.testing.assert_allclose(new[at], np.mean(information[held]) if held else np.nan)
    exposed = exposure(top, items)
    slow = [
        sum(1 / log2(r + 2) for row in top for r, i in enumerate(row) if i == item) for item in range(items)
    ]
    np.testing.assert_allclose(exposed, slow)
    assert coverage(top, items) == len({i for row in top.tolist() for i in row if i >= 0}) / items
    if sum(slow):
        pairwise = sum(abs(a - b) for a in slow for b in slow) / (2 * items * sum(slow))
        assert gini(exposed) == pytest.approx(pairwise)
        assert 1.0 - 2.0 * np.trapezoid(lorenz(exposed, 4001), dx=1 / 4000) == pytest.approx(
            pairwise, abs=1e-3
        )


@few
@given(SEEDS, st.integers(2, 30))
def test_parts_by_what_was_seen_are_a_partition(seed: int, pairs: int) -> None:
    rng = np.random.default_rng(seed)
    truth = truth_of((rng.integers(0, 9, pairs), rng.integers(0, 9, pairs)), (np.zeros(1, int),) * 2, (9, 9))
    parts = split_parts(truth, rng.integers(0, 9, 4), rng.integers(0, 9, 4))
    whole = parts.pop("all")
    np.testing.assert_array_equal(np.sum(list(parts.values()), axis=0), whole.astype(int))


@few
@given(SEEDS, st.integers(2, 7), st.integers(2, 7), st.integers(1, 5))
def test_neighbours_equal_slow_ones(seed: int, n: int, m: int, neighbours: int) -> None:
    rng = np.random.default_rng(seed)
    liked = rng.random((n, m)) < 0.5
    pairs = np.nonzero(liked)
    model = ItemKnn.fit(pairs[0], pairs[1], (n, m), neighbours=neighbours, shrinkage=1.5)
    counts = liked.astype(float).T @ liked
    size = np.sqrt(np.diag(counts))
    cosine = counts / (np.outer(size, size) + 1.5)
    np.fill_diagonal(cosine, 0.0)
    for item in range(m):
        kept = np.sort(cosine[item])[::-1][:neighbours]
        found = np.sort(model.weights.toarray()[:, item])[::-1][:neighbours]
        np.testing.assert_allclose(found, kept, atol=1e-6)


@few
@given(SEEDS)
def test_ease_solves_its_problem(seed: int) -> None:
    """No other matrix of zero diagonal has a lower error and penalty together (Steck 2019, eq. 2)."""
    rng = np.random.default_rng(seed)
    x = (rng.random((12, 5)) < 0.5).astype(float)
    pairs = np.nonzero(x)
    model = Ease.fit(pairs[0], pairs[1], x.shape, regularization=2.0)
    assert model is not None

    def loss(b: np.ndarray) -> float:
        return float(((x - x @ b) ** 2).sum() + 2.0 * (b**2).sum())

    best = model.weights.astype(float)
    assert not np.diag(best).any()
    for _ in range(20):
        other = best + rng.normal(0.0, 0.05, best.shape)
        np.fill_diagonal(other, 0.0)
        assert loss(best) < loss(other)


@few
@given(SEEDS, st.integers(1, 40))
def test_intervals_leave_out_what_is_not_there(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.random((n, 2))
    holed = np.vstack([values, [[np.nan, np.nan]] * 3])
    for found, column in zip(intervals_of(holed, rng=rng, resamples=50), values.T, strict=True):
        assert found.mean == pytest.approx(column.mean())
        assert found.low <= found.high
