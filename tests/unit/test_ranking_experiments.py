"""Experiments in ranking_svc: learnt, remembered, dealt, counted, told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from matchloop.errors import InvalidInput, MatchloopError, NotFound, Reason, Unavailable
from matchloop.experiments.experiment import Experiment
from matchloop.experiments.reactions import Moments, Reactions
from matchloop.observe.metrics import Metrics
from matchloop.usecase import Method
from ranking_svc.domain import Recommendation, Skipped
from ranking_svc.experiments import Experiments, arm_in
from ranking_svc.results import ExperimentResults
from ranking_svc.served import KEPT, Outcome, Served
from tests.ranking_world import MOVIE, NOW, FakeSlot, World, loaded

EXPERIMENT = Experiment("e1", MOVIE.id, 0.3, "r1", "r2", NOW)


class Store:
    """`ExperimentSource` and `ReactionSource`; `fault` is raised while set."""

    def __init__(self, *experiments: Experiment) -> None:
        self.experiments = {each.use_case: each for each in experiments}
        self.rows: tuple[Reactions, ...] = ()
        self.fault: MatchloopError | None = None
        self.spans: list[tuple[object, object]] = []

    def latest(self, use_case: str) -> Experiment | None:
        if self.fault:
            raise self.fault
        return self.experiments.get(use_case)

    def reactions(self, use_case: str, from_time: object, to_time: object) -> tuple[Reactions, ...]:
        if self.fault:
            raise self.fault
        self.spans.append((from_time, to_time))
        return self.rows


def watching(store: Store, folder: Path) -> Experiments:
    return Experiments((MOVIE.id, "developer_startup"), store, folder, poll_seconds=60.0)


def group(arm: str, release: str, subjects: int, clicks: int, dislikes: int = 0) -> Reactions:
    shown = 10 * subjects
    return Reactions(
        arm=arm,
        release=release,
        subjects=subjects,
        sessions=subjects,
        shown=shown,
        shown_squares=100.0 * subjects,
        clicks=Moments(clicks, float(clicks), 10.0 * clicks),
        strong_positives=Moments(),
        dislikes=Moments(dislikes, float(dislikes), 10.0 * dislikes),
        reranked_sessions=subjects,
        mean_diversity=0.5,
        mean_freshness=0.25,
    )


# --- learnt and remembered


def test_what_runs_is_known_and_what_was_stopped_is_not(tmp_path: Path) -> None:
    store = Store(EXPERIMENT)
    experiments = watching(store, tmp_path)
    assert experiments.running(MOVIE.id) is None
    assert experiments.poll()
    assert experiments.running(MOVIE.id) == EXPERIMENT
    assert experiments.running("developer_startup") is None
    store.experiments[MOVIE.id] = replace(EXPERIMENT, stop_time=NOW + timedelta(days=1))
    assert experiments.poll()
    assert experiments.running(MOVIE.id) is None
    assert watching(store, tmp_path).running(MOVIE.id) is None


def test_it_is_remembered_while_the_store_is_away_and_over_a_restart(tmp_path: Path) -> None:
    store = Store(EXPERIMENT)
    experiments = watching(store, tmp_path)
    experiments.poll()
    store.fault = Unavailable("away")
    assert not experiments.poll()
    again = watching(store, tmp_path)
    for each in (experiments, again):
        assert each.running(MOVIE.id) == EXPERIMENT
    arms = [arm_in(experiments.running(MOVIE.id), f"u{i}") for i in range(300)]
    assert arms == [arm_in(again.running(MOVIE.id), f"u{i}") for i in range(300)]
    assert 60 < arms.count("challenger") < 120


def test_one_use_case_that_the_store_does_not_know_hides_no_other(tmp_path: Path) -> None:
    class Partial(Store):
        def latest(self, use_case: str) -> Experiment | None:
            if use_case == "developer_startup":
                raise NotFound("no such use case")
            return super().latest(use_case)

    experiments = Experiments(
        ("developer_startup", MOVIE.id), Partial(EXPERIMENT), tmp_path, poll_seconds=60.0
    )
    assert not experiments.poll()
    assert experiments.running(MOVIE.id) == EXPERIMENT


@pytest.mark.parametrize("share", [0.0, 1.0, "much", None])
def test_a_damaged_memory_is_no_experiment(tmp_path: Path, share: object) -> None:
    watching(Store(EXPERIMENT), tmp_path).poll()
    path = tmp_path / f"{MOVIE.id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "challenger_share": share}))
    assert watching(Store(), tmp_path).running(MOVIE.id) is None
    path.write_text("{")
    assert watching(Store(), tmp_path).running(MOVIE.id) is None


def test_a_full_disk_does_not_keep_it_from_being_dealt(tmp_path: Path) -> None:
    experiments = watching(Store(EXPERIMENT), tmp_path)
    (tmp_path / f"{MOVIE.id}.tmp").mkdir()
    assert experiments.poll()
    assert experiments.running(MOVIE.id) == EXPERIMENT


# --- dealt


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(
        tmp_path,
        slot=FakeSlot(loaded("r1", None)),
        challenger=FakeSlot(loaded("r2", None)),
    ) as made:
        made.candidates.release, made.candidates.challenger_release = "r1", "r2"
        yield made


def test_without_an_experiment_there_are_no_arms(world: World) -> None:
    answer = world.recommend()
    assert (answer.arm, answer.release) == ("", "r1")
    assert world.candidates.challenged == [False]


def test_arm_and_release_are_told_and_kept(world: World) -> None:
    world.experiment = EXPERIMENT
    for number in range(40):
        subject = f"u{number}"
        answer = world.recommend(subject_id=subject)
        assert answer.arm == arm_in(EXPERIMENT, subject)
        assert answer.release == {"champion": "r1", "challenger": "r2"}[answer.arm]
        session = world.store.sessions[answer.session_id]
        assert (session.arm, session.release) == (answer.arm, answer.release)
        assert world.candidates.challenged[-1] == (answer.arm == "challenger")
    assert {True, False} == set(world.candidates.challenged)
    lists = world.rank("m1", "m2", subject_id="u0")
    assert lists.arm == arm_in(EXPERIMENT, "u0")
    assert world.candidates.challenged[-1] == (lists.arm == "challenger")


def test_a_challenger_that_is_not_there_keeps_its_arm_and_says_who_served(world: World) -> None:
    world.experiment = replace(EXPERIMENT, challenger_share=0.999999)
    world.candidates.challenger_release, world.challenger.loaded = "r1", ()
    answer = world.recommend()
    assert (answer.arm, answer.release) == ("challenger", "r1")


# --- counted


def served(world: World, arm: str, release: str, outcome: Outcome) -> float:
    labels = {"use_case": MOVIE.id, "arm": arm, "release": release, "outcome": outcome.value}
    return world.metrics.value("matchloop_served_total", **labels)


def test_lists_are_counted_by_arm_release_and_outcome(world: World) -> None:
    world.recommend()
    assert served(world, "", "r1", Outcome.OK) == 1
    timed = {"use_case": MOVIE.id, "arm": "", "release": "r1"}
    assert world.metrics.value("matchloop_served_seconds_count", **timed) == 1
    world.candidates.fault = Unavailable("candidate_svc is away")
    with pytest.raises(Unavailable):
        world.recommend()
    assert served(world, "", "", Outcome.ERROR) == 1  # nobody's fault among releases
    world.candidates.fault = InvalidInput("the client's fault")
    with pytest.raises(InvalidInput):
        world.recommend()
    world.experiment = replace(EXPERIMENT, challenger_share=0.999999)
    world.candidates.fault = None
    world.store.encode = None  # type: ignore[assignment,method-assign]  # a bug
    with pytest.raises(TypeError):
        world.recommend()
    assert served(world, "challenger", "r2", Outcome.ERROR) == 1


def test_what_a_release_fails_at_is_counted_though_the_list_was_made(world: World) -> None:
    answer = Recommendation("s", (), None, "r1", "", reranked=False, degraded=("ranker",))
    counted = Served(world.metrics)
    counted.made(MOVIE.id, answer, 0.01)
    counted.made(MOVIE.id, replace(answer, degraded=(), skipped=(Skipped(Method.ALS, 2),)), 0.01)
    counted.made(MOVIE.id, replace(answer, degraded=("feedback",), skipped=(Skipped(Method.ALS, 1),)), 0.01)
    assert [served(world, "", "r1", outcome) for outcome in Outcome] == [1, 1, 1, 0]


def test_the_releases_in_labels_are_bounded(world: World) -> None:
    counted = Served(world.metrics)
    for number in range(3 * KEPT):
        for release in ("r0", f"r{number}"):
            answer = Recommendation("s", (), None, release, "", reranked=True, degraded=())
            counted.made(MOVIE.id, answer, 0.01)
    shown = {
        sample.labels["release"] for metric in world.metrics.served.collect() for sample in metric.samples
    }
    assert shown == {"r0", *(f"r{number}" for number in range(2 * KEPT + 1, 3 * KEPT))}


# --- told


def results_over(store: Store, metrics: Metrics, running: Experiment | None = None) -> ExperimentResults:
    return ExperimentResults(
        store, metrics, (MOVIE.id,), lambda _: running, gauge_seconds=60.0, monotonic=lambda: 0.0
    )


def test_results_are_of_the_experiments_time_by_arm() -> None:
    store = Store(replace(EXPERIMENT, stop_time=NOW + timedelta(days=2), stop_reason="enough"))
    store.rows = (
        group("", "r1", 50, 40),
        group("challenger", "r1", 5, 1),
        group("challenger", "r2", 295, 600),
        group("champion", "r1", 700, 700),
    )
    found = results_over(store, Metrics()).of(MOVIE.id)
    assert store.spans == [(NOW, NOW + timedelta(days=2))]
    champion, challenger = found.arms
    assert (champion.sums.subjects, champion.rates.click_rate.rate) == (700, 0.1)
    assert (challenger.sums.subjects, challenger.sums.shown, challenger.sums.clicks.total) == (300, 3000, 601)
    assert found.difference is not None
    assert 0.05 < found.difference.click_rate.low < found.difference.click_rate.high < 0.15
    assert found.difference.dislike_rate.low < 0.0 < found.difference.dislike_rate.high
    assert found.sample_ratio_p_value == 1.0
    store.rows = (group("challenger", "r2", 500, 5), group("champion", "r1", 500, 5))
    assert results_over(store, Metrics()).of(MOVIE.id).sample_ratio_p_value < 1e-6


def test_no_experiment_ever_is_not_found() -> None:
    with pytest.raises(NotFound) as caught:
        results_over(Store(), Metrics()).of(MOVIE.id)
    assert caught.value.reason is Reason.EXPERIMENT_NOT_FOUND


def test_gauges_show_what_runs_and_ask_the_store_seldom() -> None:
    store, metrics = Store(EXPERIMENT), Metrics()
    store.rows = (group("challenger", "r2", 30, 60), group("champion", "r1", 70, 70))
    results = results_over(store, metrics, EXPERIMENT)
    for _ in range(3):
        results.show()
    assert len(store.spans) == 1
    here = {"use_case": MOVIE.id}
    assert metrics.value("matchloop_experiment_share", **here) == 0.3
    assert metrics.value("matchloop_experiment_subjects", arm="challenger", **here) == 30
    rate = {"arm": "champion", "reaction": "click", "bound": "rate", **here}
    assert metrics.value("matchloop_experiment_rate", **rate) == 0.1
    ahead = {"reaction": "click", "bound": "rate", **here}
    assert metrics.value("matchloop_experiment_difference", **ahead) == pytest.approx(0.1)
    results_over(store, metrics, None).show()
    assert metrics.value("matchloop_experiment_share", **here) == 0.0


def test_gauges_survive_a_store_that_is_away() -> None:
    store = Store(EXPERIMENT)
    store.fault = Unavailable("away")
    results_over(store, Metrics(), EXPERIMENT).show()
