"""A ranking feature that a use case declares is served, logged, trained on and scored, with no other edit."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candidate_svc.counts import ItemCounts
from candidate_svc.domain import Asked, Found
from candidate_svc.methods import Content, methods_of
from candidate_svc.popularity import LivePopularity
from candidate_svc.released import Models
from candidate_svc.retrieve import Retriever
from candidate_svc.rows import ItemRows
from matchloop.entities import Categorical, Entity, EntityId, Kind, Multi, Numeric
from matchloop.errors import InvalidInput
from matchloop.features import HashingEmbedder
from matchloop.observe.metrics import Metrics
from matchloop.release.slot import Loaded
from matchloop.rerank.features import FeatureColumns
from matchloop.rerank.scorer import Ranker
from matchloop.usecase import UseCase, UseCases, load_use_cases
from matchloop.usecase.load import SHIPPED
from ranking_svc.domain import Candidate, Candidates
from ranking_svc.ordering import Ordered, Ordering
from ranking_svc.releases import Releases
from tests.candidate_release import write_release
from tests.candidate_world import NOW, developer, startup, state, world
from tests.unit.test_candidate_released import put
from tests.unit.training_worlds import interaction, session, snapshot_of
from training_jobs.config import DatasetConfig, RankerConfig
from training_jobs.datasets import open_tables, ranker_dataset, ranker_examples
from training_jobs.recipes.ranker import train_ranker

NEW = ("founded_year", "match_category", "two_tower_score", "content_score")
ITEMS = [
    startup(
        f"s{i:02d}",
        category=Categorical(("games", "health")[i % 2]),
        founded_year=Numeric(2000.0 + i % 7),
        tags=Multi(("t",)),
    )
    for i in range(40)
]
UNDATED = replace(startup("s99", category=Categorical("games"), tags=Multi(("t",))))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> UseCase:
    """A use case as a user adds it: one file."""
    folder = tmp_path_factory.mktemp("use-cases")
    text = (SHIPPED / "developer_startup.toml").read_text()
    text = text.replace('id = "developer_startup"', 'id = "developer_idea"')
    text = text.replace(
        '"subject_affinity",', '"subject_affinity", ' + ", ".join(f'"{n}"' for n in NEW) + ","
    )
    (folder / "developer_idea.toml").write_text(text)
    return load_use_cases(folder)["developer_idea"]


def retriever(use_case: UseCase, release: Loaded[Models] | None = None) -> Retriever:
    rows = ItemRows(Kind("startup"), use_case.item_features)
    rows.apply([*ITEMS, UNDATED])
    counts = ItemCounts(rows, half_life_days=30.0, reference=NOW)
    content = Content(use_case, HashingEmbedder(use_case.embedding_width))
    content.items_changed(Kind("startup"), [*ITEMS, UNDATED])
    return Retriever(
        use_case,
        rows,
        counts,
        methods_of(content, LivePopularity(counts)),
        content=content,
        release=lambda: release,
        clock=lambda: NOW,
        metrics=Metrics(),
    )


def find(use_case: UseCase, subject: Entity, count: int = 41) -> Found:
    asked = Asked(use_case, EntityId(subject.key.id), count=count)
    return retriever(use_case).find(asked, state(subject))


def ordered(use_case: UseCase, found: Found) -> Ordered:
    candidates = Candidates(
        tuple(
            Candidate(str(e.item_id), e.method, e.score, e.create_time, e.features, e.diversity_values)
            for e in found.candidates
        ),
        feature_names=found.feature_names,
    )
    ordering = Ordering({use_case.id: use_case}, Releases({}))
    return ordering.order(use_case, candidates, now=NOW, limit=10, explain=False)


def test_candidates_carry_what_was_declared(own: UseCase) -> None:
    found = find(own, developer("d", categories=Multi(("games",))))
    by_item = {
        str(each.item_id): dict(zip(found.feature_names, each.features, strict=True))
        for each in found.candidates
    }

    assert by_item["s00"]["founded_year"] == 2000.0
    assert by_item["s06"]["founded_year"] == 2006.0
    mean = np.mean([2000.0 + i % 7 for i in range(40)])
    assert by_item["s99"]["founded_year"] == pytest.approx(mean)  # nothing is known of it
    assert (by_item["s00"]["match_category"], by_item["s01"]["match_category"]) == (1.0, 0.0)
    assert by_item["s00"]["content_score"] > by_item["s01"]["content_score"]
    assert by_item["s00"]["two_tower_score"] == 0.0  # there is no release


def test_several_values_match_by_their_cosine(own: UseCase) -> None:
    found = find(own, developer("d", categories=Multi(("games", "health", "c", "d"))))
    at = found.feature_names.index("match_category")
    assert {each.features[at] for each in found.candidates} == {0.5}


def test_what_was_declared_reaches_session_data_set_network_and_score(own: UseCase, tmp_path: Path) -> None:
    """Subjects like what was founded late, and nothing else; the network has to find that out."""
    sessions: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    people = [developer(f"d{n:03d}", categories=Multi((("games", "health")[n % 2],))) for n in range(150)]
    for number, person in enumerate(people):
        served = ordered(own, find(own, person))
        assert served.feature_names == own.ranking.features
        assert served.degraded == ()
        year = served.feature_names.index("founded_year")
        when = NOW + timedelta(minutes=number)
        rows = np.array([item.features for item in served.items])
        sessions.append(
            session(
                f"l{number}",
                str(person.key.id),
                [item.item_id for item in served.items],
                [item.score for item in served.items],
                rows,
                use_case=own.id,
                serve_time=when,
                feature_names=list(served.feature_names),
                methods=[str(item.method) for item in served.items],
            )
        )
        best = int(rows[:, year].argmax())
        of_list = {"session_id": f"l{number}", "rank": best + 1, "use_case": own.id, "event_time": when}
        events.append(
            {**interaction(number, str(person.key.id), served.items[best].item_id, "like"), **of_list}
        )
    snapshot = snapshot_of(tmp_path / "snapshot", [*ITEMS, UNDATED, *people], events, sessions)
    config = DatasetConfig(ranker_hard_share=1.0, attribution_minutes=0.0, negatives_per_positive=5)
    found = ranker_dataset(
        ranker_examples(replace(open_tables(snapshot), taken=NOW + timedelta(days=1)), own, config),
        use_case=own,
        snapshot="x",
        weighting=config.ranker_weighting,
    )
    assert found.feature_names == own.ranking.features
    years = found.features[:, found.feature_names.index("founded_year")]
    assert set(years.tolist()) <= {2000.0 + n for n in range(7)} | set(years[years % 1 > 0].tolist())

    trained = train_ranker(
        found, RankerConfig(learning_rate=0.01), validation_share=0.2, seed=0, calibration={}
    )
    trained.write(tmp_path / "ranker", own)
    ranker = Ranker.load(tmp_path / "ranker", own)
    columns = FeatureColumns.of(own)
    rows = np.tile(found.features.mean(axis=0), (2, 1)).astype(np.float32)
    rows[:, columns.names.index("founded_year")] = (2000.0, 2006.0)
    early, late = ranker.score(rows)
    assert late > early + 0.1


def test_scores_of_other_methods_are_those_the_methods_give(own: UseCase, tmp_path: Path) -> None:
    made = put(world([*ITEMS]), write_release(tmp_path / "r1", ITEMS))
    assert made.release is not None
    person = developer("d1", categories=Multi(("games",)))
    asked = Asked(own, person.key.id, count=40)
    found = retriever(own, made.release).find(asked, state(person))
    at = found.feature_names.index("two_tower_score")
    model = made.release.value.two_tower
    assert model is not None
    vector = model.embed_subjects([person], [[]])[0]
    known, vectors = model.index.vectors([each.item_id for each in found.candidates])
    expected = dict(zip(known, (vectors @ vector).tolist(), strict=True))
    for each in found.candidates:
        assert each.features[at] == pytest.approx(expected.get(each.item_id, 0.0), abs=1e-5)


def test_an_unknown_feature_is_named_beside_those_there_are(own: UseCase) -> None:
    ranking = own.ranking.model_copy(update={"features": (*own.ranking.features, "match_team", "name")})
    with pytest.raises(InvalidInput) as caught:
        FeatureColumns.of(own.model_copy(update={"ranking": ranking}))
    told = [violation.description for violation in caught.value.violations]
    assert [text.split("`")[1] for text in told] == ["match_team", "name"]
    assert "founded_year" in told[0]
    assert "match_category" in told[0]


def test_another_use_case_does_not_change(own: UseCase) -> None:
    shipped: UseCases = load_use_cases()
    assert "founded_year" not in FeatureColumns.of(shipped["developer_startup"]).names
    assert own.schema_fingerprint != shipped["developer_startup"].schema_fingerprint
