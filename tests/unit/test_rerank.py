"""Features, calibration, scorers and placement against numbers worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from matchloop.entities import Categorical, Entity, EntityId, EntityKey, FeatureValue, Kind, Multi, Numeric
from matchloop.errors import InvalidInput, ReleaseRefused, SchemaMismatch
from matchloop.rerank.calibration import DEFAULT_PLATT, Platt, calibrate, fit_platt, logit, sigmoid
from matchloop.rerank.features import (
    RANKING_FEATURES,
    FeatureColumns,
    ItemFacts,
    item_features,
    min_max,
    popularity,
    recency,
    response,
    subject_affinity,
)
from matchloop.rerank.placement import CandidateList, diversity_values_of, place, similarities
from matchloop.rerank.scorer import ONNX_FILE, SPEC_FILE, Ranker, RuleScorer
from matchloop.rerank.values import ValueProfile, ValueShares, discrete_features, value_shares
from matchloop.testing.releases import write_ranker
from matchloop.usecase import Method, UseCase, load_use_cases

USE_CASES = load_use_cases()
MEDIA = USE_CASES["user_movie"]
COLUMNS = FeatureColumns.of(MEDIA)


def f32(values: ArrayLike) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def candidates(
    scores: list[float], methods: Method | list[Method] = Method.CONTENT, genres: list[str] | None = None
) -> CandidateList:
    n = len(scores)
    return CandidateList(
        items=tuple(f"m{i}" for i in range(n)),
        retrieval_scores=np.array(scores, dtype=np.float32),
        methods=(methods,) * n if isinstance(methods, Method) else tuple(methods),
        item_features=np.zeros((n, len(COLUMNS.item_names)), dtype=np.float32),
        diversity_values=[((genres[i],) if genres else (), (), ()) for i in range(n)],
    )


@pytest.fixture
def ranker(tmp_path: Path) -> Ranker:
    write_ranker(tmp_path, MEDIA, np.random.default_rng(3))
    return Ranker.load(tmp_path, MEDIA)


def test_recency_halves_and_knows_the_unknown() -> None:
    got = recency([0.0, 30.0, 30.0 * np.log(2.0), -5.0, np.nan])
    np.testing.assert_allclose(got, [1.0, np.exp(-1.0), 0.5, 1.0, 0.0], atol=1e-6)


def test_popularity_is_logarithmic_in_views_and_thrice_interactions() -> None:
    got = popularity([0, 99, 0], [0, 0, 33], maximum=99.0)
    np.testing.assert_allclose(got, [0.0, 1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(popularity([9], [0], maximum=99.0), [0.5], atol=1e-6)
    assert popularity([0], [0], maximum=0.0).tolist() == [0.0]


def test_response_is_the_share_that_did_more_than_look() -> None:
    got = response([0, 8, 0, 98], [0, 0, 8, 100])
    np.testing.assert_allclose(got, [0.5, 0.1, 0.9, 101 / 200], atol=1e-6)
    assert got.dtype == np.float32


def test_min_max_of_equal_scores_is_one() -> None:
    assert min_max([1.0, 3.0, 2.0]).tolist() == [0.0, 1.0, 0.5]
    assert min_max([2.0, 2.0]).tolist() == [1.0, 1.0]
    assert min_max([]).tolist() == []


def genres(*values: str) -> ValueShares:
    return value_shares({"genres": values})


def test_affinity_follows_likes_and_flees_dislikes() -> None:
    profile = ValueProfile.of([(genres("war"), 2.0), (genres("love"), -2.0)])
    items = [genres("war"), genres("love"), genres("war", "love"), genres("x"), genres()]
    got = subject_affinity(profile, items)
    np.testing.assert_allclose(got, [np.sqrt(0.5), 0.0, 0.0, 0.0, 0.0], atol=1e-6)
    alone = ValueProfile.of([(genres("war", "love"), 1.0)])
    np.testing.assert_allclose(subject_affinity(alone, [genres("love", "war")]), [1.0], atol=1e-6)
    assert subject_affinity(ValueProfile(), items).tolist() == [0.0] * 5


def test_a_repeated_value_counts_once() -> None:
    once, twice = genres("war"), genres("war", "war")
    profile = ValueProfile.of([(twice, 1.0)])
    assert profile == ValueProfile.of([(once, 1.0)])
    assert subject_affinity(profile, [twice]).tolist() == [1.0]
    assert similarities([[["a", "a"]], [["a"]]])[0, 1] == 1.0


def test_discrete_features_leave_out_numbers_and_nothing() -> None:
    features: dict[str, FeatureValue] = {
        "genres": Multi(("a", "b")),
        "series": Categorical("s"),
        "year": Numeric(1.0),
        "cast": Multi(()),
    }
    entity = Entity(EntityKey(Kind("movie"), EntityId("m")), features)
    values = discrete_features(entity)
    assert values == {"genres": ("a", "b"), "series": ("s",)}
    assert diversity_values_of(MEDIA, values) == (("a", "b"), ("s",), ())


def test_item_features_are_columns_by_name() -> None:
    facts = ItemFacts(np.array([0.0]), np.array([9.0]), np.array([0.0]), 99.0, [()])
    named = [RANKING_FEATURES[name] for name in ("popularity", "recency", "diversity")]
    np.testing.assert_allclose(item_features(named[:2], facts), [[0.5, 1.0]], atol=1e-6)
    assert item_features([], facts).shape == (1, 0)
    with pytest.raises(InvalidInput, match="diversity"):
        item_features(named, facts)


def test_an_unknown_ranking_feature_is_named() -> None:
    ranking = MEDIA.ranking.model_copy(update={"features": (*MEDIA.ranking.features, "charm")})
    with pytest.raises(InvalidInput, match="charm"):
        FeatureColumns.of(MEDIA.model_copy(update={"ranking": ranking}))


@pytest.mark.parametrize("use_case", USE_CASES.values(), ids=lambda use_case: use_case.id)
def test_every_shipped_use_case_has_columns(use_case: UseCase) -> None:
    columns = FeatureColumns.of(use_case)
    assert columns.names == use_case.ranking.features
    assert len(columns.item_names) == len(columns.names) - 3


def test_calibration_is_by_method_with_a_rising_default() -> None:
    got = calibrate([0.5, 0.5], [Method.CONTENT, Method.ALS], {Method.ALS: Platt(slope=2.0, intercept=0.0)})
    np.testing.assert_allclose(got, [0.5, 1.0 / (1.0 + np.exp(-1.0))], atol=1e-6)
    for method in DEFAULT_PLATT:
        assert np.all(np.diff(calibrate([0.01, 0.1, 0.5, 1.0], [method] * 4, {})) > 0.0)
    assert calibrate([1e9], [Method.POPULAR], {})[0] <= 0.5


def test_logit_undoes_sigmoid_and_stays_finite() -> None:
    np.testing.assert_allclose(logit(sigmoid(f32([-3.0, 0.0, 3.0]))), [-3.0, 0.0, 3.0], atol=1e-4)
    assert np.isfinite(logit(f32([0.0, 1.0]))).all()
    assert np.isfinite(sigmoid(f32([-1e9, 1e9]))).all()


def test_platt_finds_the_curve_the_outcomes_came_from() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(-1.0, 1.0, 20_000)
    labels = rng.random(20_000) < 1.0 / (1.0 + np.exp(-(3.0 * scores - 1.0)))
    platt = fit_platt(Method.TWO_TOWER, scores, labels)
    assert platt is not None
    assert platt.slope == pytest.approx(3.0, abs=0.15)
    assert platt.intercept == pytest.approx(-1.0, abs=0.1)


def test_platt_gives_up_rather_than_turn_the_order_round() -> None:
    assert fit_platt(Method.ALS, [0.1, 0.9], [1, 0]) is None
    assert fit_platt(Method.ALS, [0.1, 0.9], [1, 1]) is None
    assert fit_platt(Method.ALS, [0.5, 0.5], [0, 1]) is None


def test_platt_survives_separable_outcomes() -> None:
    platt = fit_platt(Method.ALS, [0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
    assert platt is not None
    assert np.isfinite([platt.slope, platt.intercept]).all()


def test_similarity_is_the_mean_jaccard_index() -> None:
    got = similarities([[["a", "b"], ["x"]], [["b", "c"], ["x"]], [[], ["y"]]])
    np.testing.assert_allclose(got, [[1.0, 2 / 3, 0.0], [2 / 3, 1.0, 0.0], [0.0, 0.0, 0.5]], atol=1e-6)
    assert similarities([(), ()]).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert similarities([]).shape == (0, 0)


def test_the_rule_places_the_other_genre_second() -> None:
    ranking = MEDIA.ranking.model_copy(
        update={"rule": {"model_score": 0.5, "diversity": 0.5}, "diversity_fields": ("genres",)}
    )
    use_case = MEDIA.model_copy(update={"ranking": ranking})
    given = CandidateList(
        ("a", "b", "c"),
        f32([0.9, 0.8, 0.1]),
        (Method.CONTENT,) * 3,
        np.zeros((3, len(COLUMNS.item_names)), dtype=np.float32),
        [(("war",),), (("war",),), (("love",),)],
    )
    placed = place(given, COLUMNS, RuleScorer(use_case))
    assert placed.items == ("a", "c", "b")
    assert placed.features[:, COLUMNS.diversity].tolist() == [1.0, 1.0, 0.0]
    assert placed.features[:, COLUMNS.model_score].tolist()[:2] == [1.0, 0.0]
    np.testing.assert_allclose(placed.scores[:2], [1.0, 0.5])
    assert placed.reranked is False


def test_the_shipped_rule_is_the_specified_one() -> None:
    features = np.eye(len(COLUMNS.names), dtype=np.float32)
    rule = RuleScorer(MEDIA)
    got = dict(zip(COLUMNS.names, rule.by_diversity(features)(features[:, COLUMNS.diversity]), strict=True))
    wanted = {"model_score": 0.5, "recency": 0.2, "popularity": 0.2, "diversity": 0.1}
    assert {name: round(float(score), 6) for name, score in got.items() if score} == wanted


def test_popular_lists_keep_their_order(ranker: Ranker) -> None:
    placed = place(candidates([1.0, 5.0, 3.0], Method.POPULAR, ["a", "a", "b"]), COLUMNS, ranker, limit=2)
    assert placed.items == ("m0", "m1")
    assert placed.reranked is False
    np.testing.assert_allclose(placed.scores, placed.features[:, COLUMNS.original_score])
    np.testing.assert_allclose(placed.features[:, COLUMNS.diversity], [1.0, 2 / 3], atol=1e-6)


def test_popular_among_others_is_reranked(ranker: Ranker) -> None:
    placed = place(candidates([0.1, 5.0], [Method.CONTENT, Method.POPULAR]), COLUMNS, ranker)
    assert placed.reranked is True
    assert len(placed.methods) == 2


def test_an_empty_list_is_ranked_as_such(ranker: Ranker) -> None:
    placed = place(candidates([]), COLUMNS, ranker, limit=20)
    assert placed.items == ()
    assert placed.features.shape == (0, len(COLUMNS.names))
    assert placed.reranked is False


def test_the_ranker_adjusts_the_teachers_logit(ranker: Ranker) -> None:
    rows = np.random.default_rng(1).random((5, len(COLUMNS.names)), dtype=np.float32)
    teacher = rows[:, COLUMNS.original_score]
    wanted = 1.0 / (1.0 + np.exp(-(np.log(teacher / (1.0 - teacher)) + ranker.adjustment(rows))))
    np.testing.assert_allclose(ranker.score(rows), wanted, atol=1e-5)


def test_what_is_logged_gives_the_score_that_was_served(ranker: Ranker) -> None:
    rng = np.random.default_rng(2)
    genres = [str(rng.integers(3)) for _ in range(20)]
    placed = place(candidates(rng.random(20).tolist(), Method.CONTENT, genres), COLUMNS, ranker)
    np.testing.assert_allclose(ranker.score(placed.features), placed.scores, atol=1e-5)
    assert placed.feature_names == MEDIA.ranking.features


def test_a_ranker_of_another_schema_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    write_ranker(tmp_path, MEDIA, np.random.default_rng(0))
    other = USE_CASES["developer_startup"]
    with pytest.raises(SchemaMismatch) as caught:
        Ranker.load(tmp_path, other)
    assert MEDIA.schema_fingerprint in caught.value.message
    assert other.schema_fingerprint in caught.value.message


@pytest.mark.parametrize("name", [ONNX_FILE, SPEC_FILE])
def test_a_damaged_ranker_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write_ranker(tmp_path, MEDIA, np.random.default_rng(0))
    (tmp_path / name).write_bytes(b"?")
    with pytest.raises(ReleaseRefused, match=name):
        Ranker.load(tmp_path, MEDIA)
    (tmp_path / name).unlink()
    with pytest.raises(ReleaseRefused, match=name):
        Ranker.load(tmp_path, MEDIA)


def test_a_network_of_another_width_is_refused(tmp_path: Path) -> None:
    ranking = MEDIA.ranking.model_copy(update={"features": MEDIA.ranking.features[:-1]})
    write_ranker(tmp_path, MEDIA.model_copy(update={"ranking": ranking}), np.random.default_rng(0))
    onnx = (tmp_path / ONNX_FILE).read_bytes()
    write_ranker(tmp_path, MEDIA, np.random.default_rng(0))
    (tmp_path / ONNX_FILE).write_bytes(onnx)
    with pytest.raises(ReleaseRefused, match="inputs"):
        Ranker.load(tmp_path, MEDIA)


def test_candidates_that_do_not_fit_are_all_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        CandidateList(("a", "a"), f32([np.nan]), (Method.ALS,), np.zeros((2, 3), np.float32), [()])
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["retrieval_scores", "methods", "diversity_values", "retrieval_scores", "items"]
    with pytest.raises(InvalidInput, match="shape"):
        place(
            CandidateList(("a",), f32([1.0]), (Method.ALS,), np.zeros((1, 1), np.float32), [()]),
            COLUMNS,
            RuleScorer(MEDIA),
        )
