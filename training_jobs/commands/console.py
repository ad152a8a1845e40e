"""The console that every command prints to."""

from __future__ import annotations

import os
import sys

from rich.console import Console

LOG_WIDTH = 180
"""Of a job's log, in columns: nobody widens that, and a table cut to 80 loses the names of releases."""

console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else LOG_WIDTH)
