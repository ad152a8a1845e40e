"""candidate_svc follows the challenger beside the champion, answers with it when asked, and forgets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from matchloop.candidate.v1 import candidate_service_pb2 as pb
from matchloop.errors import InvalidInput
from matchloop.feedback.v1 import session_pb2
from matchloop.testing.registries import FolderRegistry
from tests.candidate_release import write_release
from tests.candidate_rpc_world import ServingWorld
from tests.candidate_world import USE_CASE, startups
from tests.fake_feedback import until

ITEMS = startups(40)


@pytest.fixture
def registry(tmp_path: Path) -> FolderRegistry:
    return FolderRegistry(tmp_path / "registry")


@pytest.fixture
def world(tmp_path: Path, registry: FolderRegistry) -> Iterator[ServingWorld]:
    with ServingWorld(tmp_path / "world", registry, items=ITEMS) as made:
        yield made


def register(registry: FolderRegistry, folder: Path, release: str, alias: str, **more: Any) -> None:
    built = write_release(folder / release, ITEMS, release=release, **more)
    registered = registry.register(built, USE_CASE, run_id=None, metrics={})
    registry.set_alias(USE_CASE, alias, registered.version)


def release_of(world: ServingWorld, alias: str = "", **more: Any) -> str:
    request = pb.GetCandidatesRequest(use_case=USE_CASE, subject_id="d1", release_alias=alias, **more)
    return str(world.call("GetCandidates", request).release)


def serving(world: ServingWorld, alias: str, release: str) -> float:
    return world.value("release_info", use_case=USE_CASE, alias=alias, release=release)


def test_each_alias_has_its_release_and_one_that_is_gone_is_forgotten(
    world: ServingWorld, registry: FolderRegistry, tmp_path: Path
) -> None:
    assert release_of(world, "challenger") == ""
    register(registry, tmp_path, "r1", "champion")
    assert until(lambda: release_of(world) == "r1")
    # No challenger: the champion answers in its place, and says so.
    assert release_of(world, "challenger") == "r1"
    register(registry, tmp_path, "r2", "challenger", parts=("als",))
    assert until(lambda: release_of(world, "challenger") == "r2")
    assert {release_of(world), release_of(world, "champion")} == {"r1"}
    assert (serving(world, "champion", "r1"), serving(world, "challenger", "r2")) == (1.0, 1.0)
    of_champion_only = world.call(
        "GetCandidates",
        pb.GetCandidatesRequest(
            use_case=USE_CASE,
            subject_id="d1",
            release_alias="challenger",
            methods=[session_pb2.METHOD_TWO_TOWER, session_pb2.METHOD_CONTENT],
        ),
    )
    assert of_champion_only.skipped[0].method == session_pb2.METHOD_TWO_TOWER  # r2 has none
    registry.drop_alias(USE_CASE, "challenger")
    assert until(lambda: release_of(world, "challenger") == "r1")
    assert serving(world, "challenger", "r2") == 0.0
    assert serving(world, "champion", "r1") == 1.0


def test_another_alias_is_refused(world: ServingWorld) -> None:
    request = pb.GetCandidatesRequest(use_case=USE_CASE, subject_id="d1", release_alias="latest")
    error = world.error("GetCandidates", request)
    assert isinstance(error, InvalidInput)
    assert [violation.field for violation in error.violations] == ["release_alias"]
