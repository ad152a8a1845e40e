"""The monitor over the real client and server: lists in the store, a rollback, and the act that says why."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from matchloop.acts import ActKind
from matchloop.release import CHAMPION
from matchloop.testing.registries import FolderRegistry
from matchloop.testing.releases import build_release
from tests.feedback_rpc_world import World
from tests.feedback_worlds import NOW, USE_CASE, event, facts, shown, use_cases
from training_jobs.config import GuardConfig
from training_jobs.monitor import Monitor
from training_jobs.operations import Operations
from training_jobs.promotion import promote_version

CONFIG = GuardConfig(least_items=100, settle_minutes=0.0)
HOUR = timedelta(hours=1)


def test_a_release_that_is_disliked_is_taken_back_and_the_act_says_why(tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path / "registry")
    use_case = use_cases()[USE_CASE]
    for number in (1, 2):
        built = build_release(tmp_path / f"r{number}", use_case, release=f"r{number}", seed=number)
        registered = registry.register(built, USE_CASE, run_id=None, metrics={})
        promoted = NOW - (3 - number) * HOUR
        promote_version(registry, registered, clock=lambda promoted=promoted: promoted)  # type: ignore[misc]
    with World() as world, Operations(world.address) as operations:
        for number in (1, 2):
            lists = [
                shown(
                    f"r{number}-{n}",
                    ("i", "j", "k"),
                    subject=f"s{n}",
                    release=f"r{number}",
                    serve_time=NOW - (3 - number) * HOUR + timedelta(minutes=1),
                )
                for n in range(120)
            ]
            world.store.record_sessions(lists, now=NOW)
        rejected = [
            event(f"d{n}", type_="dislike", subject=f"s{n}", item="i", session_id=f"r2-{n}")
            for n in range(100)
        ]
        world.store.record_interactions(rejected, facts(rejected), now=NOW)
        monitor = Monitor(USE_CASE, registry, operations, CONFIG, clock=lambda: NOW)
        with operations.lease(f"monitor/{USE_CASE}", seconds=60):
            (look,) = monitor.look()
        assert look.done is ActKind.ROLLED_BACK
        champion = registry.resolve(USE_CASE, CHAMPION)
        assert champion is not None
        assert champion.release == "r1"
        (act,) = operations.acts(USE_CASE)
    assert (act.kind, act.automatic, act.release) == (ActKind.ROLLED_BACK, True, "r2")
    assert "dislike_rate 0.2778 of 360" in act.reason
    numbers = {number.name: (number.value, number.threshold) for number in act.numbers}
    assert numbers["dislike_rate_counted"] == (360.0, None)
