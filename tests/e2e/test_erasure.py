"""A startup and an investor are erased from a running stack: nothing holds them any more."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message
from sqlalchemy import create_engine, text

from feedback_svc.export import export
from matchloop.candidate.v1 import candidate_service_pb2 as candidate_pb
from matchloop.catalog.v1 import catalog_service_pb2 as catalog_pb
from matchloop.catalog.v1.entity_pb2 import Entity, EntityKey, FeatureValue, Values
from matchloop.feedback.v1 import dislike_pb2, interaction_pb2, session_pb2
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from playground.clients import Clients
from playground.stack import Stack
from tests.e2e.waiting import recommend, until

pytestmark = pytest.mark.processes

FORWARD, REVERSE = "investor_startup", "startup_investor"
STARTUP, INVESTOR = "erased-startup-5e1f", "erased-investor-0c7d"
OTHERS = ("other-startup", "other-investor")

EVERY_COLUMN = """
SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'
"""


def entity(kind: str, id_: str) -> Entity:
    key = EntityKey(kind=kind, id=id_)
    if kind == "startup":
        return Entity(key=key, features={"category": FeatureValue(categorical="fusion")})
    return Entity(key=key, features={"categories": FeatureValue(multi=Values(values=["fusion"]))})


def interaction(use_case: str, subject: str, item: str, event: str) -> interaction_pb2.Interaction:
    return interaction_pb2.Interaction(
        interaction_id=str(uuid.uuid4()),
        use_case=use_case,
        subject_id=subject,
        item_id=item,
        event_type=event,
    )


def fill(clients: Clients) -> None:
    """Put both into every table: as subject and as item, forward and reverse."""
    entities = [entity("startup", STARTUP), entity("investor", INVESTOR)]
    entities += [entity("startup", OTHERS[0]), entity("investor", OTHERS[1])]
    clients.catalog.UpsertEntities(catalog_pb.UpsertEntitiesRequest(entities=entities), timeout=10)
    investors, startups = (INVESTOR, OTHERS[1]), (STARTUP, OTHERS[0])
    events = [interaction(FORWARD, i, s, e) for i in investors for s in startups for e in ("view", "like")]
    events += [
        interaction(REVERSE, s, i, e) for i in investors for s in startups for e in ("view", "contact")
    ]
    clients.feedback.RecordInteractions(
        feedback_pb.RecordInteractionsRequest(interactions=events), timeout=10
    )
    for subject in investors:
        rejected = dislike_pb2.Dislike(
            dislike_id=str(uuid.uuid4()),
            use_case=FORWARD,
            subject_id=subject,
            item_id=STARTUP if subject != INVESTOR else OTHERS[0],
            reason="wrong_category",
        )
        clients.feedback.RecordDislike(feedback_pb.RecordDislikeRequest(dislike=rejected), timeout=10)
    lists = [(FORWARD, subject, startups) for subject in investors]
    lists += [(REVERSE, subject, investors) for subject in startups]
    sessions = [
        session_pb2.Session(
            session_id=str(uuid.uuid4()),
            use_case=use_case,
            subject_id=subject,
            source=session_pb2.SESSION_SOURCE_CLIENT,
            items=[session_pb2.SessionItem(item_id=item, score=0.5) for item in items],
        )
        for use_case, subject, items in lists
    ]
    clients.feedback.RecordSessions(feedback_pb.RecordSessionsRequest(sessions=sessions), timeout=10)


def columns_holding(url: str, name: str) -> list[str]:
    """Return every column of every table of which some row, as text, has the name in it."""
    engine = create_engine(url)
    with engine.connect() as connection:
        columns = [tuple(row) for row in connection.execute(text(EVERY_COLUMN))]
        holding = [
            f"{table}.{column}"
            for table, column in columns
            if connection.execute(
                text(f'SELECT EXISTS (SELECT FROM "{table}" WHERE "{column}"::text LIKE :name)'),
                {"name": f"%{name}%"},
            ).scalar_one()
        ]
    engine.dispose()
    assert len(columns) > 50
    return sorted(holding)


def parquet_holding(folder: Path, name: str) -> list[str]:
    return [
        path.name
        for path in sorted(folder.rglob("*.parquet"))
        if any(name in str(row) for row in pq.read_table(path).to_pylist())
    ]


def candidates(clients: Clients, use_case: str, subject: str) -> Message:
    request = candidate_pb.GetCandidatesRequest(use_case=use_case, subject_id=subject, count=500)
    reply = clients.candidate.GetCandidates(request, timeout=10)
    assert isinstance(reply, Message)
    return reply


def replies(clients: Clients) -> list[Message]:
    """Ask everything that might name the two, on behalf of them and of others."""
    similar = candidate_pb.GetSimilarItemsRequest(use_case=FORWARD, item_id=OTHERS[0], count=100)
    alike = candidate_pb.GetSimilarItemsRequest(use_case=REVERSE, item_id=OTHERS[1], count=100)
    fresh = "someone-new"
    return [
        *(recommend(clients, FORWARD, subject, count=100, preview=True) for subject in (INVESTOR, fresh)),
        *(recommend(clients, REVERSE, subject, count=100, preview=True) for subject in (STARTUP, fresh)),
        *(candidates(clients, FORWARD, subject) for subject in (INVESTOR, fresh)),
        *(candidates(clients, REVERSE, subject) for subject in (STARTUP, fresh)),
        clients.candidate.GetSimilarItems(similar, timeout=10),
        clients.candidate.GetSimilarItems(alike, timeout=10),
        *(
            clients.candidate.ListTrending(
                candidate_pb.ListTrendingRequest(use_case=use_case, page_size=500), timeout=10
            )
            for use_case in (FORWARD, REVERSE)
        ),
        clients.catalog.ListEntities(catalog_pb.ListEntitiesRequest(include_inactive=True), timeout=10),
    ]


def named(clients: Clients, name: str) -> int:
    return sum(name in str(reply) for reply in replies(clients))


def test_nothing_holds_what_was_erased(stack: Stack, clients: Clients, tmp_path: Path) -> None:
    fill(clients)
    for use_case, item in ((FORWARD, OTHERS[0]), (REVERSE, OTHERS[1])):
        until(lambda of=(use_case, item): of[1] in str(candidates(clients, of[0], "new")), f"{item} listed")  # type: ignore[misc]
    until(lambda: min(named(clients, STARTUP), named(clients, INVESTOR)) >= 4, "both in the replies")
    before = {name: columns_holding(stack.database_url, name) for name in (STARTUP, INVESTOR)}
    assert {"entities.id", "interactions.item_id", "interactions.subject_id"} < set(before[STARTUP])
    assert {"sessions.item_ids", "sessions.subject_id", "dislikes.item_id"} < set(before[STARTUP])
    assert {"item_stats.item_id", "subject_counts.subject_id"} < set(before[INVESTOR])
    export(stack.database_url, tmp_path / "before", now=datetime.now(UTC))
    assert len(parquet_holding(tmp_path / "before", STARTUP)) >= 4

    for kind, id_ in (("startup", STARTUP), ("investor", INVESTOR)):
        key = EntityKey(kind=kind, id=id_)
        done = clients.catalog.EraseEntity(catalog_pb.EraseEntityRequest(key=key), timeout=30)
        assert done.erased
        assert done.interactions >= 4
        with pytest.raises(grpc.RpcError) as error:
            clients.catalog.GetEntity(catalog_pb.GetEntityRequest(key=key), timeout=10)
        assert error.value.code() is grpc.StatusCode.NOT_FOUND

    for name in (STARTUP, INVESTOR):
        until(lambda name=name: named(clients, name) == 0, f"{name} gone from every reply")  # type: ignore[misc]
        assert columns_holding(stack.database_url, name) == []
    export(stack.database_url, tmp_path / "after", now=datetime.now(UTC))
    for name in (STARTUP, INVESTOR):
        assert parquet_holding(tmp_path / "after", name) == []
    assert parquet_holding(tmp_path / "after", OTHERS[0])
    subject = recommend(clients, FORWARD, INVESTOR, preview=True)
    assert subject.tier == session_pb2.TIER_COLD
    for kind, id_ in (("startup", OTHERS[0]), ("investor", OTHERS[1])):
        clients.catalog.EraseEntity(
            catalog_pb.EraseEntityRequest(key=EntityKey(kind=kind, id=id_)), timeout=30
        )
