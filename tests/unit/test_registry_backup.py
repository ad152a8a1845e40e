"""A backup of the registry brings back releases, order, aliases and notes, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from matchloop.errors import BackupRefused, Unavailable
from matchloop.release import CHALLENGER, CHAMPION, Registry
from matchloop.release.registry import PROMOTED, RegisteredRelease
from matchloop.testing.registries import FolderRegistry
from matchloop.testing.releases import build_release
from matchloop.usecase import load_use_cases
from training_jobs.registry_backup import back_up, restore

USE_CASES = load_use_cases()
MOVIES, DEVELOPERS = "user_movie", "developer_startup"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> Callable[[], datetime]:
    """A minute later each time."""
    times = (NOW + timedelta(minutes=n) for n in range(100))
    return lambda: next(times)


def register(registry: Registry, folder: Path, use_case: str, release: str) -> RegisteredRelease:
    built = build_release(folder / "built" / use_case / release, USE_CASES[use_case], release=release)
    return registry.register(built, use_case, run_id=None, metrics={})


@pytest.fixture
def registry(tmp_path: Path) -> FolderRegistry:
    """Three releases of one use case, one of another."""
    made = FolderRegistry(tmp_path / "registry")
    first, second, _ = (register(made, tmp_path, MOVIES, name) for name in ("r1", "r2", "r3"))
    other = register(made, tmp_path, DEVELOPERS, "d1")
    made.tag(MOVIES, first.version, {PROMOTED: NOW.isoformat(), "gates": "[]"})
    made.set_alias(MOVIES, CHAMPION, second.version)
    made.set_alias(MOVIES, CHALLENGER, first.version)
    made.set_alias(DEVELOPERS, CHAMPION, other.version)
    return made


def told(registry: Registry) -> list[tuple[str, str, tuple[str, ...], dict[str, str]]]:
    return [
        (use_case, known.release, known.aliases, dict(known.tags))
        for use_case in registry.use_cases()
        for known in registry.list(use_case)
    ]


def test_all_comes_back(registry: FolderRegistry, clock: Callable[[], datetime], tmp_path: Path) -> None:
    written = back_up(registry, tmp_path / "backup", clock=clock)
    assert (written.left_out, written.index.name) == ({}, "20260501T120000.000000Z.json")
    empty = FolderRegistry(tmp_path / "empty")
    restore(empty, written.index)
    assert told(empty) == told(registry)
    champion = empty.resolve(MOVIES, CHAMPION)
    assert champion is not None
    fetched = empty.fetch(champion, tmp_path / "fetched")
    built = tmp_path / "built" / MOVIES / "r2"
    assert {p.name: p.read_bytes() for p in fetched.rglob("*") if p.is_file()} == {
        p.name: p.read_bytes() for p in built.rglob("*") if p.is_file()
    }


def test_each_moment_is_kept_and_releases_are_fetched_once(
    registry: FolderRegistry, clock: Callable[[], datetime], tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    first = back_up(registry, folder, clock=clock)
    newest = registry.list(MOVIES)[0]
    registry.set_alias(MOVIES, CHAMPION, newest.version)
    copied = (folder / "releases" / MOVIES / "r1" / "manifest.json").stat()
    second = back_up(registry, folder, clock=clock)
    assert (folder / "releases" / MOVIES / "r1" / "manifest.json").stat() == copied
    for index, expected in ((first.index, "r2"), (second.index, "r3")):
        empty = FolderRegistry(tmp_path / expected)
        restore(empty, index)
        champion = empty.resolve(MOVIES, CHAMPION)
        assert champion is not None
        assert champion.release == expected


def test_a_release_that_the_registry_lost_is_left_out_and_named_unless_it_was_kept_before(
    registry: FolderRegistry, clock: Callable[[], datetime], tmp_path: Path
) -> None:
    (known,) = registry.list(DEVELOPERS)
    golden = Path(known.source) / "golden.json"
    whole = golden.read_bytes()
    golden.write_bytes(whole + b" ")
    written = back_up(registry, tmp_path / "one", clock=clock)
    assert "golden.json" in written.left_out[f"{DEVELOPERS}/d1"]
    assert {kept.use_case for kept in written.backup.releases} == {MOVIES}
    golden.write_bytes(whole)
    back_up(registry, tmp_path / "other", clock=clock)
    golden.write_bytes(whole + b" ")
    again = back_up(registry, tmp_path / "other", clock=clock)
    assert again.left_out == {}
    restore(FolderRegistry(tmp_path / "empty"), again.index)


def golden_of(index: Path) -> Path:
    return index.parent / "releases" / MOVIES / "r1" / "golden.json"


def swap(index: Path) -> None:
    releases = index.parent / "releases" / MOVIES
    (releases / "r1").rename(releases / "other")
    (releases / "r2").rename(releases / "r1")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (
            lambda index: golden_of(index).write_text("{}"),
            r"user_movie/r1: release r1: golden\.json: 2 bytes",
        ),
        (lambda index: golden_of(index).unlink(), r"user_movie/r1: release r1: golden\.json: missing"),
        (swap, r"user_movie/r1: is user_movie/r2; user_movie/r2: manifest\.json"),
        (lambda index: index.write_text("{}"), "is no backup of a registry"),
        (lambda index: index.unlink(), "is no backup of a registry"),
    ],
)
def test_a_damaged_backup_is_refused_before_anything_is_registered(
    damage: Callable[[Path], object],
    why: str,
    registry: FolderRegistry,
    clock: Callable[[], datetime],
    tmp_path: Path,
) -> None:
    index = back_up(registry, tmp_path / "backup", clock=clock).index
    damage(index)
    empty = FolderRegistry(tmp_path / "empty")
    with pytest.raises(BackupRefused, match=why):
        restore(empty, index)
    assert empty.use_cases() == ()


def test_only_an_empty_registry_is_restored_to(
    registry: FolderRegistry, clock: Callable[[], datetime], tmp_path: Path
) -> None:
    index = back_up(registry, tmp_path / "backup", clock=clock).index
    before = told(registry)
    with pytest.raises(BackupRefused, match=r"not empty: d1 is champion of .*; r2 is champion of user_movie"):
        restore(registry, index)
    assert told(registry) == before
    used = FolderRegistry(tmp_path / "used")
    register(used, tmp_path, MOVIES, "another")
    with pytest.raises(BackupRefused, match="another of user_movie is registered"):
        restore(used, index)


class BreaksOff(FolderRegistry):
    """Is away after so many registrations."""

    def __init__(self, root: Path, after: int) -> None:
        super().__init__(root)
        self._left: Iterator[int] = iter(range(after))

    def tag(self, use_case: str, version: str, tags: Mapping[str, str]) -> None:
        if next(self._left, None) is None:
            self.available = False
        super().tag(use_case, version, tags)


def test_broken_off_it_shows_nobody_a_champion_and_goes_on(
    registry: FolderRegistry, clock: Callable[[], datetime], tmp_path: Path
) -> None:
    index = back_up(registry, tmp_path / "backup", clock=clock).index
    with pytest.raises(Unavailable):
        restore(BreaksOff(tmp_path / "empty", after=2), index)
    there = FolderRegistry(tmp_path / "empty")
    assert there.resolve(MOVIES, CHAMPION) is None
    assert there.resolve(DEVELOPERS, CHAMPION) is None
    restore(there, index)
    assert told(there) == told(registry)


def test_a_registry_that_is_away_leaves_the_backup_as_it_was(
    registry: FolderRegistry, clock: Callable[[], datetime], tmp_path: Path
) -> None:
    back_up(registry, tmp_path / "backup", clock=clock)
    before = sorted(tmp_path.joinpath("backup").rglob("*"))
    registry.available = False
    with pytest.raises(Unavailable):
        back_up(registry, tmp_path / "backup", clock=clock)
    assert sorted(tmp_path.joinpath("backup").rglob("*")) == before
