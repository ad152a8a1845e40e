"""What evaluation measures is what candidate_svc serves: the same release, asked both ways."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candidate_svc.domain import Asked
from matchloop.entities import Categorical, EntityId, Multi
from matchloop.retrieval.choices import Choices
from matchloop.retrieval.fusion import Fusion
from matchloop.retrieval.routing import SkipReason
from matchloop.usecase import Method, Tier
from tests.candidate_release import write_release
from tests.candidate_world import NOW, USE_CASE, developer, event, ids, startups, state, use_case, world
from tests.unit.test_candidate_released import put
from tests.unit.training_worlds import interaction, snapshot_of
from training_jobs.champion import champion_top
from training_jobs.config import TrainingConfig
from training_jobs.evaluate import truth_of
from training_jobs.material import Material

ITEMS = sorted(startups(60), key=lambda item: item.key.id)
"""In the order of their ids: so equal scores are broken alike."""
DAYS = {"d1": (), "d2": (3, 0), "d3": (9, 8, 7, 5, 2), "nobody": ()}
"""Days ago of each developer's events. Evaluation asks as of the last event of all, which is now."""
LIKED = {"d2": ("s2", "s6"), "d3": ("s1", "s4", "s10", "s22", "s7")}
DEVELOPERS = [
    developer("d1", categories=Multi(("games",)), country=Categorical("us")),
    developer("d2", categories=Multi(("health",))),
    developer("d3", country=Categorical("fr")),
    developer("nobody"),
]
ORDERS = {
    Tier.COLD: (Method.ENSEMBLE, Method.POPULAR),
    Tier.WARM: (Method.ENSEMBLE, Method.ALS),
}
FUSIONS = {
    Tier.COLD: Fusion(
        {Method.ALS: 1.0, Method.CONTENT: 0.6, Method.TWO_TOWER: 0.3, Method.POPULAR: 0.1}, 5.0
    ),
    Tier.WARM: Fusion({Method.ALS: 0.3, Method.CONTENT: 1.0, Method.POPULAR: 0.1}, 20.0),
}


def release(folder: Path) -> Path:
    return write_release(folder, ITEMS, choices=Choices(ORDERS, FUSIONS))


def offline(tmp_path: Path, folder: Path) -> dict[str, list[str]]:
    events: list[dict[str, Any]] = []
    for name, days in DAYS.items():
        for item, ago in zip(LIKED.get(name, ()), days, strict=True):
            given = {"use_case": USE_CASE, "event_time": NOW - timedelta(days=ago)}
            events.append({**interaction(len(events), name, item, "like"), **given})
    snapshot = snapshot_of(tmp_path / "snapshot", [*ITEMS, *DEVELOPERS], events)
    material = Material(snapshot, use_case(), validation_share=0.0)
    known = (material.events.subject, material.events.item)
    row = material.item_ids.index("s59")
    everyone = np.arange(len(material.subjects))
    truth = truth_of((everyone, np.full(len(everyone), row)), known, (len(everyone), len(ITEMS)))
    top = champion_top(folder, material, truth, TrainingConfig())
    return {
        material.subject_ids[subject]: [material.item_ids[item] for item in line if item >= 0]
        for subject, line in zip(truth.subjects.tolist(), top.tolist(), strict=True)
    }


def test_the_ensemble_measured_offline_is_the_one_that_is_served(tmp_path: Path) -> None:
    """Cold subjects without and with events, a warm one, and one of whom nothing is known."""
    folder = release(tmp_path / "r1")
    measured = offline(tmp_path, folder)
    made = put(world(ITEMS), folder)

    for entity in DEVELOPERS:
        name = str(entity.key.id)
        did = [event(item, days_ago=ago) for item, ago in zip(LIKED.get(name, ()), DAYS[name], strict=True)]
        did.reverse()
        hidden = frozenset(map(EntityId, LIKED.get(name, ())))
        asked = Asked(use_case(), entity.key.id, count=10)
        found = made.retriever.find(asked, state(entity, did, hidden=hidden))
        by_method = {each.method for each in found.candidates[: len(measured[name])]}
        personal = Method.POPULAR if name == "nobody" else Method.ENSEMBLE
        assert (ids(found.candidates)[: len(measured[name])], by_method) == (measured[name], {personal})
        # What nobody looked at fills up where nothing is known; evaluation does not count on it.
        filler = found.candidates[len(measured[name]) :]
        assert all((each.method, each.score) == (Method.POPULAR, 0.0) for each in filler)
        assert bool(filler) == (name == "nobody")


def test_each_tier_has_its_own_ensemble_and_says_whom_it_went_without(tmp_path: Path) -> None:
    made = put(world(ITEMS), release(tmp_path / "r1"))

    def reasons(subject: Any, likes: tuple[str, ...] = ()) -> dict[Method, SkipReason]:
        did = [event(item) for item in likes]
        asked = Asked(use_case(), EntityId("d1"), count=2, methods=(Method.ENSEMBLE,))
        found = made.retriever.find(asked, state(subject, did))
        assert {each.method for each in found.candidates} <= {Method.ENSEMBLE}
        return {skip.method: skip.reason for skip in found.skipped}

    new = reasons(DEVELOPERS[0])
    assert new == {Method.ALS: SkipReason.NO_SIGNAL}
    assert reasons(DEVELOPERS[0], LIKED["d3"]) == {}
    nobody = reasons(None)
    silent = (Method.ALS, Method.CONTENT, Method.TWO_TOWER, Method.ENSEMBLE)
    assert nobody == dict.fromkeys(silent, SkipReason.NO_SIGNAL)


def test_without_time_the_ensemble_is_what_is_popular(tmp_path: Path) -> None:
    made = put(world(ITEMS), release(tmp_path / "r1"))
    left = iter([1.0, 1.0, *[0.001] * 99])
    made.retriever._remaining = lambda: next(left)
    found = made.retriever.find(Asked(use_case(), EntityId("d2"), count=1), state(DEVELOPERS[1]))

    assert found.candidates[0].method is Method.ENSEMBLE
    late = [skip.method for skip in found.skipped if skip.reason is SkipReason.TIMED_OUT]
    assert Method.TWO_TOWER in late


@pytest.mark.parametrize("count", [1, 10, 20])
def test_a_longer_list_begins_as_a_shorter_one(tmp_path: Path, count: int) -> None:
    made = put(world(ITEMS), release(tmp_path / "r1"))
    lists = [
        ids(made.retriever.find(Asked(use_case(), EntityId("d1"), count=n), state(DEVELOPERS[0])).candidates)
        for n in (count, 20)
    ]
    assert lists[1][:count] == lists[0]
