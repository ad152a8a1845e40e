"""Promotion and rollback: who is champion after what, and what is noted about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from matchloop.errors import Conflict, NotFound, Reason, Unavailable
from matchloop.release import CHAMPION, RegisteredRelease
from matchloop.testing.registries import FolderRegistry
from matchloop.testing.releases import build_release
from matchloop.usecase import load_use_cases
from training_jobs.gates import Gate, Verdict
from training_jobs.promotion import champion_before, gates_of, note_gates, promote_version, roll_back

USE_CASE = load_use_cases()["user_movie"]
REFUSED = Gate("size_mb", 9.0, 1.0, Verdict.REFUSED, "at most")
PASSED = Gate("against_champion", 0.1, -0.3, Verdict.PASSED)


class World:
    """A registry, and a clock that is an hour on whenever it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = FolderRegistry(folder / "registry")
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def clock(self) -> datetime:
        self.now += timedelta(hours=1)
        return self.now

    def register(self, name: str) -> RegisteredRelease:
        folder = build_release(self.folder / "built" / name, USE_CASE, release=name)
        return self.registry.register(folder, USE_CASE.id, run_id=None, metrics={})

    def promote(self, name: str, *, force: bool = False) -> RegisteredRelease:
        return promote_version(self.registry, self.register(name), clock=self.clock, force=force)

    def roll_back(self, reason: str = "worse") -> RegisteredRelease:
        return roll_back(self.registry, USE_CASE.id, reason=reason, clock=self.clock)

    def champion(self) -> RegisteredRelease:
        found = self.registry.resolve(USE_CASE.id, CHAMPION)
        assert found is not None
        return found

    def known(self, name: str) -> RegisteredRelease:
        return next(known for known in self.registry.list(USE_CASE.id) if known.release == name)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_promotion_has_a_time_and_again_keeps_it(world: World) -> None:
    first = world.promote("r1")

    assert (first.promoted, first.aliases) == (datetime(2026, 1, 1, 1, tzinfo=UTC), (CHAMPION,))
    assert world.promote("r1") == first


def test_rollback_goes_back_to_the_champion_before(world: World) -> None:
    for name in ("r1", "r2", "r3"):
        world.promote(name)
    back = world.roll_back("dislike rate 0.2 over 0.1")

    assert (back.release, world.champion().release) == ("r2", "r2")
    assert back.promoted == datetime(2026, 1, 1, 4, tzinfo=UTC)
    bad = world.known("r3")
    assert (bad.rolled_back, bad.rollback_reason) == (back.promoted, "dislike rate 0.2 over 0.1")
    assert bad.tags["rollback_automatic"] == "false"


def test_rollback_passes_over_what_was_rolled_back(world: World) -> None:
    world.promote("r1")
    world.promote("r2")
    world.roll_back()
    world.promote("r3")

    assert world.roll_back().release == "r1"


def test_rollbacks_one_after_the_other_go_back_in_time(world: World) -> None:
    for name in ("r1", "r2", "r3"):
        world.promote(name)

    assert [world.roll_back().release for _ in range(2)] == ["r2", "r1"]
    with pytest.raises(NotFound) as caught:
        world.roll_back()
    assert caught.value.reason is Reason.RELEASE_NOT_FOUND
    assert world.champion().release == "r1"
    assert world.known("r1").rolled_back is None


def test_a_release_that_was_never_champion_is_not_gone_back_to(world: World) -> None:
    world.promote("r1")
    world.register("refused")
    world.promote("r2")

    assert world.roll_back().release == "r1"


def test_without_a_champion_nothing_is_rolled_back(world: World) -> None:
    with pytest.raises(NotFound, match="no champion"):
        world.roll_back()


def test_a_champion_from_before_times_were_noted_can_be_rolled_back(world: World) -> None:
    world.promote("r1")
    unnoted = world.register("r2")
    world.registry.set_alias(USE_CASE.id, CHAMPION, unnoted.version)

    assert world.roll_back().release == "r1"


def test_what_was_rolled_back_is_promoted_by_force_alone(world: World) -> None:
    world.promote("r1")
    world.promote("r2")
    world.roll_back()
    with pytest.raises(Conflict, match="r2 may not be promoted: rolled_back"):
        world.promote("r2")
    assert world.champion().release == "r1"

    forced = world.promote("r2", force=True)
    assert (forced.rolled_back, forced.forced) == (None, "rolled_back")
    assert world.champion().release == "r2"
    assert world.roll_back().release == "r1"
    assert world.known("r2").rolled_back is not None


def test_a_gate_that_refuses_is_gone_over_by_force_alone(world: World) -> None:
    gates, candidate = [PASSED, REFUSED], world.register("r1")
    with pytest.raises(Conflict, match="size_mb"):
        promote_version(world.registry, candidate, clock=world.clock, gates=gates)
    assert world.registry.resolve(USE_CASE.id, CHAMPION) is None

    forced = promote_version(world.registry, candidate, clock=world.clock, gates=gates, force=True)
    assert (forced.forced, forced.aliases) == ("size_mb", (CHAMPION,))


def test_force_that_was_not_needed_is_not_noted(world: World) -> None:
    assert world.promote("r1", force=True).forced == ""


def test_what_the_gates_said_stays_with_the_candidate(world: World) -> None:
    candidate = world.register("r1")
    assert gates_of(candidate) == []
    note_gates(world.registry, candidate, [PASSED, REFUSED], "r0")

    assert gates_of(world.known("r1")) == [PASSED, REFUSED]
    assert world.known("r1").tags["gates_champion"] == "r0"


def test_a_rollback_cut_short_can_be_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.promote("r1")
    world.promote("r2")
    with monkeypatch.context() as cut:
        cut.setattr(FolderRegistry, "set_alias", _unreachable)
        with pytest.raises(Unavailable):
            world.roll_back()
    assert world.champion().release == "r2"

    assert world.roll_back().release == "r1"
    before = champion_before(world.registry, world.champion())
    assert before is None


def _unreachable(*_: object) -> None:
    raise Unavailable("registry: gone", reason=Reason.REGISTRY_UNAVAILABLE)
