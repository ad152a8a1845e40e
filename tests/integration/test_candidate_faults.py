"""Catalogues with next to nothing in them, and releases that must not be taken: what candidate_svc says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from candidate_svc import __main__ as candidate_main
from candidate_svc.settings import CandidateSettings
from matchloop.candidate.v1 import candidate_pb2
from matchloop.candidate.v1 import candidate_service_pb2 as pb
from matchloop.candidate.v1.candidate_service_pb2_grpc import CandidateServiceStub
from matchloop.catalog.v1 import entity_pb2
from matchloop.entities import Categorical, Entity, EntityId, EntityKey, Kind, Multi
from matchloop.feedback.v1 import session_pb2
from matchloop.ranking.v1 import ranking_service_pb2 as ranking_pb
from matchloop.release.manifest import MANIFEST_FILE
from matchloop.rpc.channel import call, open_channel
from matchloop.testing.registries import FolderRegistry
from tests.candidate_release import write_manifest, write_release
from tests.candidate_rpc_world import ServingWorld
from tests.candidate_world import (
    USE_CASE,
    FakeStore,
    developer,
    event,
    startup,
    startups,
    state,
    use_case,
)
from tests.fake_feedback import fake_feedback, until

BARE = """
id = "seeker_thing"
title = "Seekers look for a thing; nothing is known of either"
subject = "seeker"
item = "thing"

[events]
click = { weight = 1.0, label = 0.6 }
like = { weight = 2.0, label = 0.8, strong = true }
dislike = { weight = -1.0, label = 0.0 }

[features.seeker]

[features.thing]

