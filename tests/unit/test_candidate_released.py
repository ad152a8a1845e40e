"""What a release adds, and how items that came after it are found by it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from candidate_svc import released
from candidate_svc.domain import Asked, SubjectState
from candidate_svc.released import Models, ReleaseLoader, answers
from matchloop.entities import Categorical, Entity, EntityId, Multi
from matchloop.errors import ReleaseRefused
from matchloop.features import HashingEmbedder
from matchloop.observe.metrics import Metrics
from matchloop.observe.release_counters import ReleaseCounters
from matchloop.release import Poll, ReleaseSlot, check_golden
from matchloop.release.manifest import verify
from matchloop.release.slot import Loaded
from matchloop.retrieval.choices import Choices
from matchloop.retrieval.fusion import Fusion
from matchloop.retrieval.routing import Skip, SkipReason
from matchloop.testing.registries import FolderRegistry
from matchloop.usecase import Method, Tier
from tests.candidate_release import write_manifest, write_release
from tests.candidate_world import (
    NOW,
    USE_CASE,
    World,
    developer,
    event,
    ids,
    startup,
    startups,
    state,
    stats,
    use_case,
    world,
)

ITEMS = startups(16)
GAMES = {f"s{i}" for i in range(16) if i % 4 == 2}


def loader_of(made: World) -> ReleaseLoader:
    loader = ReleaseLoader(
        use_case(), made.mirror.rows["startup"], HashingEmbedder(use_case().embedding_width)
    )
    made.mirror.subscribe(loader)
    return loader


def put(made: World, folder: Path, loader: ReleaseLoader | None = None) -> World:
    loader = loader or loader_of(made)
    manifest = verify(folder, use_case())
    made.release = Loaded(manifest.release, "1", loader.load(folder, manifest), manifest, NOW)
    return made


def slot_of(folder: Path, registry: FolderRegistry, metrics: Metrics) -> ReleaseSlot[Models]:
    return ReleaseSlot(
        use_case(),
        registry,
        loader_of(world(ITEMS)).load,
        folder / "cache",
        60.0,
        ReleaseCounters(metrics, lambda: NOW, []),
        answers=answers,
        clock=lambda: NOW,
    )


def damage_network(folder: Path, name: str) -> None:
    """Change one weight of a tower, so that all can be read and the answers are wrong."""
    path = folder / "two_tower" / f"{name}.onnx"
    network = onnx.load(str(path))
    (weights,) = network.graph.initializer
    changed = numpy_helper.to_array(weights).copy()
    changed[0, 0] *= -1.0
    weights.CopyFrom(numpy_helper.from_array(changed, weights.name))
    onnx.save(network, str(path))


def damage_factors(folder: Path, name: str) -> None:
    """Halve all factors of one side."""
    path = folder / "als" / f"{name}.npy"
    np.save(path, np.load(path) / np.float32(2.0))


def warm(*events: str, **more: object) -> SubjectState:
    return state(None, [event(item) for item in events], **{"interaction_count": 5, **more})


def get(made: World, known: SubjectState, *methods: Method, count: int = 4, subject: str = "d1") -> list[str]:
    found = made.retriever.find(Asked(use_case(), EntityId(subject), count, methods=methods), known)
    assert {each.method for each in found.candidates} <= set(methods)
    return ids(found.candidates)


@pytest.mark.parametrize("method", [Method.TWO_TOWER, Method.ALS, Method.ENSEMBLE])
def test_a_subject_without_profile_is_answered_from_what_it_did(tmp_path: Path, method: Method) -> None:
    made = put(world(ITEMS), write_release(tmp_path / "r1", ITEMS))
    assert set(get(made, warm("s2", "s6"), method)) == GAMES
    hidden = frozenset({EntityId("s2")})
    assert set(get(made, warm("s2", "s6", hidden=hidden), method, count=3)) == GAMES - hidden


def test_the_tier_takes_the_methods_of_the_release(tmp_path: Path) -> None:
    made = put(world(ITEMS), write_release(tmp_path / "r1", ITEMS))
    found = made.retriever.find(Asked(use_case(), EntityId("d1"), 4), warm("s2"))
    assert (found.tier, found.release, found.skipped) == (Tier.WARM, "r1", ())
    assert {each.method for each in found.candidates} == {Method.TWO_TOWER}
    orders = {"warm": ["als", "two_tower"]}
    put(made, write_release(tmp_path / "r2", ITEMS, release="r2", orders=orders))
    found = made.retriever.find(Asked(use_case(), EntityId("d1"), 500), warm("s2"))
    assert found.candidates[0].method is Method.ALS
    assert len(found.candidates) == 16


def test_an_ensemble_with_nothing_personal_to_say_leaves_it_to_popular(tmp_path: Path) -> None:
    fusion = Fusion({Method.TWO_TOWER: 0.1, Method.POPULAR: 2.5})
    orders = {Tier.COLD: (Method.ENSEMBLE, Method.POPULAR), Tier.WARM: (Method.ENSEMBLE, Method.POPULAR)}
    choices = Choices(orders, {Tier.COLD: fusion, Tier.WARM: fusion})
    made = put(world(ITEMS), write_release(tmp_path / "r1", ITEMS, choices=choices))
    found = made.retriever.find(Asked(use_case(), EntityId("nobody"), 4), SubjectState())
    assert {each.method for each in found.candidates} == {Method.POPULAR}
    assert Skip(Method.ENSEMBLE, SkipReason.NO_SIGNAL) in found.skipped
    found = made.retriever.find(Asked(use_case(), EntityId("d1"), 4), warm("s2"))
    assert {each.method for each in found.candidates} == {Method.ENSEMBLE}


def test_als_knows_trained_subjects_and_none_it_has_nothing_of(tmp_path: Path) -> None:
    made = put(world(ITEMS), write_release(tmp_path / "r1", ITEMS))
    known = SubjectState(interaction_count=3)
    assert set(get(made, known, Method.ALS, subject="trained")) == GAMES
    energy = {f"s{i}" for i in range(16) if i % 4 == 3}
    whole = warm("s3", "s7", interaction_count=2)
    assert set(get(made, whole, Method.ALS, subject="trained")) == energy  # all it did is folded in
    part = warm("s3", "s7", interaction_count=900)
    assert set(get(made, part, Method.ALS, subject="trained")) == GAMES  # the training saw more
    newer = state(None, [event("s3", days_ago=-0.1)], interaction_count=900)
    assert set(get(made, newer, Method.ALS, subject="trained")) == energy
    only_dislikes = state(None, [event("s3", "dislike")])
    found = made.retriever.find(Asked(use_case(), EntityId("d1"), methods=(Method.ALS,)), only_dislikes)
    assert found.skipped[0].reason is SkipReason.NO_SIGNAL


def test_a_subject_with_a_profile_alone_is_answered_by_two_tower(tmp_path: Path) -> None:
    made = put(world(ITEMS), write_release(tmp_path / "r1", ITEMS))
    profile = state(developer("d1", categories=Multi(("games",))))
    assert set(get(made, profile, Method.TWO_TOWER)) == GAMES
    found = made.retriever.find(
        Asked(use_case(), EntityId("d2"), methods=(Method.TWO_TOWER,)), SubjectState()
    )
    assert found.skipped[0].reason is SkipReason.NO_SIGNAL


@pytest.mark.parametrize("before_load", [True, False])
def test_items_that_come_change_and_go_after_the_release(tmp_path: Path, *, before_load: bool) -> None:
    made = world(ITEMS)
    loader = loader_of(made)
    folder = write_release(tmp_path / "r1", ITEMS, created=NOW)
    if not before_load:
        put(made, folder, loader)
    fresh = NOW + timedelta(minutes=1)
    new = Entity(startup("new").key, {"category": Categorical("games")}, NOW, fresh)
    moved = Entity(startup("s3").key, {"category": Categorical("games")}, NOW, fresh)
    made.store.upsert(new, moved)
    made.store.deactivate("s6")
    made.mirror.poll_once()
    if before_load:
        put(made, folder, loader)
    found = get(made, warm("s2"), Method.TWO_TOWER, count=16)
    assert set(found[:5]) == (GAMES | {"new", "s3"}) - {"s6"}
    assert "s6" not in found


def test_a_release_loaded_before_the_first_listing_knows_the_items_then(tmp_path: Path) -> None:
    made = world()
    put(made, write_release(tmp_path / "r1", ITEMS[:8]))
    assert get(made, warm("s2"), Method.TWO_TOWER) == []
    made.store.upsert(*ITEMS)
    made.mirror.poll_once()
    assert set(get(made, warm("s2"), Method.TWO_TOWER)) == GAMES
    assert set(get(made, warm("s2"), Method.ALS)) >= {"s2", "s6"}


def test_items_the_release_knows_are_not_embedded_again(tmp_path: Path) -> None:
    old = [Entity(i.key, i.features, i.create_time, NOW - timedelta(days=3)) for i in ITEMS]
    made = world(old)
    put(made, write_release(tmp_path / "r1", old))
    assert made.release is not None
    model = made.release.value.two_tower
    assert model is not None
    embedded: list[str] = []
    upsert = model.upsert_items

    def recording(items: Sequence[Entity]) -> None:
        embedded.extend(item.key.id for item in items)
        upsert(items)

    model.upsert_items = recording  # type: ignore[method-assign]
    made.store.upsert(Entity(startup("new").key, {"category": Categorical("games")}, NOW, NOW))
    made.mirror.poll_once()
    made.store.upsert(*old)
    made.mirror.poll_once()
    assert embedded == ["new"]


def test_a_second_release_catches_up_in_steps_and_hears_of_changes_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world(ITEMS)
    loader = loader_of(made)
    before = NOW - timedelta(days=30)  # every item may have changed since
    put(made, write_release(tmp_path / "r1", ITEMS, release="r1", created=before), loader)
    rests: list[float] = []
    moved = Entity(startup("s3").key, {"category": Categorical("games")}, NOW, NOW + timedelta(minutes=1))

    def rest(seconds: float) -> None:
        if not rests:
            made.store.upsert(moved)
            made.mirror.poll_once()
        rests.append(seconds)

    monkeypatch.setattr(released, "STEP", 2)
    monkeypatch.setattr("candidate_svc.released.time.sleep", rest)
    put(made, write_release(tmp_path / "r2", ITEMS, release="r2", created=before), loader)
    assert len(rests) == len(ITEMS) / 2
    assert min(rests) > 0.0
    assert "s3" in get(made, warm("s2"), Method.TWO_TOWER, count=5)


def test_a_release_that_nobody_holds_is_let_go_without_the_garbage_collector(tmp_path: Path) -> None:
    # It does not look at what was there when the process began to serve: see `matchloop.heap.settle`.
    made = world(ITEMS)
    loader = loader_of(made)
    gc.disable()
    try:
        for name in ("r1", "r2"):
            put(made, write_release(tmp_path / name, ITEMS, release=name), loader)
        assert len(loader._alive) == 1
    finally:
        gc.enable()


def test_popular_is_live_and_within_the_subjects_segment(tmp_path: Path) -> None:
    made = put(world(ITEMS), write_release(tmp_path / "r1", ITEMS))
    de, us = (state(developer("d1", country=Categorical(name))) for name in ("de", "us"))
    assert get(made, de, Method.POPULAR, count=1) == ["s0"]
    assert get(made, us, Method.POPULAR, count=1) == ["s15"]
    assert get(made, SubjectState(), Method.POPULAR, count=2) == ["s0", "s15"]
    made.store.count(stats("s9", weight=5.0), stats("s0", weight=1.0), stats("s15", weight=3.0))
    made.mirror.poll_once()
    assert get(made, SubjectState(), Method.POPULAR, count=3) == ["s9", "s15", "s0"]
    # In `us`, with m = 1 and release shares 10/13 and 3/13: s15 has (3 + 3/13) / 4 / (3/13) = 3.5 times its
    # live share, s0 (10/13) / 4 / (10/13) = 0.25 times; s9 is new to the release: once.
    found = made.retriever.find(Asked(use_case(), EntityId("d1"), 3, methods=(Method.POPULAR,)), us)
    raised = np.array([3 * 3.5, 5 * 1.0, 1 * 0.25])
    assert ids(found.candidates)[:3] == ["s15", "s9", "s0"]
    assert [each.score for each in found.candidates[:3]] == pytest.approx((raised / raised.sum()).tolist())


def test_filters_and_only_hold_for_models_too(tmp_path: Path) -> None:
    made = put(world(ITEMS), write_release(tmp_path / "r1", ITEMS))
    asked = Asked(use_case(), EntityId("d1"), only=("s3", "s6", "s2", "unknown"))
    found = made.retriever.find(asked, warm("s2"))
    assert set(ids(found.candidates)[:2]) == {"s2", "s6"}
    assert ids(found.candidates)[2:] == ["s3"]


@pytest.mark.parametrize(
    "part", ["als/item_factors.npy", "two_tower/item.onnx", "routing.json", "encoder/item.json"]
)
def test_a_damaged_release_is_refused_and_the_old_one_stays(tmp_path: Path, part: str) -> None:
    registry, metrics = FolderRegistry(tmp_path / "registry"), Metrics()
    slot = slot_of(tmp_path, registry, metrics)

    def promote(folder: Path) -> Path:
        registered = registry.register(folder, USE_CASE, run_id=None, metrics={})
        registry.set_alias(USE_CASE, "champion", registered.version)
        return tmp_path / "registry" / USE_CASE / registered.version

    orders = {"warm": ["als"]}
    promote(write_release(tmp_path / "r1", ITEMS, orders=orders))
    assert slot.poll_once() is Poll.SWAPPED
    assert metrics.value("matchloop_release_info", use_case=USE_CASE, alias="champion", release="r1") == 1
    stored = promote(write_release(tmp_path / "r2", ITEMS, release="r2", orders=orders))
    (stored / part).write_bytes(b"damaged")
    assert slot.poll_once() is Poll.REFUSED
    current = slot.current()
    assert current is not None
    assert current.release == "r1"
    refused = metrics.value("matchloop_release_refused_total", use_case=USE_CASE, reason="RELEASE_REFUSED")
    assert refused == 1
    registry.available = False
    assert slot.poll_once() is Poll.UNAVAILABLE
    assert metrics.value("matchloop_release_poll_failures_total", use_case=USE_CASE) == 1


@pytest.mark.parametrize(
    ("damage", "name", "part"),
    [
        (damage_network, "item", "two_tower.items"),
        (damage_network, "subject", "two_tower.subjects"),
        (damage_factors, "subject_factors", "als.trained"),
        (damage_factors, "item_factors", "als.folded"),
    ],
)
def test_a_release_that_answers_wrongly_is_refused_and_the_old_one_stays(
    tmp_path: Path, damage: Callable[[Path, str], None], name: str, part: str
) -> None:
    registry, metrics = FolderRegistry(tmp_path / "registry"), Metrics()
    slot = slot_of(tmp_path, registry, metrics)

    def promote(folder: Path) -> None:
        registered = registry.register(folder, USE_CASE, run_id=None, metrics={})
        registry.set_alias(USE_CASE, "champion", registered.version)

    promote(write_release(tmp_path / "r1", ITEMS))
    assert slot.poll_once() is Poll.SWAPPED
    wrong = write_release(tmp_path / "r2", ITEMS, release="r2")
    damage(wrong, name)
    write_manifest(wrong, release="r2")
    manifest = verify(wrong, use_case())
    with pytest.raises(ReleaseRefused, match=part):
        check_golden(wrong, answers(loader_of(world(ITEMS)).load(wrong, manifest)))
    promote(wrong)
    assert slot.poll_once() is Poll.REFUSED
    current = slot.current()
    assert current is not None
    assert current.release == "r1"
    promote(write_release(tmp_path / "r3", ITEMS, release="r3"))
    assert slot.poll_once() is Poll.SWAPPED


def test_what_cannot_be_read_is_refused_also_behind_good_checksums(tmp_path: Path) -> None:
    folder = write_release(tmp_path / "r1", ITEMS, orders={"warm": ["no_such_method"]})
    with pytest.raises(ReleaseRefused, match="routing"):
        put(world(ITEMS), folder)


def test_an_empty_catalogue_gives_nothing_whatever_the_method(tmp_path: Path) -> None:
    made = put(world(), write_release(tmp_path / "r1", ITEMS))
    for method in Method:
        assert get(made, warm("s2"), method) == []
