"""A backup of the record holds what was acknowledged before it, and comes back whole or is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
from sqlalchemy import text
from typer.testing import CliRunner

from feedback_svc import restore as command
from feedback_svc.backup.contents import CONTENTS_FILE, DUMP_FOLDER, Backup, entries_of
from feedback_svc.backup.erasures import erase_again
from feedback_svc.backup.make import back_up, backups_in
from feedback_svc.backup.restore import restore
from feedback_svc.export import export
from feedback_svc.migrate import migrate, revisions
from matchloop.catalog.v1.catalog_service_pb2 import EraseEntityRequest
from matchloop.catalog.v1.entity_pb2 import EntityKey
from matchloop.errors import BackupRefused, Conflict, Reason, Unavailable
from matchloop.feedback.v1.feedback_service_pb2 import GetSessionRequest
from matchloop.observe.job_metrics import ADDRESS
from matchloop.rpc.validation import utc_now
from matchloop.snapshot import read_snapshot
from playground.postgres import EmbeddedPostgres
from tests.e2e.waiting import until
from tests.feedback_callers import Callers
from tests.feedback_rpc_world import (
    World,
    interaction,
    item,
    postgres_world,
    record,
    reject,
    rejection,
    session,
    show,
    startup,
    upsert,
)
from tests.integration.test_feedback_migrations import FILL, connected
from tests.pushes import pushes

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def world(postgres: EmbeddedPostgres, database_url: str) -> Iterator[World]:
    with postgres_world(postgres, url=database_url, threads=4) as running:
        yield running


@pytest.fixture
def empty(postgres: EmbeddedPostgres, database_url: str) -> Iterator[str]:
    """A database that nothing was done to."""
    name = f"{urlsplit(database_url).path.removeprefix('/')}_empty"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def folder(database_url: str, tmp_path: Path) -> Path:
    """A backup of an empty record."""
    return back_up(database_url, tmp_path / "backups", clock=utc_now)[0]


def ids(url: str, statement: str) -> list[Any]:
    """Return what a statement of one column says."""
    with connected(url) as connection:
        return list(connection.execute(text(statement)).scalars())


def tables(url: str) -> list[str]:
    return ids(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")


def run(module: str, *arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | {"FEEDBACK_DATABASE_URL": url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def restored(*arguments: str, url: str) -> str:
    """Run the command in this process; return what it prints."""
    app = typer.Typer()
    app.command()(command.main)
    done = CliRunner(env={"FEEDBACK_DATABASE_URL": url}).invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_was_acknowledged_before_a_backup_under_load_comes_back(
    world: World, postgres: EmbeddedPostgres, database_url: str, empty: str, tmp_path: Path
) -> None:
    with Callers(world).calling() as callers:
        world.call("RecordDislike", reject(rejection("disliked")))
        before = list(callers.acknowledged)
        with pushes() as gateway, pytest.MonkeyPatch.context() as environment:
            environment.setenv(ADDRESS, gateway.url)
            made = run("feedback_svc.backup", "--into", str(tmp_path), "--jobs", "2", url=database_url)
        assert made.returncode == 0, made.stderr
        assert gateway.of("matchloop-backup")["matchloop_job_failed", ()] == 0.0
    assert callers.failures == []
    (backup,) = backups_in(tmp_path)
    assert made.stdout.startswith(f"{backup}: ")

    # A service is there already: whatever it is asked before all is back, it refuses.
    with postgres_world(postgres, url=empty, threads=4) as restored:
        with Callers(restored, name="after").calling() as late:
            done = run("feedback_svc.restore", str(backup), url=empty)
            assert done.returncode == 0, done.stderr
            until(lambda: late.acknowledged, "a write after all is back")
        assert late.reasons == {Reason.STORE_UNAVAILABLE}
        again = record(*(interaction(name) for name in before[-100:]))
        assert restored.call("RecordInteractions", again).stored == 0
        shown = restored.call("GetSession", GetSessionRequest(session_id=f"x{before[-1]}"))
        assert len(shown.session.items) == 2
    stored = ids(empty, "SELECT interaction_id FROM interactions")
    assert len(stored) == Backup.read(backup).rows["interactions"] + len(late.acknowledged)
    assert {*before, *late.acknowledged, "disliked"} <= set(stored)
    assert ids(empty, "SELECT dislike_id FROM dislikes") == ["disliked"]
    assert {f"i{name}" for name in before} <= set(ids(empty, "SELECT id FROM entities"))
    assert {f"x{name}" for name in before} <= set(ids(empty, "SELECT session_id FROM sessions"))
    (behind,) = ids(empty, "SELECT max(sequence) FROM interactions WHERE interaction_id NOT LIKE 'after%'")
    (ahead,) = ids(empty, "SELECT min(sequence) FROM interactions WHERE interaction_id LIKE 'after%'")
    assert behind < ahead
    history = "SELECT history FROM record_history"
    assert ids(empty, history) != ids(database_url, history)
    assert "erasures since" in done.stdout


def test_a_backup_of_an_older_schema_comes_back_in_this_one(
    postgres: EmbeddedPostgres, empty: str, tmp_path: Path
) -> None:
    older = postgres.create_database("backup_of_the_first")
    migrate(older, revision="0001")
    with connected(older) as connection:
        connection.exec_driver_sql(FILL.replace("%", "%%"))
    made, _ = back_up(older, tmp_path, clock=utc_now)
    assert restore(empty, made, jobs=2).revision == "0001"
    assert ids(empty, "SELECT version_num FROM alembic_version") == [revisions()[-1]]
    count = "SELECT count(*) FROM interactions"
    assert ids(empty, count) == ids(older, count)
    assert ids(empty, "SELECT change_now() > max(sequence) >> 9 FROM interactions") == [True]
    postgres.drop_database("backup_of_the_first")


def erase(world: World, id_: str) -> None:
    world.call("EraseEntity", EraseEntityRequest(key=EntityKey(kind="startup", id=id_)))


def test_who_was_erased_after_the_backup_is_erased_again(
    world: World, postgres: EmbeddedPostgres, database_url: str, empty: str, tmp_path: Path
) -> None:
    erase(world, "back")
    world.now += timedelta(hours=1)
    world.call("UpsertEntities", upsert(*(startup(id_) for id_ in ("back", "gone", "stays"))))
    for id_ in ("back", "gone", "stays", "listed"):
        world.call("RecordInteractions", record(interaction(id_, item_id=id_)))
    world.call("RecordSessions", show(session("x", items=[item("listed"), item("stays")])))
    made, _ = back_up(database_url, tmp_path, clock=utc_now)
    for id_ in ("gone", "listed", "unheard_of"):
        erase(world, id_)
    export(database_url, tmp_path / "snapshot", now=world.now)
    told = restored(str(made), "--erased", str(tmp_path / "snapshot"), url=empty)
    assert "erased again: 3, as " in told
    assert ids(empty, "SELECT id FROM entities ORDER BY 1") == ["back", "stays"]
    assert ids(empty, "SELECT item_id FROM interactions ORDER BY 1") == ["back", "stays"]
    assert ids(empty, "SELECT item_ids FROM sessions") == [["stays"]]
    when = "SELECT id_hash || erase_time FROM tombstones ORDER BY 1"
    assert ids(empty, when) == ids(database_url, when)
    assert erase_again(empty, read_snapshot(tmp_path / "snapshot")) == 0


def largest(folder: Path) -> Path:
    return max((folder / DUMP_FOLDER).iterdir(), key=lambda path: path.stat().st_size)


def flip(folder: Path) -> None:
    content = bytearray(largest(folder).read_bytes())
    content[len(content) // 2] ^= 1
    largest(folder).write_bytes(content)


def shorten(folder: Path) -> None:
    largest(folder).write_bytes(largest(folder).read_bytes()[:-1])


def remake(folder: Path, **changed: object) -> None:
    backup = Backup.read(folder)
    backup.model_copy(update=changed).write(folder)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flip, "toc.dat: SHA-256"),
        (shorten, r"toc.dat: \d+ bytes instead of"),
        (lambda folder: largest(folder).unlink(), "toc.dat: missing"),
        (lambda folder: (folder / "more").write_text(""), "more: was not there"),
        (lambda folder: (folder / CONTENTS_FILE).unlink(), "no backup.json, so no backup"),
        (lambda folder: (folder / CONTENTS_FILE).write_text("{}"), "backup.json: "),
        (lambda folder: remake(folder, revision="9999"), "has schema 9999, this release knows up to"),
        (lambda folder: remake(folder, postgres=99), "is of PostgreSQL 99, this server is of"),
    ],
)
def test_a_backup_that_cannot_be_restored_is_refused_before_anything_is_done(
    damage: Callable[[Path], object], told: str, folder: Path, empty: str
) -> None:
    damage(folder)
    with pytest.raises(BackupRefused, match=told):
        restore(empty, folder)
    assert tables(empty) == []


def test_only_an_empty_database_is_restored_to(folder: Path, database_url: str, world: World) -> None:
    world.call("RecordInteractions", record(interaction("kept")))
    with pytest.raises(BackupRefused, match="not empty, it has acts, alembic_version"):
        restore(database_url, folder)
    assert world.call("RecordInteractions", record(interaction("kept"))).stored == 0


def test_what_fails_on_the_way_leaves_the_database_empty_and_writable(folder: Path, empty: str) -> None:
    toc = folder / DUMP_FOLDER / "toc.dat"
    whole = toc.read_bytes()
    toc.write_bytes(whole.replace(b"CREATE INDEX ", b"CREATE INDIX ", 1))
    written = Backup.model_validate_json((folder / CONTENTS_FILE).read_bytes())
    written.model_copy(update={"files": entries_of(folder)}).write(folder)
    with pytest.raises(Unavailable, match="INDIX"):
        restore(empty, folder)
    assert tables(empty) == []
    toc.write_bytes(whole)
    written.write(folder)
    restore(empty, folder)
    with connected(empty) as connection:
        connection.execute(text("INSERT INTO leases VALUES ('a', 'b', now(), now())"))


def test_rows_that_are_missing_in_the_end_leave_the_database_read_only(folder: Path, empty: str) -> None:
    remake(folder, rows={**Backup.read(folder).rows, "interactions": 7})
    with pytest.raises(BackupRefused, match="interactions has 0 rows instead of 7"):
        restore(empty, folder)
    assert ids(empty, "SHOW default_transaction_read_only") == ["on"]


def test_a_backup_appears_whole_or_not_at_all(
    database_url: str, empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackupRefused, match=r"holds no record: run python -m feedback_svc\.migrate"):
        back_up(empty, tmp_path, clock=utc_now)
    leftovers = list(tmp_path.iterdir())
    assert leftovers != []
    assert backups_in(tmp_path) == []
    made = [back_up(database_url, tmp_path, clock=utc_now, keep=2)[0] for _ in range(3)]
    assert sorted(tmp_path.iterdir()) == made[1:]
    assert restored(str(made[2]), "--check", url="") == f"{made[2]}: 3 rows, whole\n"


def test_one_backup_at_a_time_goes_to_a_folder(database_url: str, tmp_path: Path) -> None:
    def clock_of_the_first() -> object:
        with pytest.raises(Conflict, match="another backup is being written"):
            back_up(database_url, tmp_path, clock=utc_now)
        return utc_now()

    back_up(database_url, tmp_path, clock=clock_of_the_first)  # type: ignore[arg-type]
    assert len(backups_in(tmp_path)) == 1
