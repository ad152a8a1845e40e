"""Indexes that change while they are searched."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from matchloop.entities import Categorical, Entity, EntityId, EntityKey, Kind
from matchloop.features import HashingEmbedder
from matchloop.retrieval.content import ContentIndex
from matchloop.retrieval.profile import ContentProfile
from matchloop.retrieval.vector_index import VectorIndex
from matchloop.usecase import load_use_cases

ROUNDS = 60
STAY = [EntityId(f"stay{at}") for at in range(20)]
GO = [EntityId(f"go{at}") for at in range(80)]


def race(change: Callable[[int], None], search: Callable[[], set[EntityId]]) -> None:
    """Change in one thread, search in two: what stays is found each time, nothing raises."""

    def searched() -> bool:
        return all(search() >= set(STAY) for _ in range(ROUNDS))

    def changed() -> bool:
        for at in range(ROUNDS):
            change(at)
        return True

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(work) for work in (changed, searched, searched)]
        assert all(future.result() for future in futures)


def test_content_is_searched_while_items_come_and_go() -> None:
    use_case = load_use_cases()["investor_startup"]
    index = ContentIndex(use_case, HashingEmbedder(use_case.embedding_width))

    def items(ids: list[EntityId]) -> list[Entity]:
        return [Entity(EntityKey(Kind("startup"), id_), {"category": Categorical("bio")}) for id_ in ids]

    def change(at: int) -> None:
        if at % 2:
            index.remove(GO)
        else:
            index.upsert(items(GO))

    index.upsert(items(STAY))
    profile = ContentProfile({"category": {"bio": 1.0}}, None)
    race(change, lambda: {hit.item for hit in index.search(profile, 200)})


def test_vectors_are_searched_while_items_come_and_go() -> None:
    index = VectorIndex(2, exact_below=50)  # crosses from comparing all to the graph

    def change(at: int) -> None:
        if at % 2:
            index.remove(GO)
        else:
            index.upsert(GO, np.ones((len(GO), 2), dtype=np.float32))

    index.upsert(STAY, np.ones((len(STAY), 2), dtype=np.float32))
    query = np.ones(2, dtype=np.float32)
    race(change, lambda: {hit.item for hit in index.search(query, 200)})
