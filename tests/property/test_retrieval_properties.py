"""What holds for any input: the encoder, searches, fold-in, fusion and routing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_matrix

from matchloop.entities import (
    Categorical,
    Entity,
    EntityId,
    EntityKey,
    FeatureValue,
    Kind,
    Multi,
    Numeric,
    Text,
)
from matchloop.features import EntityEncoder, HashingEmbedder
from matchloop.retrieval.als import AlsModel
from matchloop.retrieval.boosted import Base, Boosted
from matchloop.retrieval.content import ContentIndex
from matchloop.retrieval.fusion import fuse
from matchloop.retrieval.popular import PopularModel
from matchloop.retrieval.profile import ContentProfile
from matchloop.retrieval.routing import SkipReason, route
from matchloop.retrieval.scored import Hit, top_k
from matchloop.retrieval.vector_index import VectorIndex
from matchloop.usecase import FeatureType, Method, load_use_cases

SMALL = settings(deadline=None, max_examples=60)
SCHEMA = {
    "category": FeatureType.CATEGORICAL,
    "tags": FeatureType.MULTI,
    "founded_year": FeatureType.NUMERIC,
    "name": FeatureType.TEXT,
}
FEATURES = st.fixed_dictionaries(
    {},
    optional={
        "category": st.sampled_from("abc").map(Categorical),
        "tags": st.lists(st.sampled_from("uvwxyz"), max_size=4).map(lambda values: Multi(tuple(values))),
        "founded_year": st.floats(-1e9, 1e9).map(Numeric),
        "name": st.text("ab zéßǅ١-", max_size=12).map(Text),
    },
)
CATALOGUES = st.lists(FEATURES, max_size=12)
USE_CASE = load_use_cases()["investor_startup"].model_copy(update={"embedding_width": 16})


def entities(catalogue: Sequence[dict[str, FeatureValue]]) -> list[Entity]:
    return [
        Entity(EntityKey(Kind("startup"), EntityId(f"s{at}")), features)
        for at, features in enumerate(catalogue)
    ]


@SMALL
@given(CATALOGUES, CATALOGUES)
def test_a_row_does_not_depend_on_the_batch(
    fitted: list[dict[str, FeatureValue]], encoded: list[dict[str, FeatureValue]]
) -> None:
    embedder = HashingEmbedder(16)
    encoder = EntityEncoder.fit(SCHEMA, entities(fitted), embedder=embedder, embedding_width=16, min_count=1)
    given_ = entities(encoded)
    rows = encoder.encode(given_)
    assert rows.shape == (len(given_), encoder.width)
    assert np.isfinite(rows).all()
    for at, entity in enumerate(given_):
        assert np.array_equal(encoder.encode([entity])[0], rows[at])
    again = EntityEncoder.from_state(encoder.to_state(), embedder)
    assert np.array_equal(again.encode(given_[::-1])[::-1], rows)


@SMALL
@given(
    hnp.arrays(np.float32, st.integers(0, 30), elements=st.integers(-3, 3).map(float)),
    st.integers(0, 40),
    st.sets(st.integers(0, 29)),
)
def test_top_k_equals_a_full_sort(scores: np.ndarray, k: int, excluded: set[int]) -> None:
    rows = sorted(row for row in excluded if row < len(scores))
    found = top_k(scores, k, exclude=np.asarray(rows, dtype=np.int64))
    order = sorted((row for row in range(len(scores)) if row not in excluded), key=lambda r: (-scores[r], r))
    assert found.item.tolist() == order[:k]


@settings(SMALL, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 5.0), st.floats(0.5, 20.0))
def test_fold_in_equals_implicits_own(seed: int, regularization: float, alpha: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from implicit.cpu.als import AlternatingLeastSquares
    rng = np.random.default_rng(seed)
    matrix = csr_matrix(
        np.where(rng.random((20, 15)) < 0.3, rng.choice([0.5, 1.0, 2.0, 3.5], (20, 15)), 0.0)
    ).astype(np.float32)
    trained = AlternatingLeastSquares(
        factors=6,
        regularization=regularization,
        alpha=alpha,
        iterations=3,
        num_threads=1,
        random_state=seed % 1000,
    )
    trained.fit(matrix, show_progress=False)
    model = AlsModel(
        [EntityId(f"i{row}") for row in range(15)],
        trained.item_factors,
        [EntityId(f"s{row}") for row in range(20)],
        trained.user_factors,
        regularization=regularization,
        alpha=alpha,
    )
    for subject in range(20):
        row = matrix[subject]
        if row.nnz:
            expected = trained.recalculate_user(subject, row)
            folded = model.fold_in(row.indices.astype(np.int64), row.data)
            assert np.allclose(folded, expected, atol=1e-3)


@SMALL
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 25), st.just(3)), elements=st.integers(-4, 4).map(float)),
    st.integers(0, 30),
    st.sets(st.integers(0, 24)),
    st.booleans(),
)
def test_an_index_never_gives_fewer_than_asked_while_there_are_enough(
    vectors: np.ndarray, k: int, excluded: set[int], filtered: bool
) -> None:
    ids = [EntityId(f"i{row}") for row in range(len(vectors))]
    query = np.asarray([1.0, 2.0, -1.0], dtype=np.float32)
    allow = (lambda item: int(item[1:]) % 2 == 0) if filtered else None
    left = {id_ for id_ in ids if int(id_[1:]) not in excluded and (allow is None or allow(id_))}
    for exact_below in (1000, 1):
        index = VectorIndex(3, exact_below=exact_below)
        index.upsert(ids, vectors)
        found = index.search(query, k, exclude=[EntityId(f"i{row}") for row in excluded], allow=allow)
        assert len(found) == min(k, len(left))
        assert {hit.item for hit in found} <= left
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


@SMALL
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(0, 600),
    st.sampled_from([1.0, 0.5, 0.1, 0.01]),
    st.integers(0, 300),
)
def test_a_graph_gives_enough_whatever_is_left_out(
    seed: int, k: int, excluded: int, share: float, removed: int
) -> None:
    """The nearest are excluded, most others filtered out, and some of the graph replaced or removed."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(600, 4)).astype(np.float32)
    ids = [EntityId(f"i{row}") for row in range(600)]
    index = VectorIndex(4, exact_below=10)
    index.upsert(ids, vectors)
    gone = rng.permutation(600)[:removed]
    index.remove([ids[row] for row in gone])
    back = gone[: removed // 2]
    index.upsert([ids[row] for row in back], -vectors[back])
    vectors[back] *= -1.0
    live = np.setdiff1d(np.arange(600), gone[removed // 2 :])
    query = rng.normal(size=4).astype(np.float32)
    nearest = live[np.argsort(-(vectors[live] @ query))]
    left_out = {ids[row] for row in nearest[:excluded]}
    allowed = {id_ for id_ in ids if rng.random() < share}
    enough = {ids[row] for row in live} - left_out
    for allow, expected in ((None, enough), (allowed.__contains__, enough & allowed)):
        found = index.search(query, k, exclude=left_out, allow=allow)
        assert index.has_graph
        assert len(found) == len({hit.item for hit in found}) == min(k, len(expected))
        assert {hit.item for hit in found} <= expected
        row = {id_: at for at, id_ in enumerate(ids)}
        assert np.allclose(
            [hit.score for hit in found], [vectors[row[hit.item]] @ query for hit in found], atol=1e-5
        )
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


@SMALL
@given(CATALOGUES, FEATURES, st.integers(0, 15))
def test_content_scores_are_in_range_and_updates_equal_a_fresh_index(
    catalogue: list[dict[str, FeatureValue]], wanted: dict[str, FeatureValue], k: int
) -> None:
    items = entities(catalogue)
    embedder = HashingEmbedder(16)
    changed, fresh = ContentIndex(USE_CASE, embedder), ContentIndex(USE_CASE, embedder)
    changed.upsert([Entity(item.key, wanted) for item in items])
    changed.remove([item.key.id for item in items[::2]])
    changed.upsert(items)
    fresh.upsert(items)
    like = ContentIndex(USE_CASE, embedder)
    like.upsert([Entity(EntityKey(Kind("startup"), EntityId("w")), wanted)])
    profile = like.profile_like(EntityId("w"))
    assert profile is not None
    found = [hit.score for hit in changed.search(profile, k)]
    assert all(0.0 < score <= 1.0 for score in found)
    assert np.allclose(found, [hit.score for hit in fresh.search(profile, len(items))][:k], atol=1e-6)
    assert not changed.search(ContentProfile({}, None), k)


@SMALL
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.floats(0, 1e4), st.floats(-2, 5), st.sampled_from("abc")), max_size=20
    ),
    st.sets(st.sampled_from("abcd")),
)
def test_popular_shares_do_not_depend_on_the_order_of_events(
    events: list[tuple[int, float, float, str]], values: set[str]
) -> None:
    ids = [EntityId(f"i{row}") for row in range(6)]

    def build(given_: list[tuple[int, float, float, str]]) -> PopularModel:
        return PopularModel.build(
            ids,
            np.asarray([item for item, _, _, _ in given_], dtype=np.int64),
            np.asarray([age for _, age, _, _ in given_], dtype=np.float64),
            np.asarray([weight for _, _, weight, _ in given_], dtype=np.float64),
            {"letter": [(letter,) for _, _, _, letter in given_]},
            half_life_days=30.0,
        )

    model = build(events)
    scores = model.scores({"letter": sorted(values)})
    assert np.isfinite(scores).all()
    assert (scores >= 0.0).all()
    assert scores.sum() == pytest.approx(1.0 if model.overall.any() else 0.0)
    assert np.allclose(build(events[::-1]).scores({"letter": sorted(values)}), scores)
    assert np.array_equal(model.scores({"letter": sorted(values, reverse=True)}), scores)
    everything = model.search({"letter": sorted(values)}, 6)
    assert [hit.score for hit in everything] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)


