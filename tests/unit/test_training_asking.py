"""Every trigger asked over gRPC; lists since read by pages; a run that is alone, or does not promote."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from matchloop.acts import ActKind
from matchloop.errors import InvalidInput
from matchloop.feedback.v1 import feedback_service_pb2 as feedback
from matchloop.feedback.v1 import session_pb2
from matchloop.release import CHAMPION
from matchloop.rpc.convert import timestamp
from matchloop.testing.registries import FolderRegistry
from tests.feedback_rpc_world import World
from tests.feedback_worlds import NOW
from tests.unit.test_training_retrain import quick
from tests.unit.training_worlds import INVESTORS, ranked_world, rule_scores
from training_jobs import served
from training_jobs.asking import decision_of, drift_since
from training_jobs.champion_folder import champion_folder
from training_jobs.commands import retrain as command
from training_jobs.commands.drift import record_drift
from training_jobs.commands.steps import Asked
from training_jobs.config import TriggerConfig
from training_jobs.drift import Drift
from training_jobs.operations import Operations
from training_jobs.retrain import Retraining, retrain, utc_now
from training_jobs.served import served_lists

NAMES = INVESTORS.ranking.features
CONFIG = TriggerConfig(drift_least_lists=50, drift_lists=500)


@pytest.fixture
def world() -> Iterator[World]:
    with World() as running:
        yield running


@pytest.fixture
def operations(world: World) -> Iterator[Operations]:
    with Operations(world.address) as client:
        yield client


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[FolderRegistry, Path, str]:
    """A champion without a ranker, from 60 lists, made a day before `NOW`."""
    folder = tmp_path_factory.mktemp("trained")
    registry = FolderRegistry(folder / "registry")
    snapshot = ranked_world(folder / "world", lists=60).folder
    config = quick(triggers=CONFIG)
    clock = lambda: NOW - timedelta(days=1)  # noqa: E731
    done = retrain(INVESTORS, snapshot, registry, config, work=folder / "work", clock=clock)
    assert done.promoted
    return registry, folder / "work", done.release


def serve(world: World, release: str, count: int, *, recency: float = 1.0, **more: Any) -> None:
    """Store lists a minute apart, the last one a minute before `NOW`; features uniform as the world's."""
    rng = np.random.default_rng(count)
    sessions = []
    for number in range(count):
        features = rng.random((5, len(NAMES))).astype(np.float32)
        features[:, NAMES.index("recency")] *= recency
        told = {
            "session_id": f"{release}-{recency}-{count}-{number}",
            "subject_id": f"a{number % 30}",
            "release": release,
            "source": session_pb2.SESSION_SOURCE_RANKING,
            "feature_names": NAMES,
            "serve_time": timestamp(NOW - timedelta(minutes=count - number)),
        }
        session = session_pb2.Session(use_case=INVESTORS.id, tier=session_pb2.TIER_COLD, **{**told, **more})
        for at, (row, score) in enumerate(zip(features, rule_scores(INVESTORS, features), strict=True)):
            session.items.add(item_id=f"s{at}", score=score, method=session_pb2.METHOD_ALS)
            if session.feature_names:
                session.items[-1].features.extend(row.tolist())
        sessions.append(session)
    for at in range(0, count, 100):
        world.call("RecordSessions", feedback.RecordSessionsRequest(sessions=sessions[at : at + 100]))


def lists(world: World, *, reranked: bool = False, config: TriggerConfig = CONFIG) -> Any:
    return served_lists(world.address, INVESTORS, "r", config, now=NOW, reranked=reranked)


def test_lists_since_are_the_release_s_own_that_were_ranked_by_features(world: World) -> None:
    serve(world, "r", 130)
    serve(world, "other", 20)
    serve(world, "r", 21, source=session_pb2.SESSION_SOURCE_CLIENT)
    serve(world, "r", 22, feature_names=[])
    serve(world, "r", 23, feature_names=NAMES[::-1])
    found = lists(world)

    assert (len(found), found.subjects, found.features.shape) == (130, 30, (650, len(NAMES)))
    assert (found.first, found.last) == (NOW - timedelta(minutes=130), NOW - timedelta(minutes=1))
    assert len(lists(world, reranked=True)) == 0
    serve(world, "r", 24, reranked=True)
    assert len(lists(world, reranked=True)) == 24


