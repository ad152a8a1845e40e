"""Slots share one look at the registry, and see what it says within two polls."""

from pathlib import Path

import pytest

from matchloop.errors import Unavailable
from matchloop.release import CHALLENGER, CHAMPION
from matchloop.release.watch import RegistryWatch
from matchloop.testing.registries import FolderRegistry
from matchloop.testing.releases import build_release
from matchloop.usecase import load_use_cases

USE_CASES = load_use_cases()
FRESH = 5.0


class World:
    """A registry with a champion for two use cases, and a watch whose time is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.registry, self.now = FolderRegistry(folder / "registry"), 0.0
        self.watch = RegistryWatch(self.registry, FRESH, clock=lambda: self.now)
        for use_case in ("user_movie", "developer_startup"):
            for name in ("r1", "r2"):
                built = build_release(folder / use_case / name, USE_CASES[use_case], release=name)
                made = self.registry.register(built, use_case, run_id=None, metrics={})
                self.registry.set_alias(use_case, CHAMPION, made.version)
            self.registry.set_alias(use_case, CHAMPION, "1")

    def champions(self) -> list[str | None]:
        found = [self.watch.resolve(name, CHAMPION) for name in ("user_movie", "developer_startup")]
        return [each.release if each else None for each in found]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_many_slots_ask_the_registry_once(world: World) -> None:
    for _ in range(10):
        assert world.champions() == ["r1", "r1"]
        assert world.watch.resolve("user_movie", CHALLENGER) is None
    assert world.registry.looked == 1
    for _ in range(10):
        world.now += FRESH
        assert world.champions() == ["r1", "r1"]
    assert world.registry.looked == 11
    assert world.registry.resolved == 2  # once a version


def test_a_moved_alias_is_seen_once_the_look_is_old(world: World) -> None:
    assert world.champions() == ["r1", "r1"]
    world.registry.set_alias("user_movie", CHAMPION, "2")
    assert world.champions() == ["r1", "r1"]
    world.now += FRESH
    assert world.champions() == ["r2", "r1"]
    world.registry.drop_alias("user_movie", CHAMPION)
    world.now += FRESH
    assert world.champions() == [None, "r1"]


def test_a_registry_that_is_away_is_asked_once_too(world: World) -> None:
    assert world.champions() == ["r1", "r1"]
    world.registry.available = False
    world.now += FRESH
    for _ in range(5):
        with pytest.raises(Unavailable, match="switched off"):
            world.watch.resolve("user_movie", CHAMPION)
    assert world.registry.looked == 2
    world.registry.available = True
    world.now += FRESH
    assert world.champions() == ["r1", "r1"]


def test_what_it_resolves_it_fetches(world: World, tmp_path: Path) -> None:
    registered = world.watch.resolve("user_movie", CHAMPION)
    assert registered is not None
    assert world.watch.fetch(registered, tmp_path / "here") == tmp_path / "here" / "r1"
