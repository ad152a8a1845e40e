"""What a process does about its memory, in processes of their own: none of it can be taken back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

HEAPS = """
import json, re, threading
from pathlib import Path
from matchloop import heap
if {share}: heap.share_arenas()
meet = threading.Barrier(7)
def work():
    kept = [bytes(4096) for _ in range(100)]
    meet.wait(10); meet.wait(10)
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads: thread.start()
meet.wait(10)
starts = [int(line.split('-')[0], 16) for line in Path('/proc/self/maps').read_text().splitlines()
          if ' rw-p 00000000 00:00 0' in line]
print(json.dumps(sum(start % 2**26 == 0 for start in starts)))
meet.wait(10)
"""
"""Counts what glibc gives threads for heaps: 64 MB each, at a multiple of that."""

SETTLED = """
import gc, json
from matchloop import heap
class Knot: pass
there = [Knot() for _ in range(5000)]
heap.settle()
print(json.dumps([gc.get_freeze_count(), sum(isinstance(each, Knot) for each in gc.get_objects())]))
"""


def run(script: str, **environment: str) -> Any:
    inherited = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="heaps are told by /proc")
def test_threads_share_two_heaps() -> None:
    # One of the two is the main thread's, which lies elsewhere.
    assert run(HEAPS.format(share=True)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="heaps are told by /proc")
def test_otherwise_each_thread_has_one() -> None:
    assert run(HEAPS.format(share=False)) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="heaps are told by /proc")
def test_what_the_environment_says_of_heaps_holds() -> None:
    assert run(HEAPS.format(share=True), MALLOC_ARENA_MAX="4") == 3


def test_what_is_there_is_not_looked_at_for_garbage_again() -> None:
    frozen, seen = run(SETTLED)
    assert frozen > 5000
    assert seen == 0
