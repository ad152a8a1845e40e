"""The recipe of popular: what each event's subject was like, and settings that a validation part picks."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from matchloop.entities import Categorical, Entity, EntityId, EntityKey, Kind, Numeric
from matchloop.retrieval.popular import PopularModel
from matchloop.retrieval.segments import EARLIER
from matchloop.usecase import Popularity
from training_jobs.config import PopularConfig
from training_jobs.material import Events, Material
from training_jobs.recipes.popular import Counting, default_settings, earlier_of, tune_popular


def events_of(subject: list[int], item: list[int], days: list[int]) -> Events:
    n = len(subject)
    return Events(
        np.array(subject, dtype=np.int64),
        np.array(item, dtype=np.int64),
        np.array(["like"] * n, dtype=object),
        np.datetime64("2012-01-01", "us") + np.array(days, dtype=np.int64) * np.timedelta64(1, "D"),
        np.full(n, 2.0),
        np.arange(n),
        np.zeros(n, dtype=np.bool_),
    )


def startup(number: int, country: str, year: float | None) -> Entity:
    features: dict[str, Any] = {"country": Categorical(country)}
    if year is not None:
        features["founded"] = Numeric(year)
    return Entity(EntityKey(Kind("startup"), EntityId(f"s{number}")), features)


def material(**popularity: Any) -> Material:
    """Startups of two countries; investor `i0` is for FR, `i1` for GB."""
    subjects = [startup(0, "FR", 2011.0), startup(1, "GB", 2000.0), startup(2, "FR", None)]
    declared = Popularity(half_life_days=365.0, segments=("country",), **popularity)
    made = SimpleNamespace(
        subjects=subjects, item_ids=["i0", "i1"], use_case=SimpleNamespace(popularity=declared)
    )
    return cast("Material", made)


EVENTS = events_of([0, 1, 0, 2, 1, 1], [0, 1, 0, 0, 1, 0], [0, 0, 9, 9, 9, 30])


def test_events_before_are_counted_by_subject_and_those_of_one_moment_are_not() -> None:
    assert earlier_of(EVENTS).tolist() == [0, 0, 1, 0, 1, 2]
    assert earlier_of(events_of([3, 3, 3, 3], [0, 1, 2, 0], [5, 1, 5, 9])).tolist() == [1, 0, 1, 3]
    assert earlier_of(events_of([], [], [])).tolist() == []


def test_subjects_are_counted_as_they_were_at_the_event() -> None:
    counting = Counting.of(material(ages={"founded": (1.0, 4.0)}, earlier=(1, 2)), EVENTS)

    def values(name: str) -> list[tuple[str, ...]]:
        column = counting.columns[name]
        return [column.entries[at] for at in column.entry.tolist()]

    assert values("country") == [("FR",), ("GB",), ("FR",), ("FR",), ("GB",), ("GB",)]
    assert values("founded")[:4] == [("under 1",), ("from 4",), ("1 to 4",), ("unknown",)]
    assert [name for (name,) in values(EARLIER)] == [
        "under 1", "under 1", "1 to 2", "under 1", "1 to 2", "from 2"
    ]  # fmt: skip


def test_without_events_or_segments_there_is_a_model_that_knows_nothing() -> None:
    nothing = Counting.of(material(earlier=()), events_of([], [], []))
    built = nothing.model(default_settings(nothing.material))
    assert built.overall.tolist() == [0.0, 0.0]
    assert built.scores({"country": ("FR",)}).tolist() == [0.0, 0.0]


def gain(per_subject: float, noise: float) -> Any:
    """Judge that likes `country` up to 1.3 and nothing else; `noise` differs from subject to subject."""
    rng = np.random.default_rng(0)

    def judge(model: PopularModel) -> Any:
        own = rng.standard_normal(400) * noise
        return own + per_subject * model.exponents["country"] - 0.5 * model.exponents[EARLIER]

    return judge


def test_what_does_better_on_validation_is_chosen() -> None:
    counting = Counting.of(material(), EVENTS)
    found = tune_popular(counting, PopularConfig(), gain(1.0, 0.0))
    assert found.exponents == {"country": 1.3, EARLIER: 0.0}
    assert (found.smoothing, found.half_life_days) == (100.0, 365.0)
    assert found.metrics["popular_exponent_earlier_interactions"] == 0.0
    built = counting.model(found)
    assert built.smoothing == pytest.approx(200.0)  # events weigh 2
    assert built.exponents == found.exponents


def test_time_is_bounded() -> None:
    counting = Counting.of(material(), EVENTS)
    ticks = itertools.count()
    found = tune_popular(
        counting, PopularConfig(seconds=3.0), gain(1.0, 0.0), clock=lambda: float(next(ticks))
    )
    assert found.exponents[EARLIER] == 0.7  # it never came to that
    assert tune_popular(counting, PopularConfig(seconds=0.0), gain(1.0, 0.0)) == default_settings(
        counting.material
    )


def test_saved_settings_answer_alike(tmp_path: Path) -> None:
    counting = Counting.of(material(), EVENTS)
    built = counting.model(default_settings(counting.material))
    built.save(tmp_path)
    values = {"country": ("GB",), EARLIER: ("under 1",)}
    assert PopularModel.load(tmp_path).search(values, 2) == built.search(values, 2)
