"""What the tests of feedback_svc build on: one PostgreSQL a session, fresh databases, small records."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from feedback_svc.interactions import EventFacts, Interaction, facts_of
from feedback_svc.migrate import MIGRATIONS, migrate
from feedback_svc.sessions import Session, SessionSource
from matchloop.entities import Categorical, Entity, EntityId, EntityKey, FeatureValue, Kind, Multi
from matchloop.usecase import Method, Tier, UseCases, load_use_cases
from playground.postgres import EmbeddedPostgres

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
USE_CASE = "investor_startup"
MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 * 1024**3
TO_THE_FIRST = f"-{len(list((MIGRATIONS / 'versions').glob('0*.py'))) - 1}"
"""How far down the first schema is."""
_numbers = itertools.count()


@cache
def use_cases() -> UseCases:
    """The shipped ones."""
    return load_use_cases()


@contextmanager
def open_folder() -> Iterator[Path]:
    """Give a short folder that every user may pass: pytest keeps closing its own to others.

    In memory where there is room: hundreds of databases come and go, and none has to last.
    """
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES
    folder = Path(tempfile.mkdtemp(prefix="mlpg", dir=MEMORY if roomy else None))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder for a PostgreSQL of the test's own."""
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """One server for the test session, with a migrated template database."""
    with (
        open_folder() as folder,
        EmbeddedPostgres(folder / "data", {"fsync": "off", "max_wal_size": "512MB"}) as server,
    ):
        migrate(server.create_database("template_matchloop"))
        yield server
        server.stop(at_once=True)


def fresh_database(server: EmbeddedPostgres) -> str:
    """Return the URL of a new, migrated, empty database."""
    return server.create_database(f"test_{next(_numbers)}", template="template_matchloop")


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A new, migrated, empty database; gone after the test."""
    url = fresh_database(postgres)
    yield url
    postgres.drop_database(urlsplit(url).path.removeprefix("/"))


def facts(interactions: list[Interaction]) -> list[EventFacts]:
    """What each does, by the shipped use cases."""
    loaded = use_cases()
    return [facts_of(loaded[i.use_case], loaded.reverse_of(i.use_case))[i.event_type] for i in interactions]


def key(kind: str, id_: str) -> EntityKey:
    """A key."""
    return EntityKey(Kind(kind), EntityId(id_))


def startup(id_: str, category: str = "fintech", **features: FeatureValue) -> Entity:
    """A startup with a category and a team."""
    own: dict[str, FeatureValue] = {"category": Categorical(category), "team": Multi(("ada", "bo"))}
    return Entity(key("startup", id_), own | features)


def event(id_: str, subject: str = "s", item: str = "i", type_: str = "click", **other: Any) -> Interaction:
    """An interaction of `USE_CASE` at `NOW`, unless `other` says otherwise."""
    days = other.pop("days", 0.0)
    return Interaction(id_, USE_CASE, subject, item, type_, NOW + timedelta(days=days), **other)


def shown(id_: str, items: tuple[str, ...] = ("i", "j"), subject: str = "s", **other: Any) -> Session:
    """A list with scores 0.9, 0.8, ... and two features an item."""
    own: dict[str, Any] = {
        "session_id": id_,
        "use_case": USE_CASE,
        "subject_id": subject,
        "release": "r1",
        "arm": "",
        "tier": Tier.WARM,
        "reranked": True,
        "source": SessionSource.RANKING,
        "serve_time": NOW,
        "feature_names": ("model_score", "recency"),
        "item_ids": items,
        "scores": tuple(0.9 - 0.1 * place for place in range(len(items))),
        "methods": (Method.ALS,) * len(items),
        "propensities": (0.0,) * len(items),
        "feature_values": tuple(0.25 * place for place in range(2 * len(items))),
    }
    return Session(**(own | other))
