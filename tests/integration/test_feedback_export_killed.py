"""An export killed in the middle leaves the snapshot before it; the next one goes on where it was."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from matchloop.snapshot import read_snapshot
from tests.export_world import ERASE, INTERACTIONS, World, world
from tests.feedback_worlds import NOW, shown

__all__ = ["world"]

pytestmark = pytest.mark.processes

HANGING = """
import sys, time
from datetime import datetime, UTC
from pathlib import Path
from feedback_svc.export import export
from matchloop.snapshot import TableName
told = []
def advance(table, rows):
    told.append(table)
    if len(told) == int(sys.argv[3]):
        print("here", flush=True)
        time.sleep(60)
export(sys.argv[1], Path(sys.argv[2]), now=datetime.now(UTC), advance=advance,
    part_rows={TableName.INTERACTIONS: 10, TableName.SESSIONS: 4})
"""


def killed_after(world: World, blocks: int) -> None:
    """Start an export in a process of its own and kill it when it has read so many blocks."""
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, world.url, str(world.out), str(blocks)],
        stdout=subprocess.PIPE,
        env=os.environ,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.kill()
    process.wait(10)
    process.stdout.close()


@pytest.mark.parametrize(("blocks", "kept"), [(1, 0), (3, 20), (6, 40)])
def test_a_killed_export_goes_on_where_it_was(world: World, blocks: int, kept: int) -> None:
    killed_after(world, blocks)
    world.interact(90)
    exported = world.export()
    world.check(exported)
    assert exported.rows_kept(INTERACTIONS) == kept


def test_a_killed_continuation_leaves_the_snapshot_and_goes_on(world: World) -> None:
    before = world.export().manifest
    world.run(ERASE)
    world.interact(*range(90, 105))
    killed_after(world, 2)
    assert read_snapshot(world.out).manifest == before
    world.store.record_sessions([shown("late-30")], now=NOW)
    exported = world.export()
    world.check(exported)
    # Of 15 new ones and the part of 8 that lost 2, the export that was killed had the part.
    assert exported.rows_read[INTERACTIONS] == 15 + 10
