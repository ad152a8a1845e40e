"""Trace: what was logged, and the data of a release that may serve no longer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from matchloop.errors import NotFound, Reason, ReleaseRefused, Unavailable
from matchloop.release.manifest import Manifest
from matchloop.release.registry import RegisteredRelease
from matchloop.rerank.features import FeatureColumns
from matchloop.rerank.scorer import Ranker
from matchloop.rpc import deadline
from matchloop.testing.registries import FolderRegistry
from matchloop.testing.releases import build_release
from matchloop.usecase import Exploration, Method, Tier
from ranking_svc import archive as archives
from ranking_svc.archive import Archive
from ranking_svc.tracing import Tracer
from tests.ranking_world import MOVIE, NOW, World, candidate, loaded, until

COLUMNS = FeatureColumns.of(MOVIE)
CREATED = datetime(2025, 11, 1, tzinfo=UTC)


class Registry(FolderRegistry):
    """Notes manifests read; `gate` holds up every call, of which `waiting` counts those begun."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read: list[str] = []
        self.waiting = 0
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Exception | None = None

    def manifest(self, registered: RegisteredRelease) -> Manifest:
        self.read.append(registered.release)
        if self.fault:
            raise self.fault
        return super().manifest(registered)

    def list(self, use_case: str) -> tuple[RegisteredRelease, ...]:
        self.waiting += not self.gate.is_set()
        assert self.gate.wait(10.0)
        return super().list(use_case)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    made = Registry(tmp_path / "registry")
    for number, name in enumerate(("r1", "r2", "r3")):
        created = CREATED + timedelta(days=number)
        folder = build_release(tmp_path / "built" / name, MOVIE, release=name, created=created)
        made.register(folder, MOVIE.id, run_id=None, metrics={})
    yield made
    made.gate.set()


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    return Ranker.load(build_release(tmp_path_factory.mktemp("release"), MOVIE) / "ranker", MOVIE)


def tracer(world: World, archive: Archive | None = None) -> Tracer:
    return Tracer(world.store, world.releases, archive, world.metrics)


def served(world: World, release: str) -> str:
    """Serve a list of a release that is loaded, and unload it again."""
    world.slot.loaded, world.candidates.release = (loaded(release, None),), release
    session_id: str = world.recommend().session_id
    world.slot.loaded = ()
    return session_id


def test_a_list_is_traced_to_all_that_made_it(world: World, ranker: Ranker) -> None:
    world.slot.loaded, world.candidates.release = (loaded("r1", ranker),), "r1"
    world.candidates.items = [candidate(n, method=Method.ALS, score=20.0 - n) for n in range(12)]
    world.pipeline = replace(world.pipeline, exploration={MOVIE.id: Exploration(share=0.5)})
    answer = world.recommend()
    trace = tracer(world).trace(answer.session_id)

    assert (trace.session.tier, trace.session.arm, trace.session.release) == (Tier.WARM, "", "r1")
    assert (trace.data_manifest_sha256, trace.snapshot_watermark) == ("a" * 64, 17)
    assert (trace.release_create_time, trace.degraded) == (NOW, ())
    raw = {each.item_id: each.score for each in world.candidates.items}
    for shown, told, logged in zip(answer.items, trace.items, trace.session.items, strict=True):
        assert (told.item_id, told.method, told.score) == (shown.item_id, Method.ALS, shown.score)
        assert told.propensity == logged.propensity in (0.5, 0.25, 0.75, 1.0)
        assert told.explanation is not None
        assert told.explanation.retrieval_score == raw[told.item_id]
        assert dict(told.explanation.features).keys() == set(COLUMNS.names)
        assert told.explanation.original_score == pytest.approx(logged.features[COLUMNS.original_score])
    with pytest.raises(NotFound):
        tracer(world).trace("nothing")


def test_a_release_that_serves_no_longer_is_asked_of_the_registry_once(
    world: World, registry: Registry
) -> None:
    session, other = served(world, "r1"), served(world, "r2")
    archive = Archive(registry)
    for _ in range(3):
        trace = tracer(world, archive).trace(session)
        assert (trace.data_manifest_sha256, trace.snapshot_watermark) == ("0" * 64, 1)
        assert trace.release_create_time == CREATED
        assert tracer(world, archive).trace(other).release_create_time == CREATED + timedelta(days=1)
    assert registry.read == ["r1", "r2"]
    registry.available = False
    assert tracer(world, archive).trace(session).degraded == ()


def test_what_is_kept_is_bounded(registry: Registry) -> None:
    archive = Archive(registry, kept=2)
    for name in ("r1", "r2", "r1", "r3", "r1", "r2"):
        assert archive.manifest(MOVIE.id, name).release == name
    assert registry.read == ["r1", "r2", "r3", "r2"]


@pytest.mark.parametrize(
    "fault",
    [
        Unavailable("away", reason=Reason.REGISTRY_UNAVAILABLE),
        ReleaseRefused("broken"),
        ZeroDivisionError("a bug of the registry's client"),
    ],
)
def test_without_the_registry_it_tells_what_was_logged(
    world: World, registry: Registry, fault: Exception
) -> None:
    session = served(world, "r1")
    archive = Archive(registry)
    registry.fault = fault
    trace = tracer(world, archive).trace(session)
    assert (trace.data_manifest_sha256, trace.snapshot_watermark, trace.release_create_time) == ("", 0, None)
    assert trace.degraded == ("registry",)
    assert trace.session.release == "r1"
    assert trace.items[0].explanation is not None
    assert world.degraded("registry") == 1
    registry.fault = None
    assert tracer(world, archive).trace(session).data_manifest_sha256 == "0" * 64


def test_a_release_nobody_registered_is_no_fault(world: World, registry: Registry) -> None:
    trace = tracer(world, Archive(registry)).trace(served(world, "r9"))
    assert (trace.data_manifest_sha256, trace.degraded) == ("", ())
    trace = tracer(world).trace(served(world, "r1"))
    assert (trace.data_manifest_sha256, trace.degraded) == ("", ())


def test_a_registry_that_hangs_costs_no_more_than_the_wait(world: World, registry: Registry) -> None:
    registry.gate.clear()
    session = served(world, "r1")
    archive = Archive(registry, wait_seconds=0.01)
    for _ in range(2 * archives.LOOKUPS):
        assert tracer(world, archive).trace(session).degraded == ("registry",)
    assert registry.waiting == 1  # one lookup, whoever waits for it
    for number in range(2 * archives.LOOKUPS):
        with pytest.raises(Unavailable, match=r"no answer in|lookups wait for it"):
            archive.manifest(MOVIE.id, f"x{number}")
    assert registry.waiting == archives.LOOKUPS
    registry.gate.set()
    until(lambda: tracer(world, archive).trace(session).degraded == ())


def test_the_caller_s_own_time_is_kept(registry: Registry) -> None:
    registry.gate.clear()
    archive = Archive(registry, wait_seconds=60.0)
    with deadline.budget(archives.RESERVE_SECONDS + 0.01), pytest.raises(Unavailable, match="no answer in"):
        archive.manifest(MOVIE.id, "r1")


def test_a_list_of_before_features_were_logged_has_no_explanation(world: World) -> None:
    world.candidates.fault = Unavailable("away", reason=Reason.UPSTREAM_UNAVAILABLE)
    answer: Any = world.rank("m1", "m2")
    trace = tracer(world).trace(answer.session_id)
    assert [each.explanation and each.explanation.features for each in trace.items] == [(), ()]
    assert [each.explanation and each.explanation.retrieval_score for each in trace.items] == [1.0, 0.0]