@SMALL
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=30),
    st.dictionaries(st.integers(0, 29), st.floats(1.0, 9.0), max_size=10),
    st.sets(st.integers(0, 29)),
    st.integers(0, 31),
)
def test_the_best_of_boosted_shares_are_those_of_all_scores(
    counts: list[int], raised: dict[int, float], hidden: set[int], k: int
) -> None:
    base = Base.of(np.asarray(counts, dtype=np.float64))
    rows = np.asarray([row for row in raised if row < len(counts)], dtype=np.int64)
    factor = np.asarray([raised[row] for row in rows.tolist()], dtype=np.float64)
    boosted = Boosted(base, rows, base.share[rows] * factor)
    allowed = np.asarray([row not in hidden for row in range(len(counts))])
    scores = boosted.scores()
    wanted = sorted(np.flatnonzero(allowed).tolist(), key=lambda row: (-scores[row], row))[:k]
    found = boosted.best(k, allowed)
    assert len(found) == len(wanted)
    assert np.allclose(found.score, scores[wanted], atol=1e-7)
    assert allowed[found.item].all()
    assert len(set(found.item.tolist())) == len(found)


RANKINGS = st.dictionaries(
    st.sampled_from([Method.ALS, Method.TWO_TOWER, Method.CONTENT]),
    st.lists(st.sampled_from("abcdefgh").map(EntityId), max_size=8, unique=True),
)


