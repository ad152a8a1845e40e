"""Eight clients send the same record over gRPC, each in an order of its own, at once: one final state."""

from __future__ import annotations

import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from sqlalchemy import text

from feedback_svc.store.postgres import PostgresStore
from matchloop.catalog.v1 import catalog_service_pb2_grpc
from matchloop.feedback.v1 import feedback_service_pb2_grpc
from playground.postgres import EmbeddedPostgres
from tests.feedback_rpc_world import (
    World,
    at,
    interaction,
    item,
    postgres_world,
    record,
    reject,
    rejection,
    session,
    show,
    startup,
    tables,
    upsert,
    value,
)
from tests.feedback_worlds import NOW

pytestmark = pytest.mark.processes

CLIENTS = 8
ARRIVAL = {"sequence", "change_sequence", "factors_before", "factors_after"}
"""Columns that say in which order things came; a dislike's factors are what its receipt said on arrival."""
UNCOMPARED = {"alembic_version", "change_clock", "amendments"}
"""Tables of the database's own, and what is noted when a row changes after it was stored: arrival alone."""
REASONS = ["wrong_category", "poor_quality", "not_interested", "already_known", "wrong_stage", "other"]
EVENTS = ["view", "click", "like", "dislike", "apply"]
Step = tuple[str, Message]

STARTUPS = upsert(
    *[
        startup(
            f"i{n}",
            category=value(categorical=f"c{n % 3}"),
            team=value(multi={"values": ["ada", f"t{n}"]}),
            stages=value(multi={"values": ["seed"]}),
        )
        for n in range(7)
    ]
)
"""Stored before the dislikes: what a dislike does depends on what the item is then."""


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def steps(rng: random.Random) -> list[Step]:
    """Return the whole record in batches, cut and ordered by `rng`; every step may be sent again."""
    events = [
        interaction(
            f"e{n}",
            subject_id=f"s{n % 3}",
            item_id=f"i{n % 7}",
            event_type=EVENTS[n % 5],
            event_time=at(ago(n / 3)),
            session_id=f"x{n % 9}" if n % 2 else "",
        )
        for n in range(120)
    ]
    lists = [
        session(
            f"x{n}",
            subject_id=f"s{n % 3}",
            serve_time=at(ago(n)),
            release=f"r{n % 2}",
            items=[item(f"i{place}", score=1.0 - place / 10) for place in range(4)],
        )
        for n in range(9)
    ]
    dislikes = [
        rejection(
            f"d{n}",
            subject_id=f"s{n % 3}",
            item_id=f"i{n % 7}",
            reason=REASONS[n % len(REASONS)],
            session_id=f"x{n % 9}",
            event_time=at(ago(n)),
        )
        for n in range(18)
    ]
    people = [startup(f"late{n}", name=value(text=f"number {n}")) for n in range(20)]
    found: list[Step] = [("RecordDislike", reject(dislike)) for dislike in dislikes]
    found += [("RecordInteractions", record(*batch)) for batch in batches(rng, events, 17)]
    found += [("RecordSessions", show(*batch)) for batch in batches(rng, lists, 4)]
    found += [("UpsertEntities", upsert(*batch)) for batch in batches(rng, people, 6)]
    found.append(("UpsertEntities", STARTUPS))
    return rng.sample(found, len(found))


def batches(rng: random.Random, whole: list[Any], size: int) -> list[list[Any]]:
    mixed = rng.sample(whole, len(whole))
    return [mixed[first : first + size] for first in range(0, len(mixed), size)]


def state(world: World) -> Mapping[str, list[tuple[Any, ...]]]:
    """Return every table, whatever it is called, without what says in which order things came."""
    store = world.store
    assert isinstance(store, PostgresStore)
    found: dict[str, list[tuple[Any, ...]]] = {}
    with store._database.engine.connect() as connection:
        for name in sorted({*tables(store)} - UNCOMPARED):
            rows = connection.execute(text(f'SELECT * FROM "{name}"')).mappings()
            found[name] = sorted(
                (tuple((c, settled(v)) for c, v in row.items() if c not in ARRIVAL) for row in rows), key=repr
            )
    return found


def settled(kept: Any) -> Any:
    return float(f"{kept:.9g}") if isinstance(kept, float) else kept


def test_replays_by_8_clients_in_any_order_leave_one_state(postgres: EmbeddedPostgres) -> None:
    with (
        postgres_world(postgres, threads=CLIENTS) as once,
        postgres_world(postgres, threads=CLIENTS) as often,
    ):
        for world in (once, often):
            world.call("UpsertEntities", STARTUPS)
        for method, request in steps(random.Random(0)):
            once.call(method, request)

        def replay(number: int) -> None:
            with grpc.insecure_channel(often.address) as channel:
                stubs = (
                    catalog_service_pb2_grpc.CatalogServiceStub(channel),
                    feedback_service_pb2_grpc.FeedbackServiceStub(channel),
                )
                for method, request in steps(random.Random(number)):
                    stub = stubs[0] if hasattr(stubs[0], method) else stubs[1]
                    getattr(stub, method)(request, timeout=60)

        with ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(replay, number) for number in range(1, CLIENTS + 1)]:
                done.result(120)
        expected, found = state(once), state(often)
        assert found.keys() == expected.keys()
        for name, rows in expected.items():
            assert found[name] == rows, name
        assert {"interactions", "sessions", "dislikes", "weight_factors"} <= {
            n for n, r in found.items() if r
        }
