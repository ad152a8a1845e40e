"""What is measured of ALS offline is what candidate_svc serves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from candidate_svc.domain import Asked, SubjectState
from candidate_svc.methods import Als
from candidate_svc.query import Query
from matchloop.entities import Entity, EntityId
from matchloop.retrieval.profile import SubjectEvent
from tests.unit.training_worlds import INVESTORS, START, interaction, named, snapshot_of
from training_jobs import scoring
from training_jobs.config import AlsConfig, AlsTrial
from training_jobs.datasets import als_matrix, als_pairs
from training_jobs.evaluate import truth_of
from training_jobs.material import Material
from training_jobs.recipes.als import train_als
from training_jobs.scoring import Known, als_top

SUBJECTS, ITEMS, K = 14, 25, 6


class Rows:
    """The mirror's rows: the items in order."""

    def __init__(self, items: list[Entity]) -> None:
        self._items = items
        self._row = {item.key.id: row for row, item in enumerate(items)}

    def entity(self, row: int) -> Entity:
        return self._items[row]

    def row(self, item: EntityId) -> int | None:
        return self._row.get(item)

    def id(self, row: int) -> EntityId:
        return self._items[row].key.id


@pytest.fixture
def material(tmp_path: Path) -> Material:
    """Repeated events, dislikes, items and subjects that only the validation part has; hours apart."""
    rng = np.random.default_rng(7)
    types = ("view", "click", "like", "interest", "dislike")
    events = []
    for number in range(400):
        late = number >= 360
        subject = int(rng.integers(0, SUBJECTS)) if late else int(rng.integers(0, SUBJECTS - 3))
        item = int(rng.integers(0, ITEMS)) if late else int(rng.integers(0, ITEMS - 4))
        event = str(rng.choice(types, p=[0.3, 0.2, 0.2, 0.1, 0.2]))
        event_time = START + timedelta(hours=number)
        row = interaction(number, f"s{subject:02d}", f"i{item:02d}", event)
        events.append({**row, "event_time": event_time, "receive_time": event_time})
    people = [f"s{n:02d}" for n in range(SUBJECTS)], [f"i{n:02d}" for n in range(ITEMS)]
    entities = [*named("investor", people[0]), *named("startup", people[1])]
    return Material(snapshot_of(tmp_path, entities, events), INVESTORS, validation_share=0.1)


def served(
    material: Material, model: Any, subject: int, seen: set[int], bound: int, created: datetime
) -> Any:
    """Ask candidate_svc's method, with the state that the store would tell of all events so far."""
    events, day = material.events, "datetime64[us]"
    own = np.flatnonzero(events.subject == subject)
    times = [events.time[n].astype(day).item().replace(tzinfo=UTC) for n in own]
    recent = [
        SubjectEvent(material.items[events.item[n]].key.id, str(events.event_type[n]), time)
        for n, time in zip(own.tolist(), times, strict=True)
    ]
    allowed = np.array([item not in seen for item in range(ITEMS)])
    query = Query(
        asked=Asked(use_case=INVESTORS, subject_id=material.subjects[subject].key.id, count=K),
        state=SubjectState(interaction_count=len(own), recent_events=tuple(reversed(recent))[:bound]),
        rows=Rows(material.items),  # type: ignore[arg-type]
        count=ITEMS,
        allowed=allowed,
        subject=None,
        models=SimpleNamespace(als=model, created=created),  # type: ignore[arg-type]
        now=events.time[-1].astype(day).item().replace(tzinfo=UTC),
        told=True,
    )
    found = Als().find(query, K)
    return [int(hit.item[1:]) for hit in found] if isinstance(found, list) else []


@pytest.mark.parametrize("bound", [500, 12])
@pytest.mark.parametrize("newer", [True, False])
def test_offline_lists_are_the_served_ones(
    material: Material, monkeypatch: pytest.MonkeyPatch, bound: int, newer: bool
) -> None:
    monkeypatch.setattr(scoring, "STATE_EVENTS", bound)
    trial = AlsTrial(regularization=0.5, alpha=5.0, half_life_days=8.0, saturation=0.7)
    matrix = als_matrix(als_pairs(material.training_part), use_case=INVESTORS.id, snapshot="x")
    model = train_als(matrix, AlsConfig(factors=5, trials=(trial,)), seed=1).model
    events, everyone = material.events, np.arange(SUBJECTS)
    truth = truth_of(
        (everyone, np.full(SUBJECTS, ITEMS - 1)), (events.subject, events.item), (SUBJECTS, ITEMS)
    )
    # A release made at the cut, or one said to have been made after everything.
    created = START + timedelta(hours=359 if newer else 1000)
    watermark = 359 if newer else None
    offline = als_top(model, material, Known.of(events), truth, K, watermark=watermark)

    for at, subject in enumerate(truth.subjects.tolist()):
        seen = set(truth.seen[at].indices.tolist())
        expected = served(material, model, subject, seen, bound, created)
        assert [item for item in offline[at].tolist() if item >= 0] == expected
    assert (offline >= 0).any(axis=1).sum() >= SUBJECTS - 3
