"""Requests while the catalogue changes and releases come and go: always a whole answer."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from candidate_svc.domain import Asked
from candidate_svc.released import ReleaseLoader
from matchloop.entities import Categorical, EntityId, Multi
from matchloop.features import HashingEmbedder
from matchloop.release.manifest import verify
from matchloop.release.slot import Loaded
from matchloop.retrieval.routing import SkipReason
from matchloop.usecase import Method
from tests.candidate_release import write_release
from tests.candidate_world import NOW, developer, event, startup, startups, state, use_case, world

ROUNDS = 40


def test_answers_are_whole_while_items_and_releases_change(tmp_path: Path) -> None:
    items = startups(200)
    made = world(items)
    loader = ReleaseLoader(
        use_case(), made.mirror.rows["startup"], HashingEmbedder(use_case().embedding_width)
    )
    made.mirror.subscribe(loader)
    folders = [write_release(tmp_path / name, items, release=name) for name in ("r1", "r2")]
    known = state(
        developer("d1", categories=Multi(("games",))),
        [event("s2"), event("s6")],
        interaction_count=10,
        hidden=frozenset({"s2"}),
    )
    faults: list[str] = []
    served: set[str] = set()
    done = threading.Event()

    def ask(method: Method) -> None:
        asked = Asked(use_case(), EntityId("d1"), count=30, methods=(method, Method.POPULAR), explain=True)
        while not done.is_set():
            found = made.retriever.find(asked, known)
            names = [each.item_id for each in found.candidates]
            served.add(found.release)
            if len(names) != 30 or len(set(names)) != 30 or "s2" in names or "never" in names:
                faults.append(f"{method}: {names}")
            faults.extend(f"{skip}" for skip in found.skipped if skip.reason is SkipReason.FAILED)

    readers = [threading.Thread(target=ask, args=(method,)) for method in (Method.CONTENT, Method.ENSEMBLE)]
    for reader in readers:
        reader.start()
    try:
        for number in range(ROUNDS):
            folder = folders[number % 2]
            manifest = verify(folder, use_case())
            made.release = Loaded(manifest.release, "1", loader.load(folder, manifest), manifest, NOW)
            made.store.upsert(startup(f"new{number}", category=Categorical("games")))
            made.store.upsert(replace(startup("never", category=Categorical("games")), active=False))
            made.store.deactivate(f"s{number * 4 + 3}")
            assert made.mirror.poll_once()
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert faults == []
    assert served >= {"r1", "r2"}
    left = set(made.mirror.rows["startup"].active_ids())
    assert left == {f"s{i}" for i in range(200)} - {f"s{n * 4 + 3}" for n in range(ROUNDS)} | {
        f"new{n}" for n in range(ROUNDS)
    }
