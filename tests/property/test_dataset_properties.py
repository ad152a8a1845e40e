"""Data sets of any small record: no contradictions, no leaks, no dependence on the order of rows."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ibis.config import Config

from tests.unit.training_worlds import INVESTORS, START, TAKEN, interaction, named, session, snapshot_of
from training_jobs.build import DataSets, build_datasets
from training_jobs.config import TrainingConfig
from training_jobs.datasets import als_pairs, ranker_examples, two_tower_examples, with_features
from training_jobs.datasets.examination import explored_items
from training_jobs.datasets.shown import shown_pairs
from training_jobs.datasets.tables import chance_of, reactions
from training_jobs.material import Material

SUBJECTS, ITEMS = ["a", "b", "c"], [f"s{n}" for n in range(8)]
NAMES = INVESTORS.ranking.features
EVENTS = sorted(INVESTORS.events)
CONFIG = TrainingConfig()
FEW = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])

lists = st.lists(
    st.tuples(
        st.sampled_from(SUBJECTS),
        st.permutations(ITEMS).map(lambda items: items[:5]),
        st.lists(st.sampled_from([0.95, 0.8, 0.7, 0.5, 0.2]), min_size=5, max_size=5),
        st.integers(0, 40_000),
    ),
    max_size=5,
)
told = st.lists(
    st.tuples(
        st.sampled_from(SUBJECTS), st.sampled_from(ITEMS), st.sampled_from(EVENTS),
        st.integers(0, 40_000), st.booleans(),
    ),
    max_size=20,
)  # fmt: skip


def rows(shown: list[Any], said: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return interactions, sessions and dislikes; every third dislike stands in its own table alone."""
    sessions = [
        session(
            f"l{number}", subject, items, scores, np.tile(scores, (len(NAMES), 1)).T,
            serve_time=START + timedelta(minutes=minute),
        )
        for number, (subject, items, scores, minute) in enumerate(shown)
    ]  # fmt: skip
    events, dislikes = [], []
    for number, (subject, item, event, minute, listed) in enumerate(said):
        time = START + timedelta(minutes=minute)
        of = next((s for s in sessions if s["subject_id"] == subject and item in s["item_ids"]), None)
        more: dict[str, Any] = {"event_time": time}
        if listed and of:
            rank = of["item_ids"].index(item)
            more |= {"session_id": of["session_id"], "rank": rank + 1, "score": of["scores"][rank]}
        if event == "dislike" and number % 3 == 0:
            dislikes.append(
                {
                    "dislike_id": f"d{number}",
                    "use_case": INVESTORS.id,
                    "subject_id": subject,
                    "item_id": item,
                    "reason": "other",
                    "event_time": time,
                }
            )
        else:
            events.append(interaction(number, subject, item, event, **more))
    return events, sessions, dislikes


def material_of(folder: Path, parts: tuple[list[Any], ...], people: list[Any] | None = None) -> Material:
    entities = people or [*named("investor", SUBJECTS), *named("startup", ITEMS)]
    snapshot = snapshot_of(folder, entities, *parts, watermark=1)
    return Material(snapshot, INVESTORS, validation_share=CONFIG.dataset.validation_share)


def built(*parts: list[Any], people: list[Any] | None = None) -> DataSets:
    with tempfile.TemporaryDirectory() as folder:
        return build_datasets(material_of(Path(folder), parts, people), CONFIG)


@FEW
@given(lists, told)
def test_no_negative_is_a_positive_of_the_same_subject(shown: list[Any], said: list[Any]) -> None:
    data = built(*rows(shown, said))

    pairs = data.pairs
    keys = list(zip(pairs.subject.tolist(), pairs.item.tolist(), strict=True))
    assert len(set(keys)) == len(keys)
    drawn = set(zip(pairs.drawn.subject.tolist(), pairs.drawn.item.tolist(), strict=True))
    assert not drawn & set(keys)
    ranker = data.ranker
    both = list(zip(ranker.group.tolist(), ranker.item, ranker.label > 0.5, strict=True))
    liked = {(group, item) for group, item, good in both if good}
    assert not liked & {(group, item) for group, item, good in both if not good}


