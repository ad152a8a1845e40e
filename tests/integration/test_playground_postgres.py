"""The embedded PostgreSQL ends with its parent and starts again on what it finds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from matchloop.errors import Unavailable
from playground.postgres import EmbeddedPostgres

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
PARENT = """
import sys
from pathlib import Path
from playground.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


def parent_on(folder: Path) -> tuple[subprocess.Popen[str], psutil.Process]:
    parent = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PARENT, str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    return parent, psutil.Process(int(parent.stdout.readline()))


def close(parent: subprocess.Popen[str]) -> None:
    parent.kill()
    parent.wait(10)
    for stream in (parent.stdin, parent.stdout):
        if stream is not None:
            stream.close()


def test_it_ends_with_a_killed_parent_and_keeps_what_was_committed(server_folder: Path) -> None:
    folder = server_folder / "data"
    parent, server = parent_on(folder)
    with pytest.raises(Unavailable, match="in use"):
        EmbeddedPostgres(folder).start()
    close(parent)
    with EmbeddedPostgres(folder) as again:
        assert not server.is_running()
        assert again.create_database("kept").endswith("port=5432")
    with EmbeddedPostgres(folder) as third:
        assert third.pid is not None
    assert third.pid is None


def test_a_stale_pid_file_of_a_living_stranger_is_no_obstacle(server_folder: Path) -> None:
    folder = server_folder / "data"
    with EmbeddedPostgres(folder) as server:
        lines = (folder / "postmaster.pid").read_text().splitlines()
    lines[0] = str(os.getpid())
    (folder / "postmaster.pid").write_text("\n".join(lines))
    with server:
        assert server.pid is not None


def test_an_orphan_whose_watchdog_died_too_is_stopped_first(server_folder: Path) -> None:
    folder = server_folder / "data"
    parent, server = parent_on(folder)
    children = psutil.Process(parent.pid).children()
    (watchdog,) = [child for child in children if child.pid != server.pid]
    watchdog.kill()
    close(parent)
    assert server.is_running()
    with EmbeddedPostgres(folder) as again:
        assert not server.is_running()
        assert again.pid != server.pid


def test_a_long_path_is_no_obstacle(server_folder: Path) -> None:
    folder = server_folder / ("x" * 60) / ("y" * 60)
    with EmbeddedPostgres(folder) as server:
        assert "matchloop-" in server.url()
        server.create_database("reachable")


def watchdogs(folder: Path) -> list[int]:
    """Process ids of the servers that this process's watchdogs are to end."""
    lines = [child.cmdline() for child in psutil.Process().children()]
    own = [int(line[-1]) for line in lines if "matchloop-postgres-watchdog" in line]
    return [pid for pid in own if not psutil.pid_exists(pid) or str(folder) in psutil.Process(pid).cmdline()]


def test_a_killed_server_is_started_again_and_watched_by_one_watchdog(server_folder: Path) -> None:
    folder = server_folder / "data"
    with EmbeddedPostgres(folder) as server:
        server.create_database("kept")
        process = psutil.Process(server.pid)
        tree = [process, *process.children(recursive=True)]
        for each in tree:
            each.kill()
        psutil.wait_procs(tree, timeout=10)
        server.start()
        server.drop_database("kept")
        assert watchdogs(folder) == [server.pid]
