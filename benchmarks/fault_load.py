"""The clients under which faults are measured: they ask for lists at a bounded rate and report reactions.

A list is asked for once: what fails stays failed and is counted. A reaction is kept and sent again, under the
same id, until it was acknowledged, as docs/faults.md asks of clients.
"""

from __future__ import annotations

import math
import queue
import random
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc

from benchmarks.fault_record import Kept, read_back
from matchloop.feedback.v1.dislike_pb2 import Dislike
from matchloop.feedback.v1.feedback_service_pb2 import RecordDislikeRequest, RecordInteractionsRequest
from matchloop.feedback.v1.interaction_pb2 import Interaction
from matchloop.feedback.v1.session_pb2 import Method, Tier
from matchloop.ranking.v1.ranking_service_pb2 import RecommendRequest, RecommendResponse
from playground.clients import Clients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TIMEOUT = 5.0
"""Seconds a caller waits for a list."""
BATCH = 50
DISLIKED = 0.05
"""Share of lists whose first item is disliked; the others' first item is viewed and clicked."""
STRANGERS = 0.1
"""Share of lists that are asked for subjects nobody knows."""
AGAIN_SECONDS = 0.2
CONNECTIONS = 4

Wish = tuple[str, str, str]
"""Subject, item and session of a reaction to come."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request; seconds of `time.monotonic`."""

    began: float
    ended: float
    code: str
    degraded: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    reranked: bool = False
    tier: str = ""
    release: str = ""
    session_id: str = ""
    items: int = 0
    message: str = ""

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return (self.ended - self.began) * 1000.0


@dataclass(slots=True)
class Feedback:
    """Reactions: ids acknowledged, calls that failed by code, and the messages those came with."""

    sent: int = 0
    acknowledged: list[str] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    messages: set[str] = field(default_factory=set)


