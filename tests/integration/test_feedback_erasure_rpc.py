"""EraseEntity over gRPC: the contract's rules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from matchloop.catalog.v1 import catalog_service_pb2 as catalog
from matchloop.catalog.v1 import entity_pb2
from matchloop.entities import EntityId, EntityKey, Kind
from matchloop.errors import InvalidInput, NotFound
from matchloop.feedback.v1 import feedback_service_pb2 as feedback
from matchloop.rpc.convert import timestamp
from tests.feedback_rpc_world import World, interaction, rejection, session, startup
from tests.feedback_worlds import NOW, USE_CASE


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def erase(world: World, kind: str = "startup", id_: str = "i") -> catalog.EraseEntityResponse:
    request = catalog.EraseEntityRequest(key=entity_pb2.EntityKey(kind=kind, id=id_))
    reply = world.call("EraseEntity", request)
    assert isinstance(reply, catalog.EraseEntityResponse)
    return reply


def test_the_reply_says_what_went_and_nothing_the_second_time(world: World) -> None:
    world.call("UpsertEntities", catalog.UpsertEntitiesRequest(entities=[startup("i")]))
    world.call("RecordSessions", feedback.RecordSessionsRequest(sessions=[session("x")]))
    world.call("RecordInteractions", feedback.RecordInteractionsRequest(interactions=[interaction("1")]))
    world.call("RecordDislike", feedback.RecordDislikeRequest(dislike=rejection("d")))
    assert erase(world) == catalog.EraseEntityResponse(
        erased=True, interactions=2, dislikes=1, sessions=1, erase_time=timestamp(NOW)
    )
    assert erase(world) == catalog.EraseEntityResponse(erase_time=timestamp(NOW))
    with pytest.raises(NotFound):
        world.call("GetEntity", catalog.GetEntityRequest(key=entity_pb2.EntityKey(kind="startup", id="i")))
    with pytest.raises(NotFound):
        world.call("GetSession", feedback.GetSessionRequest(session_id="x"))


def test_late_data_is_named_among_the_duplicates(world: World) -> None:
    erase(world)
    late = feedback.RecordInteractionsRequest(interactions=[interaction("1"), interaction("2", item_id="j")])
    reply = world.call("RecordInteractions", late)
    assert (reply.stored, list(reply.duplicate_interaction_ids)) == (1, ["1"])
    lists = world.call("RecordSessions", feedback.RecordSessionsRequest(sessions=[session("x")]))
    assert (lists.stored, list(lists.duplicate_session_ids)) == (0, ["x"])
    receipt = world.call("RecordDislike", feedback.RecordDislikeRequest(dislike=rejection("d"))).receipt
    assert (receipt.duplicate, list(receipt.weight_changes)) == (True, [])
    listed = world.call("ListInteractions", feedback.ListInteractionsRequest(use_case=USE_CASE))
    assert [each.interaction.interaction_id for each in listed.interactions] == ["2"]


def test_tombstones_are_listed_for_who_wants_them(world: World) -> None:
    world.call("UpsertEntities", catalog.UpsertEntitiesRequest(entities=[startup("a")]))
    erase(world)
    digest = EntityKey(Kind("startup"), EntityId("i")).digest
    active = world.call("ListEntities", catalog.ListEntitiesRequest())
    assert (len(active.entities), len(active.erased)) == (1, 0)
    everything = world.call("ListEntities", catalog.ListEntitiesRequest(include_inactive=True))
    assert [each.id_hash for each in everything.erased] == [digest]
    assert everything.erased[0].erase_time == timestamp(NOW)
    assert len(everything.entities) == 1
    only = world.call("ListEntities", catalog.ListEntitiesRequest(erased_only=True))
    assert (len(only.entities), [each.id_hash for each in only.erased]) == (0, [digest])
    other = world.call("ListEntities", catalog.ListEntitiesRequest(erased_only=True, kinds=["movie"]))
    assert len(other.erased) == 0


@pytest.mark.parametrize(
    ("kind", "id_", "fields"),
    [
        ("", "", {"key.kind", "key.id"}),
        ("planet", "i", {"key.kind"}),
        ("startup", "", {"key.id"}),
        ("startup", "x" * 129, {"key.id"}),
        ("startup", "a\x1fb", {"key.id"}),
    ],
)
def test_a_key_that_names_nothing_is_refused(world: World, kind: str, id_: str, fields: set[str]) -> None:
    with pytest.raises(InvalidInput) as error:
        erase(world, kind, id_)
    assert {violation.field for violation in error.value.violations} == fields