def test_lists_since_have_the_values_that_were_logged(world: World) -> None:
    serve(world, "r", 1)
    stored = world.call("ListSessions", feedback.ListSessionsRequest(use_case=INVESTORS.id)).sessions[0]
    found = lists(world)

    assert found.features[2].tolist() == pytest.approx(list(stored.items[2].features))
    assert found.score.tolist() == pytest.approx([item.score for item in stored.items])
    assert found.method.tolist() == ["als"] * 5


def test_of_more_lists_than_are_wanted_all_the_time_is_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "SLICES", 7)
    serve(world, "r", 280)
    config = TriggerConfig(drift_days=280 / (24 * 60), drift_lists=70)
    found = lists(world, config=config)

    assert len(found) == 70
    assert found.last == NOW - timedelta(minutes=1)
    assert found.first == NOW - timedelta(minutes=250)
    assert len(lists(world, config=TriggerConfig(drift_days=70 / (24 * 60), drift_lists=70))) == 70


def decision(world: World, operations: Operations, trained: Any, **more: Any) -> Any:
    registry, work, _ = trained
    config = CONFIG.model_copy(update=more)
    now = NOW + timedelta(minutes=1)
    return decision_of(INVESTORS, world.address, operations, registry, config, work=work, now=now)


def test_drift_since_is_due(
    world: World, operations: Operations, trained: tuple[FolderRegistry, Path, str]
) -> None:
    serve(world, trained[2], 100)
    quiet = decision(world, operations, trained)
    serve(world, trained[2], 101, recency=0.1)
    due = decision(world, operations, trained)

    assert [trigger.known for trigger in quiet.triggers] == [True] * 5
    assert (quiet.runs, quiet.why) == (False, "nothing is due")
    assert quiet.triggers[-1].note.startswith("nothing drifted")
    assert quiet.triggers[-2].value == pytest.approx(1.0, abs=0.01)
    assert (due.runs, due.why) == (True, "drift due")
    assert due.triggers[-1].note.startswith("recency")


def test_too_few_lists_are_no_drift(
    world: World, operations: Operations, trained: tuple[FolderRegistry, Path, str]
) -> None:
    serve(world, trained[2], 49, recency=0.1)
    found = decision(world, operations, trained)

    assert (found.runs, found.unknown) == (False, ())
    assert found.triggers[-1].note == "49 lists served since, 50 are needed"


def test_what_cannot_be_asked_is_said_and_not_due(
    world: World, operations: Operations, trained: tuple[FolderRegistry, Path, str], tmp_path: Path
) -> None:
    registry = FolderRegistry(tmp_path)
    registry.available = False
    asked: Any = {"work": tmp_path, "now": NOW}
    found = decision_of(INVESTORS, world.address, operations, registry, CONFIG, **asked)

    assert not found.runs
    assert found.unknown == ("age", "drift")
    assert "switched off" in found.triggers[-1].note


def test_without_a_champion_it_is_due(world: World, operations: Operations, tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path)
    asked: Any = {"work": tmp_path, "now": NOW}
    found = decision_of(INVESTORS, world.address, operations, registry, CONFIG, **asked)
    operations.record_act(INVESTORS.id, ActKind.RETRAINED, automatic=True)
    again = decision_of(INVESTORS, world.address, operations, registry, CONFIG, **asked)

    assert (found.runs, found.why) == (True, "age due")
    assert not again.runs
    assert again.why.startswith("age due, but 1 run since promoted nothing that lasts")


