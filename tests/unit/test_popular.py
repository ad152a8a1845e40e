"""Popular by hand: ratios, exponents, ages, earlier interactions, settings chosen, damaged parts refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from matchloop.entities import Categorical, EntityId, FeatureValue, Multi, Numeric
from matchloop.errors import InvalidInput, ReleaseRefused
from matchloop.retrieval.boosted import HEAD, Base, Boosted
from matchloop.retrieval.popular import PopularModel
from matchloop.retrieval.segment_counts import SegmentColumn
from matchloop.retrieval.segments import EARLIER, bucket_names, bucket_of, decimal_year, segment_values
from matchloop.usecase import Popularity

ITEMS = [EntityId(name) for name in ("a", "b", "c", "d")]
# a: four events of GB, b: two of FR and one of GB, c: one of FR; d: none.
ROWS = np.array([0, 0, 0, 0, 1, 1, 1, 2])
COUNTRY = ["GB", "GB", "GB", "GB", "FR", "FR", "GB", "FR"]
STAGE = [("seed",), ("seed",), (), ("late",), ("seed", "late"), ("late",), ("late",), ("seed",)]


def model(**settings: object) -> PopularModel:
    return PopularModel.build(
        ITEMS,
        ROWS,
        np.zeros(8),
        np.ones(8),
        {"country": [(name,) for name in COUNTRY], "stage": STAGE},
        half_life_days=10.0,
        **{"smoothing": 2.0, **settings},  # type: ignore[arg-type]
    )


def by_formula(
    values: Mapping[str, tuple[str, ...]], exponents: Mapping[str, float], m: float = 2.0
) -> list[float]:
    """The formula of the class's docstring, item by item."""
    p = np.array([4.0, 3.0, 1.0, 0.0]) / 8.0
    held: dict[str, list[tuple[str, ...]]] = {"country": [(name,) for name in COUNTRY], "stage": STAGE}
    score = p.copy()
    for name, own in values.items():
        counts = np.zeros(4)
        for row, entry in zip(ROWS.tolist(), held[name], strict=True):
            counts[row] += len(set(entry) & set(own))
        within = (counts + m * p) / (counts.sum() + m)
        score *= np.divide(within, p, out=np.ones(4), where=p > 0.0) ** exponents.get(name, 1.0)
    return [float(each) for each in score / score.sum()]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"country": ("FR",)},
        {"country": ("FR",), "stage": ("late",)},
        {"country": ("GB",), "stage": ("late", "seed", "late")},
    ],
)
@pytest.mark.parametrize("exponents", [{}, {"country": 0.5, "stage": 1.3}, {"country": 0.0}])
def test_scores_are_the_product_of_ratios(
    values: dict[str, tuple[str, ...]], exponents: dict[str, float]
) -> None:
    found = model(exponents=exponents).scores(values)
    assert found.tolist() == pytest.approx(by_formula(values, exponents))
    assert found.sum() == pytest.approx(1.0)


def test_a_small_world_by_hand() -> None:
    # FR: p(v|.) of a (0 + 2/2) / 5 = 0.2, of b (2 + 0.75) / 5 = 0.55, of c (1 + 0.25) / 5 = 0.25.
    assert model().scores({"country": ("FR",)}).tolist() == pytest.approx([0.2, 0.55, 0.25, 0.0])
    assert [hit.item for hit in model().search({"country": ("FR",)}, 4)] == ["b", "c", "a", "d"]


def test_unseen_values_say_nothing() -> None:
    overall = model().scores({})
    assert overall.tolist() == [0.5, 0.375, 0.125, 0.0]
    for values in ({"country": ("??",)}, {"planet": ("earth",)}, {"country": ()}):
        assert np.array_equal(model().scores(values), overall)


def test_the_order_of_items_changes_nothing() -> None:
    turned = PopularModel.build(
        ITEMS[::-1],
        3 - ROWS,
        np.zeros(8),
        np.ones(8),
        {"stage": STAGE, "country": SegmentColumn.of([(name,) for name in COUNTRY])},
        half_life_days=10.0,
        smoothing=2.0,
    )
    values = {"country": ("FR",), "stage": ("late",)}
    assert turned.scores(values)[::-1].tolist() == pytest.approx(model().scores(values).tolist())


def test_a_column_is_read_by_entry() -> None:
    column = SegmentColumn([("FR",), (), ("GB", "FR")], np.array([2, 0, 1, 2]))
    rows, ages, weights = np.array([0, 0, 1, 2]), np.zeros(4), np.ones(4)
    found, plain = (
        PopularModel.build(ITEMS, rows, ages, weights, {"c": each}, half_life_days=1.0).segments["c"]
        for each in (column, [("GB", "FR"), ("FR",), (), ("GB", "FR")])
    )
    assert found.values == plain.values == ["FR", "GB"]
    for name in ("start", "item", "count"):
        assert np.array_equal(getattr(found, name), getattr(plain, name))
    assert found.count.tolist() == [2.0, 1.0, 1.0, 1.0]


def test_ratios_have_a_half_life_of_their_own() -> None:
    ages = np.array([0.0, 10.0])
    rows, country = np.array([0, 1]), [("GB",), ("GB",)]
    built = PopularModel.build(
        ITEMS, rows, ages, np.ones(2), {"country": country}, half_life_days=10.0, ratio_half_life_days=5.0
    )
    assert built.overall.tolist() == [1.0, 0.5, 0.0, 0.0]
    assert built.reference.tolist() == [1.0, 0.25, 0.0, 0.0]
    assert built.segments["country"].count.tolist() == [1.0, 0.25]