class FaultLoad:
    """Asks for lists and reports reactions from threads of their own, until closed.

    Parameters
    ----------
    connect
        Opens stubs; each thread its own.
    use_case, reason
        Of every list; of every dislike.
    subjects
        Who lists are asked for.
    rate
        Lists a second, however long they take: there are as many threads as can be waiting for one.
    strangers
        Share of lists for subjects nobody knows.
    """

    def __init__(
        self,
        connect: Callable[[], Clients],
        *,
        use_case: str,
        reason: str,
        subjects: Sequence[str],
        rate: float,
        strangers: float = STRANGERS,
    ) -> None:
        self._connect, self._use_case, self._reason = connect, use_case, reason
        self._subjects, self._count = subjects, math.ceil(rate * TIMEOUT)
        self._pause = self._count / rate
        self._strangers = strangers
        self._closed = threading.Event()
        self._reactions: queue.SimpleQueue[Wish | None] = queue.SimpleQueue()
        self._begin_time = datetime.now(UTC)
        self.answers: list[Answer] = []
        self.feedback = Feedback()

    def __enter__(self) -> FaultLoad:
        self._clients = [self._connect() for _ in range(CONNECTIONS)]
        self._askers = [threading.Thread(target=self._ask, args=(n,)) for n in range(self._count)]
        self._reporter = threading.Thread(target=self._report)
        for thread in (*self._askers, self._reporter):
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop asking; wait until every reaction was acknowledged."""
        self._closed.set()
        for thread in self._askers:
            thread.join()
        for clients in self._clients:
            clients.close()
        self._reactions.put(None)
        self._reporter.join()

    def kept(self, *, within: float = 60.0) -> Kept:
        """Read back what the store keeps, once all that waits has had `within` seconds to arrive."""
        sessions = [answer.session_id for answer in self.answers if answer.session_id]
        with self._connect() as clients:
            return read_back(
                clients,
                self._use_case,
                self._begin_time,
                sessions=sessions,
                reactions=self.feedback.acknowledged,
                within=within,
            )

    def _ask(self, number: int) -> None:
        rng = random.Random(number)  # noqa: S311 - load, not secrets
        clients = self._clients[number % CONNECTIONS]
        next_at = time.monotonic() + self._pause * number / self._count
        while not self._closed.wait(max(0.0, next_at - time.monotonic())):
            known = rng.random() >= self._strangers
            self._ask_for(clients, rng.choice(self._subjects) if known else f"stranger-{uuid.uuid4()}")
            next_at += self._pause

    def _ask_for(self, clients: Clients, subject: str) -> None:
        began = time.monotonic()
        try:
            reply = clients.ranking.Recommend(
                RecommendRequest(use_case=self._use_case, subject_id=subject, count=10), timeout=TIMEOUT
            )
        except grpc.RpcError as error:
            code, message = _told(error)
            self.answers.append(Answer(began, time.monotonic(), code, message=message))
            return
        self.answers.append(_answer(began, reply))
        if reply.session_id:
            self._reactions.put((subject, reply.items[0].item_id, reply.session_id))

    def _report(self) -> None:
        with self._connect() as clients:
            for wishes in self._batches():
                self._until_acknowledged(clients, wishes)

    def _batches(self) -> Iterator[list[Wish]]:
        while (first := self._reactions.get()) is not None:
            batch = [first]
            while len(batch) < BATCH and not self._reactions.empty():
                wish = self._reactions.get()
                if wish is None:
                    yield batch
                    return
                batch.append(wish)
            yield batch

    def _until_acknowledged(self, clients: Clients, wishes: Sequence[Wish]) -> None:
        """Send the reactions until the store has them all; a repetition stores nothing twice."""
        interactions, dislikes = [], []
        for subject, item, session in wishes:
            if int(session[:4], 16) < DISLIKED * 0x10000:
                dislikes.append(self._dislike(subject, item, session))
            else:
                interactions += [
                    self._interaction(subject, item, session, kind) for kind in ("view", "click")
                ]
        record = RecordInteractionsRequest(interactions=interactions)
        if interactions:
            ids = [each.interaction_id for each in interactions]
            self._send(lambda: clients.feedback.RecordInteractions(record, timeout=TIMEOUT), ids)
        for each in dislikes:
            asked = RecordDislikeRequest(dislike=each)
            self._send(
                lambda asked=asked: clients.feedback.RecordDislike(asked, timeout=TIMEOUT),  # type: ignore[misc]
                [each.dislike_id],
            )

    def _send(self, send: Callable[[], object], ids: list[str]) -> None:
        self.feedback.sent += len(ids)
        while True:
            try:
                send()
            except grpc.RpcError as error:
                code, message = _told(error)
                self.feedback.failed[code] += 1
                self.feedback.messages.add(message)
                time.sleep(AGAIN_SECONDS)
            else:
                self.feedback.acknowledged += ids
                return

    def _interaction(self, subject: str, item: str, session: str, event_type: str) -> Interaction:
        message = Interaction(
            interaction_id=f"{session}-{event_type}",
            use_case=self._use_case,
            subject_id=subject,
            item_id=item,
            event_type=event_type,
            session_id=session,
        )
        message.event_time.FromDatetime(datetime.now(UTC))
        return message

    def _dislike(self, subject: str, item: str, session: str) -> Dislike:
        message = Dislike(
            dislike_id=f"{session}-dislike",
            use_case=self._use_case,
            subject_id=subject,
            item_id=item,
            reason=self._reason,
            session_id=session,
        )
        message.event_time.FromDatetime(datetime.now(UTC))
        return message


def _told(error: grpc.RpcError) -> tuple[str, str]:
    """Return the code and the message of a failed call."""
    call: Any = error  # what stubs raise is a Call too; the type stubs know no such class
    return call.code().name, call.details() or ""


def _answer(began: float, reply: RecommendResponse) -> Answer:
    return Answer(
        began,
        time.monotonic(),
        "OK",
        degraded=frozenset(reply.degraded),
        skipped=frozenset(Method.Name(skip.method) for skip in reply.skipped),
        reranked=reply.reranked,
        tier=Tier.Name(reply.tier),
        release=reply.release,
        session_id=reply.session_id,
        items=len(reply.items),
    )
