"""Every test here that takes a `store` runs over memory and over PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from feedback_svc.store.memory import MemoryStore
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.protocol import Store
from tests.feedback_worlds import database_url, postgres, server_folder

__all__ = ["database_url", "postgres", "server_folder"]


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.processes)])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store."""
    if request.param == "memory":
        yield MemoryStore()
        return
    kept = PostgresStore(Database(request.getfixturevalue("database_url"), pool_size=2))
    yield kept
    kept.close()
