"""What every registry must do, whatever it is built on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from matchloop.errors import NotFound, Reason, ReleaseRefused
from matchloop.release.manifest import MANIFEST_FILE, Manifest
from matchloop.release.registry import (
    CHALLENGER,
    CHAMPION,
    FORCED,
    PROMOTED,
    ROLLBACK_REASON,
    ROLLED_BACK,
    RegisteredRelease,
    Registry,
)
from matchloop.testing.releases import build_release
from matchloop.usecase import UseCases, load_use_cases


class RegistryContract(ABC):
    """What every registry promises; a test class inherits it and says how to make one."""

    use_case = "user_movie"
    use_cases: UseCases = load_use_cases()

    @abstractmethod
    def make(self, folder: Path) -> Registry:
        """Return an empty registry that may keep its things in `folder`."""

    @abstractmethod
    def damage(self, registered: RegisteredRelease) -> None:
        """Append to the stored ``golden.json`` of a release."""

    @pytest.fixture
    def registry(self, tmp_path: Path) -> Registry:
        """Make an empty registry."""
        return self.make(tmp_path / "registry")

    def release(self, tmp_path: Path, name: str) -> Path:
        """Build a release of that id."""
        return build_release(tmp_path / "built" / name, self.use_cases[self.use_case], release=name)

    def register(self, registry: Registry, tmp_path: Path, name: str) -> RegisteredRelease:
        """Build and register a release of that id."""
        folder = self.release(tmp_path, name)
        return registry.register(folder, self.use_case, run_id=None, metrics={"ndcg": 0.5})

    def test_an_empty_registry_knows_nothing(self, registry: Registry) -> None:
        """No release, no alias, no error."""
        assert registry.list(self.use_case) == ()
        assert registry.resolve(self.use_case, CHAMPION) is None
        assert not any(registry.aliases().values())
        assert registry.use_cases() == ()
        registry.drop_alias(self.use_case, CHAMPION)

    def test_versions_rise_and_are_listed_newest_first(self, registry: Registry, tmp_path: Path) -> None:
        """With what was registered."""
        first, second = (self.register(registry, tmp_path, name) for name in ("r1", "r2"))
        assert int(second.version) > int(first.version)
        listed = registry.list(self.use_case)
        assert [(known.release, known.version) for known in listed] == [
            ("r2", second.version),
            ("r1", first.version),
        ]
        assert registry.list("developer_startup") == ()
        assert registry.use_cases() == (self.use_case,)

    def test_registering_again_changes_nothing(self, registry: Registry, tmp_path: Path) -> None:
        """A job may fire twice."""
        first = self.register(registry, tmp_path, "r1")
        assert self.register(registry, tmp_path, "r1").version == first.version
        assert len(registry.list(self.use_case)) == 1

    def test_aliases_move_and_go(self, registry: Registry, tmp_path: Path) -> None:
        """An alias points at one version; one version may have several."""
        first, second = (self.register(registry, tmp_path, name) for name in ("r1", "r2"))
        registry.set_alias(self.use_case, CHAMPION, first.version)
        registry.set_alias(self.use_case, CHALLENGER, second.version)
        champion = registry.resolve(self.use_case, CHAMPION)
        assert champion is not None
        assert (champion.release, champion.aliases) == ("r1", (CHAMPION,))
        registry.set_alias(self.use_case, CHAMPION, second.version)
        assert [known.aliases for known in registry.list(self.use_case)] == [(CHALLENGER, CHAMPION), ()]
        registry.drop_alias(self.use_case, CHALLENGER)
        assert registry.resolve(self.use_case, CHALLENGER) is None
        assert registry.aliases()[self.use_case] == {CHAMPION: second.version}

    def test_an_alias_needs_a_version(self, registry: Registry, tmp_path: Path) -> None:
        """Both for an unknown version and an unknown use case."""
        self.register(registry, tmp_path, "r1")
        for use_case, version in ((self.use_case, "99"), (self.use_case, "x"), ("developer_startup", "1")):
            with pytest.raises(NotFound) as caught:
                registry.set_alias(use_case, CHAMPION, version)
            assert caught.value.reason is Reason.RELEASE_NOT_FOUND

    def test_what_is_noted_about_a_version_is_read_back(self, registry: Registry, tmp_path: Path) -> None:
        """By every way of reading it; a second note under the same name takes the first one's place."""
        first, second = (self.register(registry, tmp_path, name) for name in ("r1", "r2"))
        registry.set_alias(self.use_case, CHAMPION, first.version)
        assert first.tags == {}
        assert (first.promoted, first.rolled_back, first.rollback_reason, first.forced) == (
            None,
            None,
            "",
            "",
        )
        registry.tag(self.use_case, first.version, {PROMOTED: "2026-01-02T03:04:05+00:00", FORCED: "size_mb"})
        registry.tag(self.use_case, first.version, {FORCED: "", "gates": "[1, 2]" * 2000})
        read = [registry.resolve(self.use_case, CHAMPION), registry.list(self.use_case)[1]]
        read.append(registry.register(tmp_path / "built" / "r1", self.use_case, run_id=None, metrics={}))
        for known in read:
            assert known is not None
            assert known.promoted == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
            assert (known.forced, known.tags["gates"]) == ("", "[1, 2]" * 2000)
        assert registry.list(self.use_case)[0] == second

    def test_a_note_needs_a_version(self, registry: Registry, tmp_path: Path) -> None:
        """And an unknown one is not made."""
        self.register(registry, tmp_path, "r1")
        with pytest.raises(NotFound) as caught:
            registry.tag(self.use_case, "99", {PROMOTED: "2026-01-02T03:04:05+00:00"})
        assert caught.value.reason is Reason.RELEASE_NOT_FOUND

    def test_a_rollback_is_over_once_it_is_champion_again(self, registry: Registry, tmp_path: Path) -> None:
        """Which happens by force alone."""
        first = self.register(registry, tmp_path, "r1")
        times = ["2026-01-02T00:00:00+00:00", "2026-01-03T00:00:00+00:00", "2026-01-04T00:00:00+00:00"]
        registry.tag(self.use_case, first.version, {PROMOTED: times[0]})
        registry.tag(self.use_case, first.version, {ROLLED_BACK: times[1], ROLLBACK_REASON: "disliked"})
        (known,) = registry.list(self.use_case)
        assert (known.rolled_back, known.rollback_reason) == (datetime(2026, 1, 3, tzinfo=UTC), "disliked")
        registry.tag(self.use_case, first.version, {PROMOTED: times[2]})
        (known,) = registry.list(self.use_case)
        assert (known.rolled_back, known.rollback_reason) == (None, "")

    def test_fetch_brings_the_files_once(self, registry: Registry, tmp_path: Path) -> None:
        """Byte by byte, and repairs a copy that was damaged."""
        registered = self.register(registry, tmp_path, "r1")
        folder = registry.fetch(registered, tmp_path / "cache")
        assert folder == tmp_path / "cache" / "r1"
        assert _contents(folder) == _contents(tmp_path / "built" / "r1")
        (folder / MANIFEST_FILE).write_text("{}")
        assert _contents(registry.fetch(registered, tmp_path / "cache")) == _contents(folder)
        assert [path.name for path in (tmp_path / "cache").iterdir()] == ["r1"]

    def test_fetch_refuses_damage(self, registry: Registry, tmp_path: Path) -> None:
        """And leaves nothing behind."""
        registered = self.register(registry, tmp_path, "r1")
        self.damage(registered)
        with pytest.raises(ReleaseRefused, match=r"golden\.json"):
            registry.fetch(registered, tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []

    def test_a_manifest_is_read_without_the_files(self, registry: Registry, tmp_path: Path) -> None:
        """Of any release that is registered, alias or not."""
        first, second = (self.register(registry, tmp_path, name) for name in ("r1", "r2"))
        registry.set_alias(self.use_case, CHAMPION, second.version)
        self.damage(first)
        built = Manifest.read(tmp_path / "built" / "r1")
        assert registry.manifest(first) == built
        with pytest.raises(ReleaseRefused, match="r3"):
            registry.manifest(replace(first, release="r3"))

    def test_register_refuses_what_is_not_whole(self, registry: Registry, tmp_path: Path) -> None:
        """A damaged folder, and one of another use case."""
        folder = self.release(tmp_path, "r1")
        with pytest.raises(ReleaseRefused, match="use case"):
            registry.register(folder, "developer_startup", run_id=None, metrics={})
        (folder / "golden.json").write_text("{}")
        with pytest.raises(ReleaseRefused, match=r"golden\.json"):
            registry.register(folder, self.use_case, run_id=None, metrics={})
        assert registry.list(self.use_case) == ()


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
