"""Clients of feedback_svc that write all the time, and what they see of what is done to it."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from benchmarks.reactions import USE_CASE
from matchloop.catalog.v1 import catalog_service_pb2 as catalog
from matchloop.catalog.v1 import catalog_service_pb2_grpc, entity_pb2
from matchloop.feedback.v1 import feedback_service_pb2 as calls
from matchloop.feedback.v1 import feedback_service_pb2_grpc, interaction_pb2, session_pb2
from matchloop.rpc.channel import open_channel

if TYPE_CHECKING:
    from collections.abc import Iterator

CALL_SECONDS = 10.0
IDEMPOTENT = ("matchloop.feedback.v1.FeedbackService", "matchloop.catalog.v1.CatalogService")
ITEMS = 1000


@dataclass
class Phase:
    """What clients saw while something was done.

    Parameters
    ----------
    seconds
        Of each call that was answered.
    failures
        Status codes of those that were not, after the client's own retries.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    lasted: float = 0.0

    def figures(self) -> dict[str, Any]:
        """Return counts and times."""
        times = np.array(self.seconds or [0.0])
        return {
            "lasted_s": round(self.lasted, 2),
            "calls": len(self.seconds) + len(self.failures),
            "failed": len(self.failures),
            "p50_ms": round(float(np.median(times)) * 1e3, 2),
            "p99_ms": round(float(np.quantile(times, 0.99)) * 1e3, 1),
            "longest_ms": round(float(times.max()) * 1e3),
        }


class RecordCallers:
    """Clients in turn upsert an item, store a list, record a reaction to it and ask for the subject's state.

    Parameters
    ----------
    address
        gRPC target; several addresses are used in turn, and left when they stop serving.
    pause
        Seconds of rest of a client after each call.
    acknowledged
        Ids of the reactions whose call was answered.
    """

    def __init__(self, address: str, *, clients: int = 2, pause: float = 0.005) -> None:
        self._address, self._clients, self._pause = address, clients, pause
        self._stopping = threading.Event()
        self._phase = Phase("")
        self.phases: list[Phase] = []
        self.acknowledged: list[str] = []

    @contextmanager
    def calling(self) -> Iterator[RecordCallers]:
        """Call until the block ends."""
        threads = [threading.Thread(target=self._call, args=(n,)) for n in range(self._clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join()

    @contextmanager
    def phase(self, name: str, *, at_least: float = 0.0) -> Iterator[Phase]:
        """Take down what is seen during the block, and until so many seconds have passed since it began."""
        began, self._phase = time.monotonic(), Phase(name)
        self.phases.append(self._phase)
        yield self._phase
        self._stopping.wait(began + at_least - time.monotonic())
        self._phase.lasted = time.monotonic() - began

    def _call(self, client: int) -> None:
        rng = np.random.default_rng(client)
        with open_channel(self._address, idempotent=IDEMPOTENT, watch_health="," in self._address) as channel:
            feedback = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
            entities = catalog_service_pb2_grpc.CatalogServiceStub(channel)
            while not self._stopping.is_set():
                name, subject = str(uuid.UUID(bytes=rng.bytes(16))), f"developer-{rng.integers(ITEMS)}"
                item = f"startup-{rng.integers(ITEMS)}"
                self._timed(entities.UpsertEntities, _item(item))
                self._timed(feedback.RecordSessions, _list(name, subject, item))
                if self._timed(feedback.RecordInteractions, _reaction(name, subject, item)):
                    self.acknowledged.append(name)
                self._timed(
                    feedback.LookupSubjectState,
                    calls.LookupSubjectStateRequest(use_case=USE_CASE, subject_id=subject),
                )

    def _timed(self, method: Any, request: Any) -> bool:
        phase, began = self._phase, time.perf_counter()
        try:
            method(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            phase.failures.append(str(error.code()))
            return False
        else:
            phase.seconds.append(time.perf_counter() - began)
            return True
        finally:
            self._stopping.wait(self._pause)


def _item(item: str) -> catalog.UpsertEntitiesRequest:
    name = entity_pb2.FeatureValue(text=f"{item} {uuid.uuid4()}")
    entity = entity_pb2.Entity(key=entity_pb2.EntityKey(kind="startup", id=item), features={"name": name})
    return catalog.UpsertEntitiesRequest(entities=[entity])


def _list(name: str, subject: str, item: str) -> calls.RecordSessionsRequest:
    shown = session_pb2.SessionItem(item_id=item, score=0.9, method=session_pb2.METHOD_ALS)
    session = session_pb2.Session(
        session_id=name,
        use_case=USE_CASE,
        subject_id=subject,
        source=session_pb2.SESSION_SOURCE_RANKING,
        items=[shown],
    )
    return calls.RecordSessionsRequest(sessions=[session])


def _reaction(name: str, subject: str, item: str) -> calls.RecordInteractionsRequest:
    reaction = interaction_pb2.Interaction(
        interaction_id=name,
        use_case=USE_CASE,
        subject_id=subject,
        item_id=item,
        event_type="click",
        session_id=name,
    )
    return calls.RecordInteractionsRequest(interactions=[reaction])