@SMALL
@given(RANKINGS, st.integers(0, 10))
def test_fusion_gives_each_item_once_in_any_order_of_methods(
    rankings: dict[Method, list[EntityId]], k: int
) -> None:
    fused = fuse(rankings, k)
    every = {item for ranking in rankings.values() for item in ranking}
    assert len({hit.item for hit in fused}) == len(fused) == min(k, len(every))
    assert all(0.0 < hit.score <= 1.0 for hit in fused)
    again = fuse(dict(reversed(rankings.items())), k)
    assert [round(hit.score, 9) for hit in again] == [round(hit.score, 9) for hit in fused]


@SMALL
@given(RANKINGS, st.integers(0, 10), st.sets(st.sampled_from(list(Method))))
def test_routing_gives_what_there_is_and_a_reason_for_each_method_that_fell_short(
    rankings: dict[Method, list[EntityId]], k: int, available: set[Method]
) -> None:
    def ask(method: Method, wanted: int) -> list[Hit] | SkipReason:
        found = rankings.get(method)
        return SkipReason.NO_SIGNAL if found is None else [Hit(item, 1.0) for item in found[:wanted]]

    order = [Method.TWO_TOWER, Method.ALS, Method.CONTENT, Method.POPULAR]
    routed = route(order, lambda method: method in available, ask, k)
    items = [candidate.hit.item for candidate in routed.candidates]
    assert len(set(items)) == len(items) <= k
    if len(items) < k:
        assert [skip.method for skip in routed.skipped] == order
