"""A slot keeps serving whatever happens to registry and releases."""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from matchloop.release import Manifest, ReleaseSlot
from matchloop.release.golden import Answerer
from matchloop.release.manifest import MANIFEST_FILE
from matchloop.release.slot import Poll
from matchloop.rerank.scorer import PART, Ranker
from matchloop.testing.registries import FolderRegistry
from matchloop.testing.releases import build_release, write_manifest
from matchloop.usecase import UseCase, load_use_cases

USE_CASE = load_use_cases()["user_movie"]
NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Counted:
    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.faults: list[str] = []
        self.emptied = 0

    def release_emptied(self, use_case: str, alias: str) -> None:
        self.emptied += 1

    def release_loaded(self, use_case: str, alias: str, release: str, created: datetime) -> None:
        self.loaded.append(release)

    def release_fault(self, use_case: str, alias: str, reason: str) -> None:
        self.faults.append(reason)


def load(folder: Path, manifest: Manifest) -> Ranker:
    return Ranker.load(folder / PART, USE_CASE)


def answers(ranker: Ranker) -> Mapping[str, Answerer]:
    return {PART: ranker.answer}


class World:
    """A registry, a cache and a slot over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = FolderRegistry(folder / "registry")
        self.metrics = Counted()
        self.slot = self.new_slot()

    def new_slot(
        self, use_case: UseCase = USE_CASE, load: Callable[[Path, Manifest], Ranker] = load
    ) -> ReleaseSlot[Ranker]:
        return ReleaseSlot(
            use_case,
            self.registry,
            load,
            self.folder / "cache",
            3600.0,
            self.metrics,
            answers=answers,
            clock=lambda: NOW,
        )

    def promote(self, release: str, *, use_case: UseCase = USE_CASE) -> Path:
        """Register a release, make it champion, and return where the registry keeps it."""
        folder = build_release(
            self.folder / "built" / release, use_case, release=release, seed=int(release[1:])
        )
        registered = self.registry.register(folder, USE_CASE.id, run_id=None, metrics={})
        self.registry.set_alias(USE_CASE.id, "champion", registered.version)
        return Path(registered.source)

    def serving(self) -> str | None:
        loaded = self.slot.current()
        return loaded.release if loaded else None

    def cached(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "cache" / USE_CASE.id / "champion").glob("*/"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_nothing_registered_is_no_release(world: World) -> None:
    assert world.slot.poll_once() is Poll.EMPTIED
    assert world.slot.current() is None
    assert world.metrics.faults == []


def test_swaps_to_the_alias_and_keeps_the_one_before(world: World) -> None:
    world.promote("r1")
    assert world.slot.poll_once() is Poll.SWAPPED
    first = world.slot.current()
    assert first is not None
    assert (first.release, first.version, first.load_time) == ("r1", "1", NOW)
    assert world.slot.poll_once() is Poll.UNCHANGED
    for release in ("r2", "r3"):
        world.promote(release)
        assert world.slot.poll_once() is Poll.SWAPPED
    assert world.serving() == "r3"
    assert world.slot.find("r2") is not None
    assert world.slot.find("r1") is None
    assert world.cached() == ["r2", "r3"]
    assert world.metrics.loaded == ["r1", "r2", "r3"]


def test_rolling_back_needs_no_second_load(world: World) -> None:
    world.promote("r1")
    world.slot.poll_once()
    before = world.slot.current()
    world.promote("r2")
    world.slot.poll_once()
    world.registry.set_alias(USE_CASE.id, "champion", "1")
    assert world.slot.poll_once() is Poll.SWAPPED
    assert before is not None
    assert world.slot.current() is before
    assert world.registry.fetched == 2


def test_a_dropped_alias_empties_the_slot(world: World) -> None:
    world.promote("r1")
    world.slot.poll_once()
    world.registry.drop_alias(USE_CASE.id, "champion")
    assert world.slot.poll_once() is Poll.EMPTIED
    assert world.slot.current() is None
    assert world.slot.find("r1") is not None


def flip(folder: Path) -> None:
    path = folder / PART / "ranker.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose(folder: Path) -> None:
    (folder / PART / "ranker.onnx").unlink()


def add(folder: Path) -> None:
    (folder / PART / "extra.npy").write_bytes(b"?")


def forget(folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink()


def answer_wrongly(folder: Path) -> None:
    other = build_release(folder.parent / "other", USE_CASE, seed=99)
    (folder / "golden.json").write_bytes((other / "golden.json").read_bytes())
    write_manifest(folder, USE_CASE, release="r2")


def break_onnx(folder: Path) -> None:
    (folder / PART / "ranker.onnx").write_bytes(b"not a network")
    write_manifest(folder, USE_CASE, release="r2")


def other_schema(folder: Path) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(path.read_text().replace(USE_CASE.schema_fingerprint, "0123456789ab"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip, "RELEASE_REFUSED"),
        (lose, "RELEASE_REFUSED"),
        (add, "RELEASE_REFUSED"),
        (forget, "RELEASE_REFUSED"),
        (answer_wrongly, "RELEASE_REFUSED"),
        (break_onnx, "RELEASE_REFUSED"),
        (other_schema, "SCHEMA_MISMATCH"),
    ],
)
def test_a_bad_release_is_refused_once_and_the_old_one_serves(
    world: World, damage: Callable[[Path], None], reason: str
) -> None:
    world.promote("r1")
    world.slot.poll_once()
    damage(world.promote("r2"))
    assert world.slot.poll_once() is Poll.REFUSED
    assert world.serving() == "r1"
    assert world.metrics.faults == [reason]
    fetched = world.registry.fetched
    assert world.slot.poll_once() is Poll.REFUSED
    assert (world.registry.fetched, len(world.metrics.faults)) == (fetched, 1), "tried again"
    assert world.cached() == ["r1"]
    world.promote("r3")
    assert world.slot.poll_once() is Poll.SWAPPED
    assert world.serving() == "r3"


def test_a_refused_version_is_tried_again_when_the_alias_comes_back(world: World) -> None:
    world.promote("r1")
    world.slot.poll_once()
    stored = world.promote("r2")
    good = (stored / "golden.json").read_text()
    (stored / "golden.json").write_text("{}")
    assert world.slot.poll_once() is Poll.REFUSED
    (stored / "golden.json").write_text(good)
    world.registry.set_alias(USE_CASE.id, "champion", "1")
    assert world.slot.poll_once() is Poll.UNCHANGED
    world.registry.set_alias(USE_CASE.id, "champion", "2")
    assert world.slot.poll_once() is Poll.SWAPPED


def test_an_unreachable_registry_changes_nothing_and_is_asked_again(world: World) -> None:
    world.promote("r1")
    world.slot.poll_once()
    world.promote("r2")
    world.registry.available = False
    assert world.slot.poll_once() is Poll.UNAVAILABLE
    assert world.serving() == "r1"
    assert world.metrics.faults == ["REGISTRY_UNAVAILABLE"]
    world.registry.available = True
    assert world.slot.poll_once() is Poll.SWAPPED


def test_an_error_of_any_class_while_loading_refuses(world: World) -> None:
    world.promote("r1")

    def explode(folder: Path, manifest: Manifest) -> Ranker:
        raise ZeroDivisionError

    slot = world.new_slot(load=explode)
    assert slot.poll_once() is Poll.REFUSED
    assert slot.current() is None
    assert world.metrics.faults == ["INTERNAL"]


def test_starts_from_the_last_good_copy_when_the_registry_is_down(world: World) -> None:
    for release in ("r1", "r2"):
        world.promote(release)
        world.slot.poll_once()
    world.registry.available = False
    restarted = world.new_slot()
    restarted.start()
    try:
        loaded = restarted.current()
        assert loaded is not None
        assert (loaded.release, loaded.version) == ("r2", "")
        world.registry.available = True
        assert restarted.poll_once() is Poll.UNCHANGED
        assert world.cached() == ["r1", "r2"]
    finally:
        restarted.close()


def test_starts_from_the_copy_before_when_the_last_is_damaged(world: World) -> None:
    for release in ("r1", "r2"):
        world.promote(release)
        world.slot.poll_once()
    world.registry.available = False
    flip(world.folder / "cache" / USE_CASE.id / "champion" / "r2")
    restarted = world.new_slot()
    restarted.start()
    restarted.close()
    loaded = restarted.current()
    assert loaded is not None
    assert loaded.release == "r1"


def test_starts_from_the_last_good_copy_when_the_champion_is_refused(world: World) -> None:
    world.promote("r1")
    world.slot.poll_once()
    flip(world.promote("r2"))
    restarted = world.new_slot()
    restarted.start()
    restarted.close()
    loaded = restarted.current()
    assert loaded is not None
    assert loaded.release == "r1"


def test_starts_empty_without_registry_and_cache(world: World) -> None:
    world.registry.available = False
    world.slot.start()
    world.slot.close()
    assert world.slot.current() is None


def test_the_thread_polls_and_close_ends_it(world: World) -> None:
    polled = threading.Event()

    class Telling(FolderRegistry):
        def resolve(self, use_case: str, alias: str):  # type: ignore[no-untyped-def]
            if threading.current_thread().name.startswith("release-"):
                polled.set()
                raise RuntimeError("a bug in the registry's client")
            return super().resolve(use_case, alias)

    slot = ReleaseSlot(
        USE_CASE, Telling(world.folder / "r"), load, world.folder / "c", 0.001, world.metrics, answers=answers
    )
    slot.start()
    assert polled.wait(10.0)
    slot.close()
    assert not any(thread.name.startswith("release-user_movie") for thread in threading.enumerate())
    assert "INTERNAL" in world.metrics.faults


def test_readers_see_whole_releases_while_it_swaps(world: World) -> None:
    world.promote("r1")
    world.slot.poll_once()
    rows = np.full((4, len(USE_CASE.ranking.features)), 0.5, dtype=np.float32)
    wrong: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            loaded = world.slot.current()
            if loaded is None or loaded.manifest.release != loaded.release:
                wrong.append("torn")
            elif not np.isfinite(loaded.value.score(rows)).all():
                wrong.append("unusable")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for release in ("r2", "r3", "r4"):
        world.promote(release)
        assert world.slot.poll_once() is Poll.SWAPPED
    done.set()
    for reader in readers:
        reader.join(10.0)
    assert wrong == []


def test_a_slot_that_keeps_nothing_before_forgets_what_its_alias_left(tmp_path: Path) -> None:
    world = World(tmp_path)
    slot = ReleaseSlot(
        USE_CASE,
        world.registry,
        load,
        tmp_path / "challengers",
        3600.0,
        world.metrics,
        answers=answers,
        keep_before=False,
    )
    world.promote("r1")
    assert slot.poll_once() is Poll.SWAPPED
    world.promote("r2")
    assert slot.poll_once() is Poll.SWAPPED
    assert slot.find("r1") is None
    assert slot.find("r2") is not None
    world.registry.drop_alias(USE_CASE.id, "champion")
    assert slot.poll_once() is Poll.EMPTIED
    assert slot.find("r2") is None
    assert slot.poll_once() is Poll.EMPTIED
    assert world.metrics.emptied == 1
    world.registry.available = False
    again = ReleaseSlot(
        USE_CASE,
        world.registry,
        load,
        tmp_path / "challengers",
        3600.0,
        world.metrics,
        answers=answers,
        keep_before=False,
    )
    again.start()
    again.close()
    assert again.current() is None