[dislikes]
other = {}
"""


def get(world: ServingWorld, **more: Any) -> pb.GetCandidatesResponse:
    asked = {"use_case": USE_CASE, "subject_id": "d1", **more}
    reply: pb.GetCandidatesResponse = world.call("GetCandidates", pb.GetCandidatesRequest(**asked))
    return reply


def ids(candidates: Any) -> list[str]:
    return [each.item_id for each in candidates]


# --- next to nothing


@pytest.fixture(params=[0, 1], ids=["empty", "one item"])
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ServingWorld, int]]:
    with ServingWorld(tmp_path, items=startups(request.param)) as made:
        yield made, request.param


def test_an_empty_catalogue_and_one_item_are_answered(tiny: tuple[ServingWorld, int]) -> None:
    world, count = tiny
    every = ["s0"][:count]
    assert ids(get(world).candidates) == every
    assert ids(get(world, subject_id="stranger", explain=True).candidates) == every
    assert not get(world, exclude_item_ids=["s0"]).candidates
    assert ids(get(world, methods=[session_pb2.METHOD_POPULAR]).candidates) == every
    trending = world.call("ListTrending", pb.ListTrendingRequest(use_case=USE_CASE))
    assert (ids(trending.candidates), trending.next_page_token) == (every, "")
    if count:
        similar = world.call("GetSimilarItems", pb.GetSimilarItemsRequest(use_case=USE_CASE, item_id="s0"))
        assert not similar.candidates
    shown = world.call("Recommend", ranking_pb.RecommendRequest(use_case=USE_CASE, subject_id="d1"))
    assert ids(shown.items) == every


def test_values_never_seen_and_filters_that_nothing_fits(tmp_path: Path) -> None:
    folder, registry = tmp_path / "r1", FolderRegistry(tmp_path / "registry")
    promote(registry, write_release(folder, startups(40)))
    with ServingWorld(tmp_path, registry) as world:
        assert until(lambda: get(world).release == "r1")
        unseen = entity_pb2.FeatureValue(multi=entity_pb2.Values(values=["never seen", "\u202e"]))
        reply = get(world, subject_id="stranger", subject_features={"categories": unseen}, explain=True)
        assert len(reply.candidates) == 20
        assert {each.method for each in reply.candidates} == {session_pb2.METHOD_POPULAR}
        assert [skip.reason for skip in reply.skipped] == [candidate_pb2.SKIP_REASON_TOO_FEW]
        towers = get(world, subject_features={"categories": unseen}, methods=[session_pb2.METHOD_TWO_TOWER])
        assert len(towers.candidates) == 20
        world.store.upsert(startup("odd", category=Categorical("never seen")))
        assert until(lambda: "odd" in ids(get(world, count=500).candidates))
        nothing = candidate_pb2.FeatureFilter(feature="category", equals="no item has it")
        assert not get(world, filters=[nothing]).candidates
        assert not world.call(
            "ListTrending", pb.ListTrendingRequest(use_case=USE_CASE, filters=[nothing])
        ).candidates


def test_kinds_without_features_are_served_by_what_subjects_did(tmp_path: Path) -> None:
    (tmp_path / "bare.toml").write_text(BARE, encoding="utf-8")
    store = FakeStore()
    store.upsert(*(Entity(EntityKey(Kind("thing"), EntityId(f"t{i}"))) for i in range(5)))
    store.states["x"] = state(None, [event("t1"), event("t2", "click")], hidden=frozenset({EntityId("t1")}))
    feedback, _ = fake_feedback(store)
    feedback.start()
    settings = CandidateSettings(
        feedback_address=feedback.address,
        cache_folder=tmp_path,
        use_case_folders=(tmp_path,),
        grace_seconds=0.0,
    )
    application = candidate_main.build(settings)
    application.start()
    application.server.start()
    assert application.mirror.wait_ready(10.0)
    channel = open_channel(application.server.address)
    request = pb.GetCandidatesRequest(use_case="seeker_thing", subject_id="x", explain=True)
    reply = call(CandidateServiceStub(channel).GetCandidates, request, upstream="candidate_svc")
    channel.close()
    application.server.stop()
    feedback.stop()
    assert sorted(ids(reply.candidates)) == ["t0", "t2", "t3", "t4"]
    assert [(skip.method, skip.reason) for skip in reply.skipped] == [
        (session_pb2.METHOD_CONTENT, candidate_pb2.SKIP_REASON_NO_SIGNAL)
    ]


# --- releases


def promote(registry: FolderRegistry, folder: Path) -> Path:
    """Register and promote; return where the registry keeps it."""
    registered = registry.register(folder, USE_CASE, run_id=None, metrics={})
    registry.set_alias(USE_CASE, "champion", registered.version)
    return registry.root / USE_CASE / registered.version


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[tuple[ServingWorld, FolderRegistry]]:
    """A world that serves release r1."""
    registry = FolderRegistry(tmp_path / "registry")
    promote(registry, write_release(tmp_path / "r1", startups(40)))
    with ServingWorld(tmp_path, registry) as world:
        world.store.states["w"] = state(
            developer("w", categories=Multi(("games",))), [event("s2")], interaction_count=9
        )
        assert until(lambda: get(world).release == "r1")
        yield world, registry


def refused(world: ServingWorld, reason: str) -> bool:
    return world.value("release_refused_total", use_case=USE_CASE, reason=reason) == 1


def still_serves_the_old_one(world: ServingWorld) -> None:
    reply = get(world, subject_id="w")
    assert reply.release == "r1"
    assert {each.method for each in reply.candidates} == {session_pb2.METHOD_TWO_TOWER}
    assert not reply.skipped


def test_a_release_of_another_schema_is_refused_with_both_fingerprints(
    serving: tuple[ServingWorld, FolderRegistry], tmp_path: Path
) -> None:
    world, registry = serving
    other = "0123456789ab"
    with capture_logs() as logs:
        stored = promote_hidden(registry, write_release(tmp_path / "r2", startups(40), release="r2"))
        path = stored / MANIFEST_FILE
        path.write_text(path.read_text().replace(use_case().schema_fingerprint, other))
        registry.set_alias(USE_CASE, "champion", "2")
        assert until(lambda: refused(world, "SCHEMA_MISMATCH"))
    told = next(entry for entry in logs if entry.get("reason") == "SCHEMA_MISMATCH")
    assert use_case().schema_fingerprint in told["fault"]
    assert other in told["fault"]
    assert (told["release"], told["serving"]) == ("r2", "r1")
    still_serves_the_old_one(world)


def promote_hidden(registry: FolderRegistry, folder: Path) -> Path:
    """Register without promoting; return where the registry keeps it."""
    registered = registry.register(folder, USE_CASE, run_id=None, metrics={})
    return registry.root / USE_CASE / registered.version


@pytest.mark.parametrize(
    "array",
    [
        "als/item_factors.npy",
        "als/subject_factors.npy",
        "two_tower/item_vectors.npy",
        "popular/overall.npy",
        "popular/segment0_count.npy",
    ],
)
def test_a_release_with_a_nan_is_refused_by_name(
    serving: tuple[ServingWorld, FolderRegistry], tmp_path: Path, array: str
) -> None:
    world, registry = serving
    folder = write_release(tmp_path / "r2", startups(40), release="r2")
    values = np.load(folder / array)
    values.flat[-1] = np.nan
    np.save(folder / array, values)
    write_manifest(folder, release="r2")
    with capture_logs() as logs:
        promote(registry, folder)
        assert until(lambda: refused(world, "RELEASE_REFUSED"))
    told = next(entry for entry in logs if entry.get("reason") == "RELEASE_REFUSED")
    assert f"{array} holds a number that is not finite" in told["fault"]
    still_serves_the_old_one(world)
