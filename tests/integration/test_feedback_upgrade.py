"""The schema changes while the service serves: no call fails, none waits long, whoever holds the tables."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text

from feedback_svc import migrate as migrations
from feedback_svc.migrate import migrate, revisions
from matchloop.errors import Unavailable
from playground.postgres import EmbeddedPostgres
from tests.e2e.waiting import until
from tests.feedback_callers import Callers
from tests.feedback_rpc_world import World, interaction, postgres_world, record
from tests.integration.test_feedback_migrations import connected

pytestmark = pytest.mark.processes

LONGEST_CALL = 3.0
"""Seconds: what a change of schema waits for its tables, and what this machine takes for the rest."""

EXPAND = '''
"""What most upgrades are: a column, a table, a function of the same signature, a constraint."""

from alembic import op

revision = "9001"
down_revision = "{head}"


def upgrade():
    op.execute("ALTER TABLE interactions ADD COLUMN channel text NOT NULL DEFAULT ''")
    op.execute("CREATE TABLE channels (channel text PRIMARY KEY)")
    op.execute("ALTER TABLE interactions ADD CONSTRAINT named CHECK (item_id <> '') NOT VALID")
    op.execute("ALTER TABLE interactions VALIDATE CONSTRAINT named")
    op.execute(
        "CREATE OR REPLACE FUNCTION halved(earlier timestamptz, later timestamptz, half_life_seconds float8)"
        " RETURNS float8 LANGUAGE sql IMMUTABLE AS "
        "$$ SELECT power(2::float8, greatest(-9, date_part('epoch', earlier - later) / half_life_seconds)) $$"
    )


def downgrade():
    op.execute("ALTER TABLE interactions DROP CONSTRAINT named, DROP COLUMN channel")
    op.execute("DROP TABLE channels")
'''
INDEX = '''
"""An index over what is there."""

from alembic import op

from feedback_svc.store.migrations.steps import build_index

revision = "9002"
down_revision = "9001"


def upgrade():
    build_index("interactions_by_channel", "ON interactions (channel, sequence)")


def downgrade():
    op.execute("DROP INDEX interactions_by_channel")
'''
AFTER = '''
"""What comes after an index; it notes how long it would wait for a table."""

from alembic import op

revision = "9003"
down_revision = "9002"


def upgrade():
    wait = op.get_bind().exec_driver_sql("SHOW lock_timeout").scalar_one()
    op.execute(f"COMMENT ON TABLE interactions IS '{wait}'")


def downgrade():
    op.execute("COMMENT ON TABLE interactions IS NULL")
'''


@pytest.fixture
def world(postgres: EmbeddedPostgres, database_url: str) -> Iterator[World]:
    with postgres_world(postgres, url=database_url, threads=4) as running:
        yield running


@pytest.fixture
def further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three schema versions more than there are."""
    head = revisions()[-1]
    copy = tmp_path / "migrations"
    shutil.copytree(migrations.MIGRATIONS, copy)
    (copy / "versions" / "9001.py").write_text(EXPAND.format(head=head), encoding="utf-8")
    (copy / "versions" / "9002.py").write_text(INDEX, encoding="utf-8")
    (copy / "versions" / "9003.py").write_text(AFTER, encoding="utf-8")
    monkeypatch.setattr(migrations, "MIGRATIONS", copy)


@contextmanager
def reader(url: str) -> Iterator[tuple[Connection, int]]:
    """A transaction, and its process, that has read the record and goes on, as an export or a backup does."""
    engine = create_engine(url, isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        connection.execute(text("SELECT count(*) FROM interactions"))
        yield connection, int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
    engine.dispose()


def columns(url: str) -> set[str]:
    with reader(url) as (connection, _):
        found = connection.execute(
            text("SELECT column_name FROM information_schema.columns WHERE table_name = 'interactions'")
        )
        return set(found.scalars())


def test_up_and_down_under_load_without_a_failed_call(world: World, database_url: str, further: None) -> None:
    before = columns(database_url)
    with Callers(world).calling() as callers:
        migrate(database_url)
        callers.until_calls(10)
        assert columns(database_url) - before == {"channel"}
        migrate(database_url, revision="-3")
    assert callers.failures == []
    assert callers.longest < LONGEST_CALL
    assert columns(database_url) == before
    for name in callers.acknowledged:
        assert world.call("RecordInteractions", record(interaction(name))).stored == 0


def test_an_index_that_was_broken_off_is_built_again_and_what_follows_waits_no_longer(
    database_url: str, further: None
) -> None:
    with connected(database_url) as connection:
        connection.execute(text("CREATE INDEX interactions_by_channel ON interactions (item_id)"))
    migrate(database_url)
    with connected(database_url) as connection:
        built = connection.execute(text("SELECT pg_get_indexdef('interactions_by_channel'::regclass)"))
        assert built.scalar_one().endswith("(channel, sequence)")
        noted = connection.execute(text("SELECT obj_description('interactions'::regclass)"))
        assert noted.scalar_one() == migrations.LOCK_WAIT


def test_a_change_waits_for_an_export_and_no_call_waits_for_the_change(
    world: World, database_url: str, further: None
) -> None:
    waits: list[str] = []
    with reader(database_url) as (export, process), Callers(world).calling() as callers:
        changing = threading.Thread(target=migrate, args=(database_url,), kwargs={"on_wait": waits.append})
        changing.start()
        until(lambda: len(waits) >= 2, "a change that waited twice")
        assert "channel" not in columns(database_url)
        export.rollback()
        changing.join(30)
        assert not changing.is_alive()
    assert callers.failures == []
    assert callers.longest < LONGEST_CALL
    assert f"process {process} " in waits[0]
    assert "channel" in columns(database_url)


def test_a_change_that_never_gets_its_tables_says_who_has_them(database_url: str, further: None) -> None:
    with reader(database_url) as (_, process), pytest.raises(Unavailable) as raised:
        migrate(database_url, patience=0.0)
    assert f"in use by process {process} " in raised.value.message
    assert "channel" not in columns(database_url)
    migrate(database_url)
    assert "channel" in columns(database_url)
