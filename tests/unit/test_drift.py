"""Drift of served lists from those trained on: known answers, chance, baselines, verdicts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from matchloop.errors import ReleaseRefused
from matchloop.rerank.calibration import CLIENT_METHOD, Platt, calibrate
from matchloop.rerank.features import FeatureColumns
from matchloop.rerank.scorer import RuleScorer
from matchloop.usecase import Method
from tests.unit.training_worlds import INVESTORS, START, named, ranked_world, session, snapshot_of
from training_jobs.config import TriggerConfig, load_config
from training_jobs.datasets.tables import open_tables
from training_jobs.drift import (
    DRIFT_FILE,
    SCORE,
    Baseline,
    FeatureDrift,
    Lists,
    drift_of,
)
from training_jobs.drift.training import latest_lists
from training_jobs.drift.verdict import bars, drift_table

NAMES = INVESTORS.ranking.features
CONFIG = TriggerConfig()


def lists_of(
    count: int, rng: np.random.Generator, *, size: int = 10, subjects: int = 1000, spread: float = 0.0
) -> Lists:
    """Lists of uniform features; `spread` moves all of a subject's values together."""
    owner = np.repeat(rng.integers(subjects, size=count), size)
    moved = rng.normal(0.0, spread, (subjects, len(NAMES)))[owner] if spread else 0.0
    features = (rng.random((count * size, len(NAMES))) + moved).astype(np.float32)
    return Lists(
        names=NAMES,
        features=features,
        score=features.mean(axis=1),
        method=np.full(count * size, "als", dtype=object),
        subject=np.unique(owner, return_inverse=True)[1].astype(np.int64),
        session=np.repeat(np.arange(count), size),
        first=START,
        last=START + timedelta(days=1),
    )


def baseline_of(lists: Lists) -> Baseline:
    found = Baseline.of(lists)
    assert found is not None
    return found


def test_lists_of_one_world_have_not_drifted() -> None:
    """Two hundred pairs of the least lists, subjects unlike each other: not one over the bound."""
    rng = np.random.default_rng(3)
    worst: list[FeatureDrift] = []
    for _ in range(200):
        one, two = (lists_of(150, rng, subjects=90, spread=0.3) for _ in range(2))
        drift = drift_of("r", baseline_of(one), two, CONFIG)
        assert drift.untold == ""
        worst += drift.drifted

    assert worst == []


def test_a_feature_that_moved_is_found_alone() -> None:
    rng = np.random.default_rng(4)
    before, now = lists_of(200, rng), lists_of(200, rng)
    features = now.features.copy()
    features[:, NAMES.index("recency")] *= 0.3
    drift = drift_of("r", baseline_of(before), replace(now, features=features), CONFIG)

    assert [feature.name for feature in drift.drifted] == ["recency"]
    assert drift.untold == ""
    assert [feature.name for feature in drift.features] == [*NAMES, SCORE]
    assert str(drift).startswith("recency drifted; recency ")


def test_scores_that_moved_are_found() -> None:
    rng = np.random.default_rng(5)
    before, now = lists_of(200, rng), lists_of(200, rng)
    drift = drift_of("r", baseline_of(before), replace(now, score=now.score + 0.3), CONFIG)

    assert [feature.name for feature in drift.drifted] == [SCORE]


def test_too_little_tells_nothing() -> None:
    rng = np.random.default_rng(6)
    many, few = lists_of(200, rng), lists_of(99, rng)

    assert drift_of("r", baseline_of(many), few, CONFIG).untold == "99 lists served since, 150 are needed"
    assert drift_of("r", baseline_of(few), many, CONFIG).untold == "99 lists in the baseline, 150 are needed"
    assert "no baseline" in drift_of("r", None, many, CONFIG).untold
    assert drift_of("r", None, many, CONFIG).drifted == ()
    assert Baseline.of(lists_of(0, rng)) is None


def test_a_baseline_is_read_as_written(tmp_path: Path) -> None:
    found = baseline_of(lists_of(50, np.random.default_rng(7)))
    found.write(tmp_path)

    assert Baseline.read(tmp_path) == found
    assert found.features[0].bins.edges.tolist() == list(found.features[0].edges)
    (tmp_path / DRIFT_FILE).write_text('{"lists": 0}')
    with pytest.raises(ReleaseRefused, match=DRIFT_FILE):
        Baseline.read(tmp_path)
    (tmp_path / DRIFT_FILE).unlink()
    assert Baseline.read(tmp_path) is None


