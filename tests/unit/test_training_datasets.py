"""Data sets hold what the record says: counts that can be told by hand, and nothing that leaks the label."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchloop.errors import TooFewExamples
from matchloop.position import Weighting
from matchloop.snapshot import FileWriter, SnapshotManifest, TableName, publish, read_snapshot
from tests.unit.training_worlds import INVESTORS, START, TAKEN, interaction, named, session, snapshot_of
from training_jobs.config import DatasetConfig
from training_jobs.datasets import (
    PairDataset,
    RankerDataset,
    SnapshotTables,
    als_matrix,
    als_pairs,
    open_tables,
    ranker_dataset,
    ranker_examples,
    two_tower_dataset,
    two_tower_examples,
)
from training_jobs.datasets.ranker import split_by_time
from training_jobs.datasets.shown import shown_pairs
from training_jobs.datasets.tables import place_of, reactions, until_place

NAMES = INVESTORS.ranking.features
ITEMS = [f"s{n}" for n in range(8)]
FEATURES = np.arange(8 * len(NAMES)).reshape(8, len(NAMES)) / 100.0
LIST: dict[str, Any] = {
    "subject": "a",
    "items": ITEMS,
    "scores": [0.9, 0.85, 0.8, 0.75, 0.6, 0.5, 0.4, 0.3],
    "features": FEATURES,
}
PEOPLE = [*named("investor", ["a", "b", "c"]), *named("startup", ITEMS)]


def tables_of(folder: Path, *args: Any, **kwargs: Any) -> SnapshotTables:
    return open_tables(snapshot_of(folder, PEOPLE, *args, **kwargs))


def ranker(tables: SnapshotTables, **settings: Any) -> RankerDataset:
    examples = ranker_examples(tables, INVESTORS, DatasetConfig(**settings))
    return ranker_dataset(examples, use_case=INVESTORS, snapshot="x", weighting=Weighting.DISCOUNT)


REACTIONS = [
    interaction(1, "a", "s1", "like", session_id="l1", rank=2),
    interaction(2, "a", "s2", "view", session_id="l1", rank=3),
    interaction(3, "a", "s3", "click", session_id="l1", rank=4),
    interaction(4, "a", "s6", "dislike", session_id="l1", rank=7),
    interaction(5, "a", "s5", "interest"),
]


def test_a_list_gives_the_negatives_it_should(tmp_path: Path) -> None:
    """s0 is hard, but third; s1 liked, s2 viewed, s3 clicked, s4, s5 and s7 shown low, s6 disliked."""
    found = ranker(tables_of(tmp_path, REACTIONS, [session("l1", **LIST)]))

    assert dict(zip(found.item, found.source, strict=True)) == {
        "s1": "positive", "s2": "viewed", "s6": "disliked",
    }  # fmt: skip
    assert found.manifest.sources == {"disliked": 1, "positive": 1, "viewed": 1}
    assert found.manifest.labels == {"0": 2, "1": 1}
    more = ranker(tables_of(tmp_path / "more", REACTIONS, [session("l1", **LIST)]), negatives_per_positive=3)
    assert more.manifest.sources == {"disliked": 1, "hard": 1, "positive": 1, "viewed": 1}
    assert (found.manifest.first_time, found.manifest.last_time) == (START, START)


def test_a_market_may_have_no_reaction_between_a_view_and_a_strong_one(tmp_path: Path) -> None:
    events = {name: event for name, event in INVESTORS.events.items() if event.strong or name == "dislike"}
    bare = INVESTORS.model_copy(update={"events": events})
    tables = tables_of(tmp_path, [REACTIONS[0], REACTIONS[3]], [session("l1", **LIST)])
    examples = ranker_examples(tables, bare, DatasetConfig())
    found = ranker_dataset(examples, use_case=bare, snapshot="x", weighting=Weighting.DISCOUNT)
    assert found.manifest.sources == {"disliked": 1, "hard": 1, "positive": 1}


def test_two_negatives_for_each_positive_at_most_beside_dislikes(tmp_path: Path) -> None:
    found = ranker(tables_of(tmp_path, REACTIONS[:1], [session("l1", **LIST)]), hard_score=0.1)

    assert sorted(found.source) == ["hard", "hard", "positive"]


def test_negatives_stand_where_positives_stand(tmp_path: Path) -> None:
    """Anywhere in the list, and the likelier the likelier it was looked at, as what is liked does."""
    lists = [session(f"l{n}", **LIST) for n in range(80)]
    liked = [interaction(n, "a", ITEMS[n % 8], "like", session_id=f"l{n}", rank=n % 8 + 1) for n in range(80)]
    tables = tables_of(tmp_path, liked, lists)
    whole, half = (ranker(tables, hard_share=0.5, ranker_hard_share=share) for share in (1.0, 0.5))

    assert whole.manifest.labels == {"0": 160, "1": 80}
    assert set(whole.rank[whole.label == 0]) == set(range(1, 9))
    assert 3.0 < whole.rank[whole.label == 0].mean() < 4.5
    assert half.rank[half.label == 0].mean() < 3.0


def test_features_and_scores_are_those_that_were_served(tmp_path: Path) -> None:
    found = ranker(tables_of(tmp_path, REACTIONS, [session("l1", **LIST)]))

    rows = [ITEMS.index(item) for item in found.item]
    np.testing.assert_array_equal(found.features, FEATURES[rows].astype(np.float32))
    np.testing.assert_allclose(found.recommendation_score, [LIST["scores"][row] for row in rows], rtol=1e-6)
    np.testing.assert_array_equal(found.original_score, found.features[:, NAMES.index("original_score")])
    np.testing.assert_allclose(found.exposure_weight, 1.0 / np.log2(found.rank + 1.0), rtol=1e-6)


def test_no_column_of_the_features_tells_the_label(tmp_path: Path) -> None:
    """The same lists with other reactions give the same features: nothing of an event gets into them."""
    other = [interaction(1, "a", "s0", "interest", session_id="l1", rank=1)]
    one = ranker(
        tables_of(tmp_path / "1", REACTIONS, [session("l1", **LIST)]),
        hard_score=0.1,
        negatives_per_positive=9,
    )
    two = ranker(
        tables_of(tmp_path / "2", other, [session("l1", **LIST)]), hard_score=0.1, negatives_per_positive=9
    )

    shared = sorted(set(one.item) & set(two.item))
    at_one, at_two = ([found.item.tolist().index(item) for item in shared] for found in (one, two))
    np.testing.assert_array_equal(one.features[at_one], two.features[at_two])
    assert (one.label[at_one] != two.label[at_two]).any()
    assert not {"label", "weight", "event_type"} & set(one.feature_names)


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({"source": "client"}, 0),
        ({"feature_names": [], "feature_values": []}, 0),
        ({"use_case": "developer_startup"}, 0),
        ({"reranked": True}, 3),
    ],
)
def test_only_lists_of_our_own_with_logged_features_count(
    tmp_path: Path, change: dict[str, Any], left: int
) -> None:
    assert len(ranker(tables_of(tmp_path, REACTIONS, [session("l1", **LIST) | change]))) == left


def test_a_young_list_gives_no_implicit_negatives(tmp_path: Path) -> None:
    young = session("l1", **LIST) | {"serve_time": TAKEN - timedelta(minutes=5)}
    found = ranker(tables_of(tmp_path, REACTIONS, [young]), attribution_minutes=30)

    assert sorted(found.source.tolist()) == ["disliked", "positive"]


def test_a_dislike_recorded_on_its_own_counts(tmp_path: Path) -> None:
    dislike = {
        "dislike_id": "d", "use_case": INVESTORS.id, "subject_id": "a", "item_id": "s0",
        "reason": "other", "event_time": START + timedelta(days=1),
    }  # fmt: skip
    found = ranker(tables_of(tmp_path, REACTIONS, [session("l1", **LIST)], [dislike]))

    assert found.source[0] == "disliked"


def test_too_few_positives_are_an_error_with_the_numbers(tmp_path: Path) -> None:
    found = ranker(tables_of(tmp_path, REACTIONS, [session("l1", **LIST)]))

    with pytest.raises(TooFewExamples, match="1 strong positives and 2 negatives in 1 lists; 100 positives"):
        found.require(100)


def test_the_latest_lists_are_kept_whole_for_validation(tmp_path: Path) -> None:
    lists = [session(f"l{n}", **LIST) | {"serve_time": START + timedelta(hours=n)} for n in range(10)]
    likes = [interaction(n, "a", "s1", "like", session_id=f"l{n}", rank=2) for n in range(10)]
    training, validation = split_by_time(ranker(tables_of(tmp_path, likes, lists)), 0.2)

    assert training.serve_time.max() < validation.serve_time.min()
    assert len(np.unique(validation.group)) == 2


PAIRS = [
    interaction(1, "a", "s1", "view"),
    interaction(2, "a", "s1", "like"),
    interaction(3, "a", "s2", "view"),
    interaction(4, "a", "s2", "dislike"),
    interaction(5, "b", "s1", "interest", session_id="l1", rank=4),
    interaction(6, "b", "s3", "like"),
    interaction(7, "b", "s3", "dislike"),
    interaction(8, "c", "gone", "like"),
    interaction(9, "c", "s4", "unheard_of"),
]


def test_als_sums_event_weights_and_keeps_positives(tmp_path: Path) -> None:
    ordered = reactions(tables_of(tmp_path, PAIRS), INVESTORS)
    found = als_matrix(als_pairs(ordered), use_case=INVESTORS.id, snapshot="x")

    assert (found.subject_ids, found.item_ids) == (["a", "b"], ["s1", "s3"])
    np.testing.assert_array_equal(found.weights.toarray(), [[2.5, 0.0], [3.5, 1.0]])
    some = als_matrix(als_pairs(ordered, least_interactions=3), use_case=INVESTORS.id, snapshot="x")
    assert some.subject_ids == ["b"]  # a has two interactions with s1, b three with s1 and s3


def two_tower(tables: SnapshotTables, random_negatives: int = 0, **settings: Any) -> PairDataset:
    config = DatasetConfig(**settings)
    examples = two_tower_examples(reactions(tables, INVESTORS), tables, INVESTORS, config)
    return two_tower_dataset(
        examples,
        subject_ids=["a", "b", "c"],
        item_ids=ITEMS,
        use_case=INVESTORS,
        snapshot="x",
        weighting=Weighting.INVERSE,
        shown=shown_pairs(tables, INVESTORS),
        random_negatives=random_negatives,
        rng=np.random.default_rng(3),
    )


def test_two_tower_pairs_have_graded_labels(tmp_path: Path) -> None:
    found = two_tower(tables_of(tmp_path, PAIRS))

    pairs = list(zip(found.subject.tolist(), found.item.tolist(), found.label.tolist(), strict=True))
    assert pairs == [(0, 1, pytest.approx(0.8)), (0, 2, 0.0), (1, 1, 1.0), (1, 3, 0.0)]
    assert found.source.tolist() == ["interaction", "disliked", "interaction", "disliked"]
    np.testing.assert_allclose(found.rank_weight, [1.0, 1.0, np.log2(5.0), 1.0], rtol=1e-6)


def test_two_tower_takes_what_was_shown_high_and_passed_over_as_hard(tmp_path: Path) -> None:
    found = two_tower(tables_of(tmp_path, REACTIONS, [session("l1", **LIST)]))

    assert dict(zip(found.item.tolist(), found.source, strict=True))[0] == "hard"
    assert found.manifest.sources == {"disliked": 1, "hard": 1, "interaction": 4}


def test_random_negatives_are_items_without_a_pair(tmp_path: Path) -> None:
    found = two_tower(tables_of(tmp_path, PAIRS))
    drawn = found.random_negatives(np.repeat(found.positives, 50), 2, np.random.default_rng(0))

    known = set(zip(found.subject.tolist(), found.item.tolist(), strict=True))
    assert len(drawn.subject) == 200
    assert not known & set(zip(drawn.subject.tolist(), drawn.item.tolist(), strict=True))


@pytest.mark.parametrize("by_time", [True, False])
def test_the_first_reactions_are_those_of_the_first_places(tmp_path: Path, by_time: bool) -> None:
    at_once = [reaction | {"event_time": START} for reaction in PAIRS[:3]]
    ordered = reactions(tables_of(tmp_path, [*at_once, *PAIRS[3:]]), INVESTORS, by_time=by_time)

    for count in range(8):
        first = until_place(ordered, place_of(ordered, count)).to_pyarrow()
        assert sorted(first["place"].to_pylist()) == list(range(count))
    assert place_of(ordered, 9) is None


def test_equal_snapshots_give_equal_hashes(tmp_path: Path) -> None:
    one, two = (ranker(tables_of(tmp_path / n, REACTIONS, [session("l1", **LIST)])) for n in "12")
    other = ranker(tables_of(tmp_path / "3", REACTIONS[1:], [session("l1", **LIST)]))

    assert one.manifest == two.manifest
    assert one.manifest.sha256 != other.manifest.sha256


def test_an_empty_record_gives_empty_data_sets(tmp_path: Path) -> None:
    tables = tables_of(tmp_path)

    assert len(ranker(tables)) == len(two_tower(tables)) == 0
    assert als_matrix(als_pairs(reactions(tables, INVESTORS)), use_case="x", snapshot="x").weights.shape == (
        0,
        0,
    )


def test_a_table_in_parts_reads_as_one(tmp_path: Path) -> None:
    rows = [interaction(number, "a", "s", "like") for number in range(6)]
    whole = snapshot_of(tmp_path, PEOPLE, rows)
    files = dict(whole.manifest.files)
    (file,) = whole.manifest.files_of(TableName.INTERACTIONS)
    del files[file]
    table = whole.table(TableName.INTERACTIONS)
    for start in (0, 3):
        part = FileWriter(tmp_path, TableName.INTERACTIONS, as_of=6)
        part.append(table.slice(start, 3))
        name, entry = part.finish()
        files[name] = entry
    publish(tmp_path, SnapshotManifest.of(files, watermark=6, created=TAKEN))
    found = open_tables(read_snapshot(tmp_path)).interactions.order_by("sequence").to_pyarrow()
    assert found["interaction_id"].to_pylist() == [row["interaction_id"] for row in rows]


def disliked(item: str, subject: str = "a", **more: Any) -> dict[str, Any]:
    return {
        "dislike_id": f"d-{subject}-{item}", "use_case": INVESTORS.id, "subject_id": subject, "item_id": item,
        "reason": "other", "event_time": START + timedelta(days=1), **more,
    }  # fmt: skip


def test_a_click_on_what_was_shown_high_is_hard_and_comes_last(tmp_path: Path) -> None:
    """s0 was passed over, s3 clicked: both hard; s4 was clicked too, but shown with a low score."""
    clicks = [*REACTIONS, interaction(6, "a", "s4", "click", session_id="l1", rank=5)]
    found = ranker(tables_of(tmp_path, clicks, [session("l1", **LIST)]), negatives_per_positive=9)

    assert dict(zip(found.item, found.source, strict=True)) == {
        "s0": "hard", "s1": "positive", "s2": "viewed", "s3": "hard", "s6": "disliked",
    }  # fmt: skip
    three = ranker(tables_of(tmp_path / "3", clicks, [session("l1", **LIST)]), negatives_per_positive=3)
    assert "s3" not in three.item


def test_a_score_of_exactly_the_bound_is_not_over_it(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, REACTIONS[:1], [session("l1", **LIST)])

    assert ranker(tables, hard_score=0.9).source.tolist() == ["positive"]


def test_what_was_liked_elsewhere_is_no_negative_of_the_two_tower(tmp_path: Path) -> None:
    """s0 is passed over in the list, and liked on its own; the ranker judges list by list."""
    elsewhere = [*REACTIONS, interaction(6, "a", "s0", "like")]
    tables = tables_of(tmp_path, elsewhere, [session("l1", **LIST)])

    pairs = two_tower(tables)
    assert pairs.source[pairs.item == 0].tolist() == ["interaction"]
    one = ranker(tables, negatives_per_positive=9)
    assert one.source[one.item == "s0"].tolist() == ["hard"]


@pytest.mark.parametrize(("event", "source"), [("dislike", "disliked"), ("like", "positive")])
def test_what_is_said_last_of_an_item_holds(tmp_path: Path, event: str, source: str) -> None:
    first = "like" if event == "dislike" else "dislike"
    said = [
        interaction(1, "a", "s1", first, session_id="l1", rank=2),
        interaction(2, "a", "s1", event, session_id="l1", rank=2),
    ]
    tables = tables_of(tmp_path, said, [session("l1", **LIST)])

    assert ranker(tables).source[ranker(tables).item == "s1"].tolist() == [source]
    pairs = two_tower(tables)
    assert pairs.source[pairs.item == 1].tolist() == ["disliked" if event == "dislike" else "interaction"]
    assert pairs.label[pairs.item == 1].tolist() == [pytest.approx(0.0 if event == "dislike" else 0.8)]


def test_two_tower_knows_dislikes_that_no_event_tells(tmp_path: Path) -> None:
    found = two_tower(
        tables_of(tmp_path, PAIRS, [], [disliked("s1"), disliked("s7", "c"), disliked("nowhere")])
    )

    assert found.source[(found.subject == 0) & (found.item == 1)].tolist() == ["disliked"]
    assert (found.source[-1], int(found.item[-1]), float(found.label[-1])) == ("disliked", 7, 0.0)
    assert (found.weight[found.label == 0.0] <= 0.0).all()
    assert len(found) == 5


def test_two_tower_has_rank_and_score_of_where_a_pair_was_shown(tmp_path: Path) -> None:
    seen = interaction(1, "a", "s1", "like", session_id="l1", rank=2, score=0.85)
    found = two_tower(tables_of(tmp_path, [seen, REACTIONS[-1]], [session("l1", **LIST)]))

    np.testing.assert_allclose(found.score, [0.9, 0.85, 0.8, 0.75, np.nan], rtol=1e-6)
    assert found.rank.tolist() == [1, 2, 3, 4, 0]
    assert found.source.tolist() == ["hard", "interaction", "hard", "hard", "interaction"]


def test_random_negatives_were_never_shown(tmp_path: Path) -> None:
    """a was shown s0 to s5, and s7 by a list of the client's own: s6 alone is left to draw."""
    lists = [
        session("l1", **LIST | {"items": ITEMS[:6], "scores": [0.5] * 6, "features": FEATURES[:6]}),
        session("l2", "a", ["s7"], [0.1], FEATURES[:1], source="client"),
    ]
    found = two_tower(tables_of(tmp_path, REACTIONS[:1], lists), random_negatives=5)

    assert set(found.drawn.item.tolist()) == {6}
    assert (found.manifest.sources["random"], found.manifest.labels["0"]) == (5, 5)
    again = found.random_negatives(found.positives, 3, np.random.default_rng(0))
    assert (again.subject.tolist(), again.item.tolist()) == ([0] * 3, [6] * 3)