def test_live_counts_move_the_shares_and_keep_the_ratios() -> None:
    live = model().with_overall({EntityId("new"): 4.0, EntityId("a"): 1.0, EntityId("d"): 4.0})
    raised = np.array([1 * 0.4, 3 * 0.55 / 0.375, 1 * 2.0, 4.0, 4.0])  # ratio 1 where nothing was known
    found = live.scores({"country": ("FR",)})
    assert found.tolist() == pytest.approx((raised / raised.sum()).tolist())
    assert [hit.item for hit in live.search({}, 2)] == ["d", "new"]


def test_other_settings_over_the_same_counts() -> None:
    values = {"country": ("FR",), "stage": ("seed",)}
    tuned = model().tuned(smoothing=7.0, exponents={"country": 0.3, "stage": 0.0})
    assert tuned.scores(values).tolist() == pytest.approx(
        by_formula(values, {"country": 0.3, "stage": 0.0}, m=7.0)
    )
    for bad in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="country"):
            model().tuned(smoothing=1.0, exponents={"country": bad})


def test_a_part_comes_back_whole(tmp_path: Path) -> None:
    built = model(exponents={"country": 0.4}, ratio_half_life_days=3.0)
    built.save(tmp_path)
    again = PopularModel.load(tmp_path)
    assert (again.smoothing, again.exponents) == (2.0, {"country": 0.4, "stage": 1.0})
    for values in ({}, {"country": ("FR",)}, {"country": ("GB", "FR"), "stage": ("late",)}):
        assert np.array_equal(again.scores(values), built.scores(values))


@pytest.mark.parametrize(
    "name", ["popular.json", "item_ids.json", "overall.npy", "reference.npy", "segment1_count.npy"]
)
def test_a_part_without_a_file_is_refused(tmp_path: Path, name: str) -> None:
    model().save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ReleaseRefused, match=name.split(".")[0]):
        PopularModel.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "fault"),
    [
        ("overall", [1.0, 1.0, 1.0, -1.0], "negative"),
        ("overall", [1.0, 1.0, 1.0], "expected"),
        ("reference", [4.0, 3.0, 0.0, 0.0], "reference does not"),
        ("reference", [4.0, 3.0, np.nan, 0.0], "not finite"),
        ("segment0_count", [1.0, -1.0, 1.0, 1.0], "negative"),
    ],
)
def test_a_part_whose_arrays_do_not_fit_is_refused(
    tmp_path: Path, name: str, array: list[float], fault: str
) -> None:
    model().save(tmp_path)
    np.save(tmp_path / f"{name}.npy", np.array(array))
    with pytest.raises(ReleaseRefused, match=fault):
        PopularModel.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("smoothing", 0.0), ("smoothing", None), ("exponent", -1.0), ("exponent", None)]
)
def test_a_part_with_bad_settings_is_refused(tmp_path: Path, key: str, value: float | None) -> None:
    model().save(tmp_path)
    declared = json.loads((tmp_path / "popular.json").read_text())
    holder = declared if key in declared else declared["segments"][0]
    if value is None:
        del holder[key]
    else:
        holder[key] = value
    (tmp_path / "popular.json").write_text(json.dumps(declared))
    with pytest.raises(ReleaseRefused):
        PopularModel.load(tmp_path)


def test_more_than_the_head_is_found_too() -> None:
    rng = np.random.default_rng(0)
    counts = rng.random(3 * HEAD)
    base = Base.of(counts)
    assert len(base.head) == HEAD
    rows = np.sort(rng.choice(len(counts), 500, replace=False))
    boosted = Boosted(base, rows, base.share[rows] * rng.uniform(1.0, 9.0, 500))
    scores = boosted.scores()
    assert scores.sum() == pytest.approx(1.0)
    allowed = rng.random(len(counts)) < 0.5
    wanted = [row for row in np.argsort(-scores).tolist() if allowed[row]]
    for k in (0, 5, HEAD, 2 * HEAD):
        assert boosted.best(k, allowed).item.tolist() == wanted[:k]
    assert boosted.best(3).item.tolist() == np.argsort(-scores)[:3].tolist()


def test_numbers_fall_into_named_parts() -> None:
    bounds = (1.0, 2.5, 7.0)
    assert bucket_names(bounds) == ("under 1", "1 to 2.5", "2.5 to 7", "from 7")
    found = bucket_of([-3.0, 0.9, 1.0, 2.5, 7.0, 99.0, np.nan], bounds)
    assert found.tolist() == [0, 0, 1, 2, 3, 3, -1]
    assert bucket_names((5.0,)) == ("under 5", "from 5")


def test_a_subject_has_values_as_of_now() -> None:
    popularity = Popularity(
        segments=("country", "tags"), ages={"founded": (1.0, 4.0), "sold": (2.0,)}, earlier=(1, 5)
    )
    features: dict[str, FeatureValue] = {
        "country": Categorical("FR"),
        "tags": Multi(()),
        "founded": Numeric(2010.0),
    }
    now = datetime(2012, 7, 1, tzinfo=UTC)
    assert segment_values(popularity, features, now=now, earlier=4) == {
        "country": ("FR",),
        "founded": ("1 to 4",),
        "sold": ("unknown",),
        EARLIER: ("1 to 5",),
    }
    assert segment_values(popularity, None, now=now, earlier=0) == {EARLIER: ("under 1",)}
    assert segment_values(Popularity(earlier=()), features, now=now, earlier=0) == {}


def test_years_agree_on_both_sides() -> None:
    moments = np.array(["1969-12-31", "2012-07-01T12:00:00", "NaT"], dtype="datetime64[us]")
    found = decimal_year(moments)
    assert found[:2].tolist() == pytest.approx([1969.9973, 2012.4992], abs=1e-4)
    assert np.isnan(found[2])
