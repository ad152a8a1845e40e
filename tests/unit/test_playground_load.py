"""Loading: batches as large as the services take, counts added up, repeats told apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from matchloop.catalog.v1.catalog_service_pb2 import UpsertEntitiesRequest, UpsertEntitiesResponse
from matchloop.entities import Entity, EntityId, EntityKey, Kind
from matchloop.feedback.v1.feedback_service_pb2 import RecordInteractionsRequest, RecordInteractionsResponse
from matchloop.feedback.v1.interaction_pb2 import Interaction
from playground.clients import Clients
from playground.load import BATCH, load_entities, record_in_batches


class Store:
    """Both stubs: keeps ids, answers as the services do."""

    def __init__(self) -> None:
        self.catalog = self.feedback = self
        self.sizes: list[int] = []
        self.ids: set[str] = set()

    def _keep(self, ids: list[str]) -> list[str]:
        self.sizes.append(len(ids))
        known = [one for one in ids if one in self.ids]
        self.ids |= set(ids)
        return known

    def UpsertEntities(self, request: UpsertEntitiesRequest, timeout: float) -> UpsertEntitiesResponse:
        known = self._keep([entity.key.id for entity in request.entities])
        return UpsertEntitiesResponse(created=len(request.entities) - len(known), unchanged=len(known))

    def RecordInteractions(
        self, request: RecordInteractionsRequest, timeout: float
    ) -> RecordInteractionsResponse:
        known = self._keep([one.interaction_id for one in request.interactions])
        stored = len(request.interactions) - len(known)
        return RecordInteractionsResponse(stored=stored, duplicate_interaction_ids=known)


def entities(count: int) -> list[Entity]:
    return [Entity(EntityKey(Kind("startup"), EntityId(f"s{n}"))) for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, BATCH, BATCH + 1, 2 * BATCH + 3])
def test_entities_go_in_full_batches_and_are_counted(count: int) -> None:
    store, told = Store(), list[int]()
    first = load_entities(cast("Clients", store), entities(count), told.append)
    assert (first.stored, first.already_there) == (count, 0)
    assert told == store.sizes
    assert sum(told) == count
    assert all(size == BATCH for size in told[:-1])
    again = load_entities(cast("Clients", store), entities(count + 2))
    assert (again.stored, again.already_there) == (2, count)


def test_interactions_are_taken_from_an_iterator_and_repeats_counted() -> None:
    store = Store()
    first = record_in_batches(
        cast("Clients", store), (Interaction(interaction_id=f"i{n}") for n in range(BATCH + 1))
    )
    again = record_in_batches(
        cast("Clients", store), (Interaction(interaction_id=f"i{n}") for n in range(BATCH + 2))
    )
    assert (first.stored, first.already_there) == (BATCH + 1, 0)
    assert (again.stored, again.already_there) == (1, BATCH + 1)
    assert store.sizes == [BATCH, 1, BATCH, 2]


def test_updated_entities_count_as_written() -> None:
    def answer(request: Any, timeout: float) -> UpsertEntitiesResponse:
        return UpsertEntitiesResponse(created=1, updated=2, unchanged=4)

    clients = SimpleNamespace(catalog=SimpleNamespace(UpsertEntities=answer))
    count = load_entities(cast("Clients", clients), entities(7))
    assert (count.stored, count.already_there) == (3, 4)
