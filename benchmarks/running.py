"""One benchmark as a process of its own: its limit, its log, and what is said of its results."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import Better, Target, about

if TYPE_CHECKING:
    from benchmarks.catalogue import Benchmark, Size

TIDY_SECONDS = 60.0
"""What a benchmark has, once it is told to end, to stop its processes and remove its folders."""
TOLD_OF_A_FAULT = 12
"""Lines of the log."""


class Outcome(StrEnum):
    """How a run ended."""

    MEASURED = "measured"
    FAILED = "failed"
    TOO_LONG = "too long"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Places:
    """Where runs find and leave things.

    Parameters
    ----------
    results
        Takes NAME.json and NAME.log of each run.
    datasets
        A folder of data sets; None: what needs one is left out.
    kept
        Takes what full runs keep for the next one; None: nothing is kept.
    """

    results: Path
    datasets: Path | None = None
    kept: Path | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one run; `detail` says why it is not measured, `report` is what it left."""

    name: str
    outcome: Outcome
    seconds: float = 0.0
    detail: str = ""
    targets: tuple[Target, ...] = ()
    report: Path | None = None


def run(benchmark: Benchmark, size: Size, places: Places) -> Run:
    """Run a benchmark; its results replace earlier ones once it ended by itself.

    Raises
    ------
    KeyboardInterrupt
        As it came, after the benchmark stopped its processes.
    """
    if benchmark.needs_datasets(size) and places.datasets is None:
        return Run(benchmark.name, Outcome.LEFT_OUT, detail="no folder of data sets is named")
    places.results.mkdir(parents=True, exist_ok=True)
    new, log = (places.results / f"{benchmark.name}.{end}" for end in ("new", "log"))
    new.unlink(missing_ok=True)
    arguments = benchmark.arguments(size, datasets=places.datasets, kept=places.kept)
    limit = benchmark.limit(size)
    began = time.monotonic()
    code = _ended(["-m", f"benchmarks.{benchmark.name}", *arguments, "--out", str(new)], log, limit)
    seconds = time.monotonic() - began
    if code is None:
        new.unlink(missing_ok=True)
        return Run(benchmark.name, Outcome.TOO_LONG, seconds, detail=f"ended after {limit:.0f} s")
    whole = _report(new)
    if whole is None:
        return Run(benchmark.name, Outcome.FAILED, seconds, detail=_told(code, log))
    whole |= {"size": str(size), "command": _command(benchmark, size, places), "seconds": round(seconds, 1)}
    new.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    report = new.replace(places.results / f"{benchmark.name}.json")
    outcome, detail = (Outcome.FAILED, _told(code, log)) if code else (Outcome.MEASURED, "")
    return Run(benchmark.name, outcome, seconds, detail, targets_of(whole), report)


def targets_of(whole: dict[str, Any]) -> tuple[Target, ...]:
    """Return the targets of a report that was read."""
    return tuple(Target(**{**each, "better": Better(each["better"])}) for each in whole["targets"])


def _ended(arguments: list[str], log: Path, limit: float) -> int | None:
    """Return the exit code, None if the limit was reached; nothing of it runs any more."""
    with log.open("wb") as said:
        child = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, *arguments],
            stdout=said,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends it in order
        )
        try:
            return child.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if child.poll() is None:
                _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a benchmark as Ctrl-C does, so that it stops what it started; by force if it does not."""
    child.send_signal(signal.SIGINT)
    try:
        child.wait(TIDY_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _report(path: Path) -> dict[str, Any] | None:
    """Return the report that was written; figures that stand alone become one."""
    if not path.is_file():
        return None
    whole: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return whole if "figures" in whole else {**about(), "figures": whole, "targets": []}


def _command(benchmark: Benchmark, size: Size, places: Places) -> str:
    """Return what was run, with a word for the folder of data sets."""
    datasets = None if places.datasets is None else Path("DATASETS")
    arguments = benchmark.arguments(size, datasets=datasets, kept=None)
    return shlex.join(["python", "-m", f"benchmarks.{benchmark.name}", *arguments])


def _told(code: int, log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([f"exit code {code}", *lines[-TOLD_OF_A_FAULT:]])
