"""A process that ends at once ends with the code it would have had, and with all it said."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import atexit, sys
from training_jobs.ending import end_at_once
atexit.register(print, "the interpreter's end")
def main():
    print("said")
    {ends}
end_at_once(main)
"""


@pytest.mark.parametrize(
    ("ends", "code", "told"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('why')", 1, "why"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt"),
    ],
)
def test_a_process_ends_with_its_code_and_what_it_said(ends: str, code: int, told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(ends=ends)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (code, "said\n")
    assert told in done.stderr