def test_a_release_from_before_there_were_lists_has_no_baseline(
    world: World, trained: tuple[FolderRegistry, Path, str]
) -> None:
    registry, work, _ = trained
    champion = registry.resolve(INVESTORS.id, CHAMPION)
    assert champion is not None
    folder = champion_folder(registry, champion, work)
    assert folder.is_relative_to(work)
    copy = work / "copy"
    copy.mkdir()
    (copy / "manifest.json").write_bytes((folder / "manifest.json").read_bytes())

    found = drift_since(INVESTORS, world.address, champion, copy, CONFIG, now=NOW)
    assert found.untold == f"no baseline: {champion.release} was trained before there were lists"
    assert found.drifted == ()


def test_drift_is_recorded_once_a_day(operations: Operations) -> None:
    found = Drift("r")

    assert record_drift(operations, INVESTORS.id, found, NOW)
    assert not record_drift(operations, INVESTORS.id, found, NOW + timedelta(hours=11))
    assert record_drift(operations, INVESTORS.id, found, NOW + timedelta(hours=13))
    assert [act.release for act in operations.acts(INVESTORS.id, kinds=[ActKind.DRIFTED])] == ["r", "r"]


@dataclass(frozen=True)
class Small(Asked):
    """A retraining of a small world; `during` is called when it is trained, before the gates."""

    world: Path
    during: Callable[[], None]

    def retraining(self, may_promote: Callable[[], None] | None = None) -> Retraining:
        during = self.during

        class Interrupted(Retraining):
            def register(self) -> Any:
                during()
                return super().register()

        more: Any = {"work": self.work, "may_promote": may_promote}
        return Interrupted(self.use_case, self.world, self.registry, self.config, **more)


def small(folder: Path, during: Callable[[], None] = lambda: None, *, lease_seconds: int = 120) -> Small:
    config = quick(triggers=TriggerConfig(lease_seconds=lease_seconds))
    registry: Any = FolderRegistry(folder / "registry")
    world = ranked_world(folder / "world", lists=60).folder
    return Small(INVESTORS, registry, config, folder / "work", None, "", False, world, during)


def test_a_run_that_lost_its_lease_promotes_nothing(world: World, tmp_path: Path) -> None:
    """The store goes away for longer than the lease holds, while the run trains."""
    gone = threading.Event()

    def go() -> None:
        if not gone.is_set():
            world._server.stop()
            gone.set()
            gone_for = threading.Event()
            gone_for.wait(6.0)  # the lease's 5 seconds, by the clock of the run

    asked = small(tmp_path, go, lease_seconds=5)
    with pytest.raises(typer.Exit) as ended:
        command.retrain(asked, feedback=world.address)

    assert ended.value.exit_code == command.OVERLAPS
    assert asked.registry.resolve(INVESTORS.id, CHAMPION) is None
    assert len(asked.registry.list(INVESTORS.id)) == 1


def test_while_another_run_has_the_lease_nothing_is_asked(
    world: World, operations: Operations, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = small(tmp_path)
    with (
        operations.lease(f"retrain/{INVESTORS.id}", holder="the other"),
        pytest.raises(typer.Exit) as ended,
    ):
        command.retrain(asked, feedback=world.address, if_due=True)

    assert ended.value.exit_code == command.OVERLAPS
    assert operations.acts(INVESTORS.id) == ()
    assert "held by `the other` until" in capsys.readouterr().out


def test_runs_end_as_they_say(
    world: World, operations: Operations, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No champion: due. Then nothing is. With the registry away, what could not be asked has its code."""
    world.now = utc_now()  # as the command's
    asked = small(tmp_path)
    command.retrain(asked, feedback=world.address, if_due=True)
    assert "retraining: age due" in capsys.readouterr().out
    command.retrain(asked, feedback=world.address, if_due=True)
    assert "not retrained: nothing is due" in capsys.readouterr().out
    registry: Any = asked.registry
    registry.available = False
    with pytest.raises(typer.Exit) as ended:
        command.retrain(asked, feedback=world.address, if_due=True)
    assert ended.value.exit_code == command.UNASKED

    kinds = {act.kind for act in operations.acts(INVESTORS.id)}
    assert kinds == {ActKind.RETRAINED, ActKind.PROMOTED, ActKind.NOT_DUE}
    with pytest.raises(InvalidInput, match="--feedback"):
        command.retrain(asked, if_due=True)
