"""Slots side by side: a registry that hangs holds up neither the start nor the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from matchloop.release import ReleaseSlot
from matchloop.release.golden import Answerer
from matchloop.release.registry import RegisteredRelease
from matchloop.release.slots import close_all, start_all
from matchloop.rerank.scorer import PART, Ranker
from matchloop.testing.registries import FolderRegistry
from matchloop.testing.releases import build_release
from matchloop.usecase import load_use_cases

USE_CASES = tuple(load_use_cases().values())
SOON = 5.0


class Hanging(FolderRegistry):
    """Answers when its gate is open."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gate = threading.Event()
        self.gate.set()

    def resolve(self, use_case: str, alias: str) -> RegisteredRelease | None:
        self.gate.wait(30)
        return super().resolve(use_case, alias)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Hanging]:
    made = Hanging(tmp_path / "registry")
    yield made
    made.gate.set()


def promote(registry: Hanging, folder: Path, release: str) -> None:
    for use_case in USE_CASES:
        built = build_release(folder / use_case.id / release, use_case, release=release)
        version = registry.register(built, use_case.id, run_id=None, metrics={}).version
        registry.set_alias(use_case.id, "champion", version)


def slots(registry: Hanging, folder: Path) -> list[ReleaseSlot[Ranker]]:
    return [
        ReleaseSlot(
            use_case,
            registry,
            lambda where, _, use_case=use_case: Ranker.load(where / PART, use_case),  # type: ignore[misc]
            folder / "cache",
            0.01,
            answers=answers,
        )
        for use_case in USE_CASES
    ]


def answers(ranker: Ranker) -> Mapping[str, Answerer]:
    return {PART: ranker.answer}


def serving(running: list[ReleaseSlot[Ranker]]) -> set[str | None]:
    return {loaded.release if (loaded := slot.current()) else None for slot in running}


def test_a_registry_that_hangs_is_waited_for_once_and_the_last_good_copies_serve(
    registry: Hanging, tmp_path: Path
) -> None:
    promote(registry, tmp_path / "built", "r1")
    first = slots(registry, tmp_path)
    assert start_all(first, wait_seconds=SOON) == 0
    assert serving(first) == {"r1"}
    close_all(first, timeout=SOON)

    promote(registry, tmp_path / "built", "r2")
    registry.gate.clear()
    again = slots(registry, tmp_path)
    began = time.monotonic()
    assert start_all(again, wait_seconds=0.2) == len(USE_CASES)
    assert serving(again) == {"r1"}
    assert time.monotonic() - began < SOON

    registry.gate.set()
    until = time.monotonic() + SOON
    while serving(again) != {"r2"} and time.monotonic() < until:
        time.sleep(0.01)
    assert serving(again) == {"r2"}

    registry.gate.clear()
    began = time.monotonic()
    close_all(again, timeout=0.3)
    assert time.monotonic() - began < 0.3 * len(USE_CASES)


def test_a_registry_that_hangs_and_no_copy_is_no_release(registry: Hanging, tmp_path: Path) -> None:
    registry.gate.clear()
    running = slots(registry, tmp_path)
    start_all(running, wait_seconds=0.05)
    assert serving(running) == {None}
    registry.gate.set()
    close_all(running, timeout=SOON)