def test_lists_are_scored_as_the_release_scores_them() -> None:
    """With its calibration and its ranker: a release's own scores have not drifted before it serves."""
    rng = np.random.default_rng(8)
    lists = lists_of(30, rng)
    columns = FeatureColumns.of(INVESTORS)
    raw = rng.uniform(-1.0, 1.0, len(lists.score)).astype(np.float32)
    method = np.where(rng.random(len(raw)) < 0.5, Method.ALS, Method.TWO_TOWER)
    method[::5] = CLIENT_METHOD
    methods = [Method(str(name)) for name in method]
    served = {Method.ALS: Platt(slope=2.0, intercept=-1.0)}
    now = {Method.ALS: Platt(slope=0.7, intercept=-2.0), Method.TWO_TOWER: Platt(slope=1.5, intercept=0.0)}
    features = lists.features.copy()
    features[:, columns.original_score] = calibrate(raw, methods, served)
    names = method.astype(np.str_).astype(object)
    names[::10], names[5::10] = None, ""  # what `Rank` was asked for: the client's items, found by no method
    lists = replace(lists, features=features, method=names)
    scorer = RuleScorer(INVESTORS, now)
    found = lists.as_scored_by(scorer, served)

    wanted = calibrate(raw, methods, now)
    assert found.features[:, columns.original_score] == pytest.approx(wanted, abs=2e-3)
    others = [at for at in range(len(NAMES)) if at != columns.original_score]
    assert (found.features[:, others] == lists.features[:, others]).all()
    again = found.as_scored_by(scorer, now)
    assert again.score == pytest.approx(found.score, abs=1e-6)


def test_lists_that_popular_alone_found_do_not_count() -> None:
    lists = lists_of(20, np.random.default_rng(9), subjects=5)
    method = lists.method.copy()
    method[lists.session < 5] = "popular"
    method[lists.session == 6] = "popular"
    method[np.flatnonzero(lists.session == 6)[0]] = "als"
    found = replace(lists, method=method).ranked()

    assert len(found) == 15
    assert len(found.score) == 150
    assert sorted(set(found.session.tolist())) == list(range(15))


def world(folder: Path, serve_days: list[float], **more: object) -> Lists:
    rng = np.random.default_rng(0)
    sessions = [
        session(
            f"l{n}", f"a{n % 7}", ["s0", "s1"], [0.9, 0.1], rng.random((2, len(NAMES))),
            serve_time=START + timedelta(days=day), **{"methods": ["als", "als"], **more},
        )
        for n, day in enumerate(serve_days)
    ]  # fmt: skip
    found = snapshot_of(folder, named("startup", ["s0", "s1"]), sessions=sessions)
    config = TriggerConfig(drift_days=7, drift_lists=50, drift_least_lists=10)
    return latest_lists(open_tables(found), INVESTORS, config)


def test_a_baseline_is_of_the_latest_lists(tmp_path: Path) -> None:
    found = world(tmp_path, [*np.linspace(0, 20, 21), *np.linspace(20.1, 24, 20)])

    assert found.first == START + timedelta(days=17)
    assert found.last == START + timedelta(days=24)
    assert len(found) == 24
    assert found.features.shape == (48, len(NAMES))


def test_a_baseline_reaches_back_for_as_many_as_are_needed(tmp_path: Path) -> None:
    assert len(world(tmp_path, [*np.linspace(0, 10, 30), 100.0])) == 10


def test_a_baseline_is_bounded(tmp_path: Path) -> None:
    assert len(world(tmp_path, np.linspace(0, 5, 200).tolist())) == 50


@pytest.mark.parametrize("more", [{"source": "client"}, {"feature_names": []}, {"methods": ["popular"] * 2}])
def test_lists_without_ranking_make_no_baseline(tmp_path: Path, more: dict[str, object]) -> None:
    found = world(tmp_path, [0.0, 1.0], **more)

    assert (len(found), found.subjects) == (0, 0)
    assert Baseline.of(found) is None


def test_the_snapshot_s_lists_have_their_values(tmp_path: Path) -> None:
    snapshot = ranked_world(tmp_path, lists=120)
    found = latest_lists(open_tables(snapshot), INVESTORS, CONFIG)

    assert len(found) == 120
    assert found.subjects <= 30
    first = snapshot.table("sessions").to_pylist()[0]  # type: ignore[arg-type]
    assert found.score[:5].tolist() == pytest.approx(first["scores"])
    assert found.features[:5].reshape(-1).tolist() == pytest.approx(first["feature_values"])


def test_the_table_shows_what_moved() -> None:
    rng = np.random.default_rng(10)
    before, now = lists_of(200, rng), lists_of(200, rng)
    drift = drift_of("r", baseline_of(before), replace(now, score=now.score + 0.3), CONFIG)
    console = Console(width=160, record=True, quiet=True)
    with console.capture() as shown:
        console.quiet = False
        console.print(drift_table(drift, INVESTORS.id))

    lines = {line.split()[1]: line for line in shown.get().splitlines() if len(line.split()) > 2}
    assert "drifted" in lines[SCORE]
    assert "stayed" in lines["recency"]
    assert bars((0.0, 0.5, 1.0), 1.0) == " ▅█"


def test_triggers_are_no_part_of_a_release_s_key() -> None:
    config = load_config("fast")
    other = config.model_copy(update={"triggers": TriggerConfig(drift_psi=0.1)})

    assert other.fingerprint == config.fingerprint
    assert other.model_copy(update={"seed": 1}).fingerprint != config.fingerprint