@FEW
@given(lists, told)
def test_random_negatives_were_never_shown_before_the_cut(shown: list[Any], said: list[Any]) -> None:
    events, sessions, dislikes = rows(shown, said)
    pairs = built(events, sessions, dislikes).pairs
    training = sorted(events, key=lambda e: (e["event_time"], e["sequence"]))
    training = training[: round(len(training) * (1.0 - CONFIG.dataset.validation_share))]
    until = training[-1]["event_time"] if len(training) not in (0, len(events)) else TAKEN
    seen = {(s["subject_id"], item) for s in sessions if s["serve_time"] <= until for item in s["item_ids"]}

    drawn = zip(pairs.drawn.subject.tolist(), pairs.drawn.item.tolist(), strict=True)
    assert not seen & {(SUBJECTS[subject], ITEMS[item]) for subject, item in drawn}
    assert len(pairs.drawn) <= 2 * len(pairs.positives)


@FEW
@given(lists, told)
def test_scores_and_features_are_those_that_were_served(shown: list[Any], said: list[Any]) -> None:
    events, sessions, dislikes = rows(shown, said)
    ranker = built(events, sessions, dislikes).ranker

    served = {
        (s["subject_id"], item, score)
        for s in sessions
        for item, score in zip(s["item_ids"], s["scores"], strict=True)
    }
    scores = np.round(ranker.recommendation_score.astype(float), 4).tolist()
    assert set(zip(ranker.subject, ranker.item, scores, strict=True)) <= served
    model_score = ranker.features[:, NAMES.index("model_score")]
    np.testing.assert_array_equal(model_score, ranker.recommendation_score)


@FEW
@given(lists, told, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(shown: list[Any], said: list[Any], chance: Any) -> None:
    parts = rows(shown, said)
    people = [*named("investor", SUBJECTS), *named("startup", ITEMS)]
    mixed = [chance.sample(part, len(part)) for part in (*parts, people)]
    one, again = built(*parts), built(*parts)
    other = built(*mixed[:3], people=mixed[3])

    for at in range(3):
        assert one.manifests[at] == again.manifests[at]
        assert one.manifests[at].sha256 == other.manifests[at].sha256
        assert one.manifests[at].sources == other.manifests[at].sources


def test_chance_is_the_same_whatever_runs_it_and_even() -> None:
    texts = [f"l{number} s{number % 7}" for number in range(4000)]
    table = ibis.memtable(pa.table({"text": texts}))
    drawn = table.mutate(chance=chance_of(table.text)).to_pyarrow()

    found = dict(zip(drawn["text"].to_pylist(), drawn["chance"].to_pylist(), strict=True))
    for text in texts[:50]:
        digits = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:5]
        assert found[text] == (int(digits[::-1], 16) + 0.5) / 16**5
    counts, _ = np.histogram(list(found.values()), bins=20, range=(0.0, 1.0))
    assert counts.sum() == len(texts)
    assert np.abs(counts - 200).max() < 60  # four standard deviations


class _Spark(Config):  # type: ignore[misc]
    treat_nan_as_null: bool = False


@pytest.fixture
def spark_options() -> Iterator[None]:
    """What Ibis wants to know to write Spark SQL, where Spark itself is not installed."""
    before = ibis.options.pyspark
    ibis.options.pyspark = before or _Spark()
    yield
    ibis.options.pyspark = before


@pytest.mark.usefixtures("spark_options")
def test_every_expression_is_valid_on_spark(tmp_path: Path) -> None:
    material = material_of(tmp_path, rows([("a", ITEMS[:5], [0.9] * 5, 0)], [("a", "s0", "like", 5, True)]))
    tables, config = material.tables.until(TAKEN), CONFIG.dataset
    ordered = reactions(tables, INVESTORS)
    expressions = {
        "als": als_pairs(ordered, least_interactions=2),
        "two_tower": two_tower_examples(ordered, tables, INVESTORS, config),
        "ranker": ranker_examples(tables, INVESTORS, config),
        "shown": shown_pairs(tables, INVESTORS),
        "exploration": explored_items(tables, INVESTORS, config),
        "features": with_features(als_pairs(ordered), tables, INVESTORS),
    }
    for name, expression in expressions.items():
        assert "SELECT" in str(ibis.to_sql(expression, dialect="pyspark")), name