def test_nothing_is_drawn_for_who_was_shown_everything(tmp_path: Path) -> None:
    found = two_tower(tables_of(tmp_path, REACTIONS[:1], [session("l1", **LIST)]), random_negatives=5)

    assert len(found.drawn) == len(found.random_negatives(found.positives, 2, np.random.default_rng(0))) == 0


def test_the_past_knows_nothing_of_what_came_later(tmp_path: Path) -> None:
    """Until the list's time it is young; a day later s0 is hard, though s0 is disliked after that."""
    tables = tables_of(
        tmp_path,
        [interaction(1, "a", "s1", "like", session_id="l1", rank=2, event_time=START)],
        [session("l1", **LIST)],
        [disliked("s0", event_time=START + timedelta(days=3))],
    )
    sources = [two_tower(tables.until(START + timedelta(days=d))).manifest.sources for d in (0, 1, 4)]

    assert sources == [
        {"interaction": 1},
        {"hard": 3, "interaction": 1},
        {"disliked": 1, "hard": 2, "interaction": 1},
    ]


def test_hashes_tell_ids_apart(tmp_path: Path) -> None:
    """The same pattern of rows for another item is another data set."""
    hashes = set()
    for item in ("s1", "s2"):
        tables = tables_of(tmp_path / item, [interaction(1, "a", item, "like")])
        pairs = als_pairs(reactions(tables, INVESTORS))
        hashes.add(als_matrix(pairs, use_case=INVESTORS.id, snapshot="x").manifest.sha256)

    assert len(hashes) == 2


def test_manifests_tell_where_pairs_come_from(tmp_path: Path) -> None:
    ordered = reactions(tables_of(tmp_path, PAIRS), INVESTORS)
    found = als_matrix(als_pairs(ordered), use_case=INVESTORS.id, snapshot="x").manifest

    assert (found.sources, found.labels) == ({"recommendation": 1, "organic": 2}, {"positive": 3})
    assert (found.subjects, found.items) == (2, 2)
    weights = two_tower(tables_of(tmp_path / "2", PAIRS)).manifest.weights
    assert (weights[1], weights[3]) == (1.0, 2.0)


def test_too_few_pairs_are_errors_with_the_numbers(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, PAIRS[2:4])

    with pytest.raises(TooFewExamples, match="two_tower: 0 positives and 1 negatives of 3 subj"):
        two_tower(tables).require(2)
    with pytest.raises(TooFewExamples, match="als: 0 subjects, 0 items and 0 pairs of positive weight; 2 of"):
        als_matrix(als_pairs(reactions(tables, INVESTORS)), use_case="x", snapshot="x").require(2)
    with pytest.raises(TooFewExamples, match="ranker: 0 strong positives and 0 negatives in 0 lists"):
        ranker(tables).require(100)
