"""What processes use, as the kernel counts it: processor seconds and memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psutil

Pids = Mapping[str, list[int]]
"""Processes by the name they are reported under; children of each count with it."""


def processor_seconds(pids: Pids) -> dict[str, float]:
    """Return the seconds of processor time used so far, by name; children that ended count too."""
    return {name: sum(map(_seconds, own)) for name, own in pids.items()}


def memory_mb(pids: Pids) -> dict[str, float]:
    """Return the proportional share of memory (PSS), by name, in 10^6 bytes."""
    return {name: round(_sum(own, "Pss:"), 1) for name, own in pids.items()}


def own_memory_mb(pids: Pids) -> dict[str, float]:
    """Return what is no file's and nobody else's, by name, in 10^6 bytes: what a leak grows."""
    return {name: round(_sum(own, "Anonymous:"), 1) for name, own in pids.items()}


def _seconds(pid: int) -> float:
    process = psutil.Process(pid)
    own = process.cpu_times()
    alive = 0.0
    for child in process.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        alive += times.user + times.system
    return float(own.user + own.system + own.children_user + own.children_system + alive)


def _sum(pids: list[int], line: str) -> float:
    everyone = [*pids, *(child.pid for pid in pids for child in psutil.Process(pid).children(recursive=True))]
    return sum(_kilobytes(pid, line) for pid in everyone) * 1024 / 1e6


def _kilobytes(pid: int, line: str) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0  # ended meanwhile
    return next(int(each.split()[1]) for each in rollup.splitlines() if each.startswith(line))
