"""Guards and the monitor: what is lost, what is done about it, and what is left alone."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from matchloop.acts import ActKind
from matchloop.errors import Conflict, InvalidInput, NotFound, Unavailable
from matchloop.experiments.experiment import Experiment
from matchloop.experiments.reactions import Moments, Reactions
from matchloop.observe.exporter import Exporter
from matchloop.observe.metrics import Metrics
from matchloop.release import CHALLENGER, CHAMPION
from matchloop.testing.registries import FolderRegistry
from matchloop.testing.releases import build_release
from matchloop.usecase import load_use_cases
from ranking_svc.domain import Recommendation
from ranking_svc.served import Served
from training_jobs.config import GuardConfig
from training_jobs.experiments import start_experiment, stop_experiment
from training_jobs.exposition import Key, Requests, read_requests
from training_jobs.gates import Gate
from training_jobs.gates import Verdict as GateVerdict
from training_jobs.guards import Guard, Side, Verdict, ask_guards, lost
from training_jobs.monitor import Monitor
from training_jobs.promotion import note_gates, promote_version

USE_CASE = load_use_cases()["user_movie"]
CONFIG = GuardConfig()
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def group(
    subjects: int, *, dislike: float = 0.02, strong: float = 0.1, arm: str = "", release: str = "r1"
) -> Reactions:
    """Subjects shown 10 items each, whose reactions are independent and as many as expected."""
    shown = 10 * subjects

    def moments(rate: float) -> Moments:
        total = round(rate * shown)
        return Moments(total, total * (1.0 + 9.0 * rate), 10.0 * total)

    return Reactions(
        arm,
        release,
        subjects,
        subjects,
        shown,
        100.0 * subjects,
        moments(2 * strong),
        moments(strong),
        moments(dislike),
        subjects,
        0.5,
        0.5,
    )


def by_name(guards: list[Guard]) -> dict[str, Verdict]:
    return {guard.name: guard.verdict for guard in guards}


BEFORE = Side(group(1000), Requests(made=5000, failed=5, slow=50))


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (Side(group(1000), Requests(5000, 5, 50)), set()),
        (Side(group(1000, dislike=0.022, strong=0.095), Requests(5000, 20, 80)), set()),
        (Side(group(1000, dislike=0.06), Requests(5000, 5, 50)), {"dislike_rate"}),
        (Side(group(1000, strong=0.03), Requests(5000, 5, 50)), {"strong_positive_rate"}),
        (Side(group(1000), Requests(5000, 400, 50)), {"error_rate"}),
        (Side(group(1000), Requests(5000, 5, 1000)), {"slow_rate"}),
        (Side(group(30, dislike=0.5), Requests(50, 50, 50)), set()),  # too few to judge
    ],
)
def test_a_guard_is_lost_to_what_is_surely_worse(ours: Side, expected: set[str]) -> None:
    assert {guard.name for guard in lost(ask_guards(ours, BEFORE, CONFIG))} == expected


def test_too_little_is_said_to_be_too_little() -> None:
    found = by_name(ask_guards(Side(group(30)), BEFORE, CONFIG))
    assert set(found.values()) == {Verdict.SKIPPED}
    enough = by_name(ask_guards(Side(group(100)), BEFORE, CONFIG))
    assert (enough["dislike_rate"], enough["error_rate"]) == (Verdict.HELD, Verdict.SKIPPED)


def test_the_numbers_say_what_was_held_against_what() -> None:
    disliked = ask_guards(Side(group(1000, dislike=0.06)), BEFORE, CONFIG)[0]
    assert (disliked.value, disliked.other, disliked.counted) == (0.06, 0.02, 10_000)
    assert disliked.limit == pytest.approx(0.025)
    assert "dislike_rate 0.0600 of 10000, lost: limit 0.0250" in str(disliked)


def test_looking_after_every_few_lists_does_not_fire_on_a_release_that_is_as_good() -> None:
    # Just at the margin: a hundred looks, two hundred histories, each may err in 1 - confidence of them.
    config = GuardConfig(confidence=0.9, dislike_margin=0.0, strong_positive_margin=0.0)
    fired = 0
    for rng in np.random.default_rng(1).spawn(200):
        before = simulated(rng, 800)
        now = simulated(rng, 2000)
        fired += any(
            lost(ask_guards(Side(summed(now[:n])), Side(summed(before)), config)) for n in range(50, 2001, 50)
        )
    assert fired <= 0.1 * 200


def simulated(rng: np.random.Generator, subjects: int) -> Any:
    """Reactions (subjects, 2) to 10 items each: strong positives, dislikes; a subject has its own rates."""
    own = rng.beta(2.0, 18.0, subjects), rng.beta(1.0, 30.0, subjects)
    return np.stack([rng.binomial(10, rate) for rate in own], axis=1)


def summed(reacted: Any) -> Reactions:
    strong, dislikes = (
        Moments(int(column.sum()), float((column**2).sum()), float(10 * column.sum())) for column in reacted.T
    )
    n = len(reacted)
    return Reactions("", "r", n, n, 10 * n, 100.0 * n, strong, strong, dislikes, n, 0.0, 0.0)


# --- the monitor


@dataclass
class Record:
    """`ExperimentRecord` in memory; `lists` by release and by (arm, release)."""

    experiment: Experiment | None = None
    lists: dict[Key, Reactions] = field(default_factory=dict)
    acts: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[datetime, datetime | None, str]] = field(default_factory=list)
    fault: Exception | None = None

    def start_experiment(self, use_case: str, **given: Any) -> Experiment:
        if self.fault:
            raise self.fault
        self.experiment = Experiment(use_case=use_case, start_time=NOW, **given)
        return self.experiment

    def stop_experiment(self, experiment_id: str, *, reason: str) -> Experiment:
        assert self.experiment is not None
        assert self.experiment.experiment_id == experiment_id
        self.experiment = replace(self.experiment, stop_time=NOW, stop_reason=reason)
        return self.experiment

    def running_experiment(self, use_case: str) -> Experiment | None:
        return self.experiment if self.experiment and self.experiment.runs else None

    def reactions(
        self,
        use_case: str,
        from_time: datetime,
        to_time: datetime | None = None,
        release: str = "",
        *,
        by_arm: bool = True,
        by_release: bool = True,
    ) -> tuple[Reactions, ...]:
        self.asked.append((from_time, to_time, release))
        return tuple(each for (_, served), each in self.lists.items() if release in ("", served))

    def record_act(self, use_case: str, kind: ActKind, **given: Any) -> bool:
        self.acts.append({"use_case": use_case, "kind": kind, **given})
        return True

    def serve(self, *groups: Reactions) -> None:
        self.lists.update({(each.arm, each.release): each for each in groups})


class World:
    """A registry with releases r1, r2, r3, promoted a day apart, a record, a monitor."""

    def __init__(self, folder: Path, releases: Iterable[str] = ("r1", "r2", "r3")) -> None:
        self.now = NOW
        self.registry = FolderRegistry(folder / "registry")
        self.record = Record()
        self.requests: dict[Key, Requests] = {}
        for release in releases:
            built = build_release(folder / release, USE_CASE, release=release, seed=int(release[1:]))
            registered = self.registry.register(built, USE_CASE.id, run_id=None, metrics={})
            self.now += timedelta(days=1)
            promote_version(self.registry, registered, clock=lambda: self.now)
        self.promoted = self.now
        self.now += timedelta(hours=2)
        self.monitor = self.watching(CONFIG)

    def watching(self, config: GuardConfig) -> Monitor:
        return Monitor(
            USE_CASE.id,
            self.registry,
            self.record,
            config,
            clock=lambda: self.now,
            requests=lambda: self.requests,
        )

    @property
    def champion(self) -> str:
        found = self.registry.resolve(USE_CASE.id, CHAMPION)
        assert found is not None
        return found.release


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_champion_that_does_no_harm_stays(world: World) -> None:
    world.record.serve(group(1000, release="r2"), group(1000, release="r3"))
    (look,) = world.monitor.look()
    assert (look.release, look.other, look.done) == ("r3", "r2", None)
    assert world.champion == "r3"
    assert not world.record.acts
    ours, theirs = world.record.asked
    assert ours == (world.promoted, world.now - timedelta(minutes=CONFIG.settle_minutes), "r3")
    assert theirs == (world.promoted - timedelta(days=CONFIG.baseline_days), world.promoted, "r2")


def test_a_champion_that_does_harm_is_taken_back_once_and_the_record_says_why(world: World) -> None:
    world.record.serve(group(1000, release="r2"), group(300, release="r3", dislike=0.3))
    (look,) = world.monitor.look()
    assert look.done is ActKind.ROLLED_BACK
    assert world.champion == "r2"
    (act,) = world.record.acts
    assert (act["kind"], act["automatic"], act["release"]) == (ActKind.ROLLED_BACK, True, "r3")
    assert "dislike_rate 0.3000 of 3000, limit 0.0250 (0.0200 with r2)" in act["reason"]
    disliked = next(each for each in act["numbers"] if each.name == "dislike_rate")
    assert (disliked.value, disliked.threshold) == (0.3, pytest.approx(0.025))
    taken_back = next(each for each in world.registry.list(USE_CASE.id) if each.release == "r3")
    assert taken_back.rollback_reason == act["reason"]
    # r2 is guarded from now on, beside r1, with no lists since: nothing to act on.
    world.now += timedelta(minutes=1)
    (again,) = world.monitor.look()
    assert (again.release, again.other, again.done) == ("r2", "r1", None)
    assert len(world.record.acts) == 1


def test_errors_and_slow_lists_take_it_back_too(world: World) -> None:
    world.record.serve(group(1000, release="r2"), group(300, release="r3"))
    world.requests = {
        ("", "r2"): Requests(4000, 4, 0),
        ("champion", "r2"): Requests(1000, 1, 0),
        ("", "r3"): Requests(600, 60, 0),
    }
    (look,) = world.monitor.look()
    assert look.done is ActKind.ROLLED_BACK
    assert "error_rate 0.1000 of 600" in look.reason


def test_what_nothing_can_be_compared_with_is_left_alone(tmp_path: Path) -> None:
    alone = World(tmp_path, ["r1"])
    alone.record.serve(group(1000, dislike=0.9))
    (look,) = alone.monitor.look()
    assert (look.other, look.guards, look.done) == ("", (), None)
    assert World(tmp_path / "empty", []).monitor.look() == []


def test_a_champion_is_not_watched_for_ever(world: World) -> None:
    world.record.serve(group(1000, release="r2"), group(1000, release="r3", dislike=0.9))
    world.now += timedelta(days=CONFIG.watch_days)
    (look,) = world.monitor.look()
    assert (look.guards, look.done) == ((), None)


def test_a_challenger_that_does_harm_loses_its_experiment_and_the_champion_stays(world: World) -> None:
    world.registry.set_alias(USE_CASE.id, CHALLENGER, "1")
    world.record.experiment = Experiment("e1", USE_CASE.id, 0.3, "r3", "r1", NOW)
    world.record.serve(
        group(700, arm="champion", release="r3"),
        group(20, arm="challenger", release="r3", strong=0.0),
        group(280, arm="challenger", release="r1", strong=0.01),
        group(1000, release="r2"),
    )
    challenged, champion = world.monitor.look()
    assert (challenged.release, challenged.other, challenged.done) == ("r1", "r3", ActKind.EXPERIMENT_STOPPED)
    assert champion.done is None
    assert world.record.running_experiment(USE_CASE.id) is None
    assert world.registry.resolve(USE_CASE.id, CHALLENGER) is None
    (act,) = world.record.acts
    assert (act["kind"], act["automatic"], act["release"]) == (ActKind.EXPERIMENT_STOPPED, True, "r1")
    assert world.record.experiment.stop_reason == act["reason"]
    assert "strong_positive_rate" in act["reason"]
    assert world.champion == "r3"


# --- starting and stopping


def start(world: World, **changes: Any) -> Experiment:
    given: dict[str, Any] = {"share": 0.3, "challenger": None, **changes}
    return start_experiment(world.registry, world.record, USE_CASE.id, clock=lambda: world.now, **given)


def test_an_experiment_is_started_and_stopped_in_both_places(world: World, tmp_path: Path) -> None:
    newer = world.registry.register(
        build_release(tmp_path / "r4", USE_CASE, release="r4"), USE_CASE.id, run_id=None, metrics={}
    )
    begun = start(world)
    assert (begun.champion_release, begun.challenger_release, begun.challenger_share) == ("r3", "r4", 0.3)
    challenger = world.registry.resolve(USE_CASE.id, CHALLENGER)
    assert challenger is not None
    assert challenger.version == newer.version
    with pytest.raises(Conflict, match="runs already"):
        start(world, challenger="r1")
    stop_experiment(world.registry, world.record, begun, reason="enough")
    assert world.registry.resolve(USE_CASE.id, CHALLENGER) is None
    kinds = [(act["kind"], act["automatic"]) for act in world.record.acts]
    assert kinds == [(ActKind.EXPERIMENT_STARTED, False), (ActKind.EXPERIMENT_STOPPED, False)]
    assert start(world, challenger="1").challenger_release == "r1"


def test_what_a_gate_refused_is_tried_only_when_it_is_named(world: World, tmp_path: Path) -> None:
    refused = world.registry.register(
        build_release(tmp_path / "r4", USE_CASE, release="r4"), USE_CASE.id, run_id=None, metrics={}
    )
    note_gates(world.registry, refused, [Gate("ranker_ndcg@10", 0.1, 0.2, GateVerdict.REFUSED)], "r3")
    with pytest.raises(NotFound):
        start(world)
    assert start(world, challenger="r4").challenger_release == "r4"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"share": 0.0}, InvalidInput),
        ({"share": 1.0}, InvalidInput),
        ({"challenger": "r9"}, NotFound),
        ({"challenger": "r3"}, Conflict),
        ({}, NotFound),  # nothing is newer than the champion
    ],
)
def test_an_experiment_that_cannot_be_leaves_no_alias(
    world: World, changes: Mapping[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        start(world, **changes)
    assert world.registry.resolve(USE_CASE.id, CHALLENGER) is None


def test_a_store_that_is_away_starts_nothing(world: World) -> None:
    world.record.fault = Unavailable("away")
    with pytest.raises(Unavailable):
        start(world, challenger="r1")
    assert world.registry.resolve(USE_CASE.id, CHALLENGER) is None
    assert not world.record.acts


# --- what ranking_svc's metrics say


@pytest.fixture
def exposed() -> Iterator[tuple[Served, str]]:
    metrics = Metrics()
    exporter = Exporter(metrics)
    yield Served(metrics), f"http://127.0.0.1:{exporter.port}/metrics"
    exporter.stop()


def test_lists_are_read_as_they_were_counted(exposed: tuple[Served, str]) -> None:
    served, url = exposed
    good = Recommendation("s", (), None, "r1", "", reranked=True, degraded=())
    for seconds in (0.01, 0.2, 0.4, 3.0):
        served.made("user_movie", good, seconds)
    served.made("user_movie", replace(good, arm="challenger", degraded=("ranker",)), 0.01)
    served.failed("user_movie", "challenger", "r1", RuntimeError("a bug"), 20.0)
    served.failed("user_movie", "", "r1", Unavailable("candidate_svc is away"), 0.01)
    served.made("developer_startup", good, 0.01)
    found = read_requests([url, url], "user_movie", slow_seconds=0.25)
    assert found["", "r1"] == Requests(made=8, failed=0, slow=4)
    assert found["challenger", "r1"] == Requests(made=4, failed=4, slow=2)
    assert found["", ""] == Requests(made=2, failed=2, slow=0)
    assert read_requests([url], "user_movie", slow_seconds=0.3)["", "r1"].slow == 1  # the edge is 0.5


def test_a_process_that_does_not_answer_is_left_out(exposed: tuple[Served, str]) -> None:
    served, url = exposed
    served.made("user_movie", Recommendation("s", (), None, "r1", "", reranked=True, degraded=()), 0.01)
    gone = re.sub(r":\d+/", ":1/", url)
    assert read_requests([gone, url], "user_movie", slow_seconds=1.0) == {("", "r1"): Requests(made=1)}
    with pytest.raises(ValueError, match="http"):
        read_requests(["file:///etc/passwd"], "user_movie", slow_seconds=1.0)


def test_a_name_of_several_processes_is_asked_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a headless Service's is: one answer alone would be a part of the lists."""
    made = Recommendation("s", (), None, "r1", "", reranked=True, degraded=())
    first = Exporter(metrics := Metrics())
    second = Exporter(others := Metrics(), host="127.0.0.2", port=first.port)
    found = [(0, 0, 0, "", (host, first.port)) for host in ("127.0.0.1", "127.0.0.2", "127.0.0.2")]
    real = socket.getaddrinfo

    def resolve(host: str, *of: Any, **more: Any) -> Any:
        return found if host == "ranking" else real(host, *of, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    try:
        for process, lists in ((metrics, 1), (others, 2)):
            for _ in range(lists):
                Served(process).made("user_movie", made, 0.01)
        told = read_requests([f"http://ranking:{first.port}/metrics"], "user_movie", slow_seconds=1.0)
    finally:
        first.stop()
        second.stop()
    assert told == {("", "r1"): Requests(made=3)}


def test_an_answer_that_is_no_exposition_is_left_out() -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>no metrics</html>\xff")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        assert read_requests([url], "user_movie", slow_seconds=1.0) == {}
    finally:
        server.shutdown()
        server.server_close()
