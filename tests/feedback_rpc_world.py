"""feedback_svc over gRPC in this process, over any store, and the requests that its tests send."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from sqlalchemy import text

from feedback_svc.retraining import RetrainingBounds
from feedback_svc.serving import build_server
from feedback_svc.store.memory import MemoryStore
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.protocol import Store
from matchloop.catalog.v1 import catalog_service_pb2 as catalog
from matchloop.catalog.v1 import catalog_service_pb2_grpc, entity_pb2
from matchloop.errors import MatchloopError, Reason
from matchloop.feedback.v1 import dislike_pb2, feedback_service_pb2_grpc, interaction_pb2, session_pb2
from matchloop.feedback.v1 import feedback_service_pb2 as feedback
from matchloop.operations.v1 import operations_service_pb2 as operations
from matchloop.operations.v1 import operations_service_pb2_grpc
from matchloop.rpc.settings import ServerSettings
from matchloop.rpc.status import from_rpc_error
from playground.postgres import EmbeddedPostgres
from tests.bounds import methods_of
from tests.feedback_worlds import NOW, USE_CASE, fresh_database, use_cases


class World:
    """A running service; its clock stands until it is set.

    Parameters
    ----------
    store
        One in memory when None. Closed with the world.
    threads
        Calls worked on at a time.
    """

    def __init__(self, store: PostgresStore | None = None, *, threads: int = 2) -> None:
        self.now = NOW
        self.store: MemoryStore | PostgresStore = store or MemoryStore()
        self._threads = threads

    def clock(self) -> datetime:
        return self.now

    def call(self, method: str, request: Message) -> Any:
        try:
            return self.method(method)(request, timeout=30)
        except grpc.RpcError as error:
            raise from_rpc_error(error, upstream="feedback_svc") from error

    def method(self, name: str) -> Any:
        """Return an RPC of whichever service has it."""
        stubs = (self.catalog, self.feedback, self.operations)
        return next(getattr(stub, name) for stub in stubs if hasattr(stub, name))

    def error(self, method: str, request: Message) -> MatchloopError | None:
        """Return what a call is refused with; None when it is answered."""
        try:
            self.call(method, request)
        except MatchloopError as error:
            return error
        return None

    @property
    def address(self) -> str:
        return self._server.address

    @property
    def channel(self) -> grpc.Channel:
        return self._channel

    def __enter__(self) -> World:
        settings = ServerSettings(threads=self._threads, grace_seconds=0.0, linger_seconds=0.0)
        bounds = RetrainingBounds(negatives=2, error=0.7, error_negatives=1)
        self._server = build_server(settings, self.store, use_cases(), self.clock, bounds=bounds).start()
        self._channel = grpc.insecure_channel(self._server.address)
        self.catalog = catalog_service_pb2_grpc.CatalogServiceStub(self._channel)
        self.feedback = feedback_service_pb2_grpc.FeedbackServiceStub(self._channel)
        self.operations = operations_service_pb2_grpc.OperationsServiceStub(self._channel)
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._server.stop()
        self.store.close()


def postgres_world(server: EmbeddedPostgres, *, url: str = "", threads: int = 2) -> World:
    """A service, not started, over a fresh database or the one given."""
    database = Database(url or fresh_database(server), pool_size=threads, statement_timeout=30.0)
    return World(PostgresStore(database), threads=threads)


def rows(store: Store) -> dict[str, int]:
    """Return how many rows each table holds, those alone that hold some; of a store of either sort."""
    if isinstance(store, PostgresStore):
        names = [name for name in tables(store) if name not in ("alembic_version", "change_clock")]
        counted = " UNION ALL ".join(f"SELECT '{name}', count(*) FROM \"{name}\"" for name in names)
        with store._database.engine.connect() as connection:
            found = {str(name): int(count) for name, count in connection.execute(text(counted))}
    else:
        found = {name: len(kept) for name, kept in vars(store).items() if hasattr(kept, "__len__")}
    return {name: count for name, count in found.items() if count}


def unavailable(world: World, method: str, request: Message) -> str:
    """Assert that a call fails as a store that is away does, and says when to retry; return its message."""
    with pytest.raises(grpc.RpcError) as raised:
        world.method(method)(request, timeout=30)
    assert from_rpc_error(raised.value, upstream="feedback_svc").reason is Reason.STORE_UNAVAILABLE
    failed: Any = raised.value
    assert failed.code() is grpc.StatusCode.UNAVAILABLE
    status: Any = rpc_status.from_call(failed)
    assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
    return str(failed.details())


def tables(store: PostgresStore) -> list[str]:
    """Return the names of the store's tables."""
    with store._database.engine.connect() as connection:
        found = connection.execute(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        )
        return [str(name) for name in found.scalars()]


def methods() -> Iterator[tuple[str, type[Message]]]:
    """Give every RPC's name and request type."""
    return methods_of(
        (catalog, "CatalogService"), (feedback, "FeedbackService"), (operations, "OperationsService")
    )


def startup(id_: str = "a", **features: entity_pb2.FeatureValue) -> entity_pb2.Entity:
    return entity_pb2.Entity(key=entity_pb2.EntityKey(kind="startup", id=id_), features=features)


def interaction(id_: str = "1", **given: Any) -> interaction_pb2.Interaction:
    return interaction_pb2.Interaction(
        **{
            "interaction_id": id_,
            "use_case": USE_CASE,
            "subject_id": "s",
            "item_id": "i",
            "event_type": "click",
            **given,
        }
    )


def session(id_: str = "x", **given: Any) -> session_pb2.Session:
    items = [session_pb2.SessionItem(item_id="i", score=0.9, method=session_pb2.METHOD_ALS)]
    return session_pb2.Session(
        **{
            "session_id": id_,
            "use_case": USE_CASE,
            "subject_id": "s",
            "source": session_pb2.SESSION_SOURCE_RANKING,
            "items": items,
            **given,
        }
    )


def rejection(id_: str = "d", **given: Any) -> dislike_pb2.Dislike:
    return dislike_pb2.Dislike(
        **{
            "dislike_id": id_,
            "use_case": USE_CASE,
            "subject_id": "s",
            "item_id": "i",
            "reason": "not_interested",
            **given,
        }
    )


def upsert(*entities: entity_pb2.Entity) -> catalog.UpsertEntitiesRequest:
    return catalog.UpsertEntitiesRequest(entities=entities)


def record(*interactions: interaction_pb2.Interaction) -> feedback.RecordInteractionsRequest:
    return feedback.RecordInteractionsRequest(interactions=interactions)


def show(*sessions: session_pb2.Session) -> feedback.RecordSessionsRequest:
    return feedback.RecordSessionsRequest(sessions=sessions)


def reject(dislike: dislike_pb2.Dislike) -> feedback.RecordDislikeRequest:
    return feedback.RecordDislikeRequest(dislike=dislike)


def at(moment: datetime) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(moment)
    return result


def value(**given: Any) -> entity_pb2.FeatureValue:
    return entity_pb2.FeatureValue(**given)


def item(id_: str = "i", **given: Any) -> session_pb2.SessionItem:
    return session_pb2.SessionItem(item_id=id_, **given)
