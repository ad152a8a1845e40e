"""Does swapping a release slow requests down? ``python -m benchmarks.reload --out FILE.json``.

A stack of real processes serves `Recommend` at a bounded rate. A release is promoted; both services fetch,
verify, load and swap it in while requests go on; again and again, over three releases, so that each has to
be loaded anew. `reload_p99_ratio` holds the p99 of all requests between promotion and both services serving
it against the p99 of those in as many seconds just after; its range is that of groups of swaps. Beside it
stands what a swap costs each service, in milliseconds of a processor. Takes about five minutes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import typer
from rich.console import Console

from benchmarks.report import Better, Out, Target, about, targets_table, write_report
from matchloop.candidate.v1.candidate_service_pb2 import GetCandidatesRequest
from matchloop.errors import Unavailable
from matchloop.ranking.v1.ranking_service_pb2 import RecommendRequest
from matchloop.release import CHAMPION, Manifest, MlflowRegistry, write_golden
from matchloop.release.gentle import give_way
from matchloop.release.golden import read_golden
from matchloop.rerank.scorer import PART, Ranker
from matchloop.testing.releases import write_ranker
from matchloop.usecase import load_use_cases
from playground.clients import Clients
from playground.demo.training import Trainer
from playground.load import load_market
from playground.market import Market
from playground.stack import Ports, Stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matchloop.usecase import UseCase

USE_CASE = "developer_startup"
RELEASES = 3
"""Services keep two in memory, so the third is always loaded."""
BOUND = 1.5
_PICK_UP_SECONDS = 30.0
_TIMEOUT = 10.0

console = Console()


@dataclass
class Load:
    """Requests at a bounded rate from threads of their own, until closed; each one's begin and time taken.

    Parameters
    ----------
    rate
        Requests a second, all threads together; a thread that is late does not catch up.
    """

    clients: Clients
    subjects: Sequence[str]
    rate: float
    threads: int = 4
    spent: list[tuple[float, float]] = field(default_factory=list)
    failed: int = 0

    def __enter__(self) -> Load:
        self._closed = threading.Event()
        self._running = [threading.Thread(target=self._run, args=(n,)) for n in range(self.threads)]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        for thread in self._running:
            thread.join()

    def between(self, begin: float, end: float) -> list[float]:
        """Return the milliseconds of the requests that ran in a span of time."""
        return [spent * 1000.0 for began, spent in self.spent if began + spent >= begin and began < end]

    def _run(self, number: int) -> None:
        rng = np.random.default_rng(number)
        pause = self.threads / self.rate
        next_at = time.perf_counter() + pause * number / self.threads
        while not self._closed.wait(max(0.0, next_at - time.perf_counter())):
            subject = self.subjects[int(rng.integers(len(self.subjects)))]
            began = time.perf_counter()
            request = RecommendRequest(use_case=USE_CASE, subject_id=subject, count=10, preview=True)
            try:
                self.clients.ranking.Recommend(request, timeout=_TIMEOUT)
            except Exception:  # noqa: BLE001 - a failed request is counted, and the figures say so
                self.failed += 1
            self.spent.append((began, time.perf_counter() - began))
            next_at = max(next_at + pause, time.perf_counter())


def reload_figures(
    folder: Path | None = None, *, groups: int = 5, swaps: int = 8, rate: float = 40.0
) -> tuple[Target, dict[str, object]]:
    """Measure `reload_p99_ratio`.

    Parameters
    ----------
    folder
        For the stack; None: a folder that goes.
    groups, swaps
        So many groups of so many swaps.
    rate
        Requests a second.

    Returns
    -------
    The target, and what it is made of: p50 and p99 without and during swaps in milliseconds, over all and by
    group; requests and failures.
    """
    with tempfile.TemporaryDirectory(prefix="reload-") as scratch:
        Path(scratch).chmod(0o755)
        where = (folder or Path(scratch)) / "stack"
        use_case = load_use_cases()[USE_CASE]
        with Stack(where, ports=Ports.free(), poll_seconds=0.5) as stack, stack.clients() as clients:
            subjects = _loaded(clients)
            versions = _registered(stack, clients, use_case, Path(scratch))
            with Load(clients, subjects, rate) as load, _promoter() as promoter:
                swapping = Swapping(stack, clients, load, promoter, versions)
                swapping.warm_up()
                found = [swapping.group(first=group * swaps, swaps=swaps) for group in range(groups)]
    parted, whole = [each.figures() for each in found], Spent.pooled(found).figures()
    ratios = [each["p99_ratio"] for each in parted]
    target = Target("reload_p99_ratio", whole["p99_ratio"], BOUND, Better.LOWER, min(ratios), max(ratios))
    told = {"requests": len(load.spent), "failed": load.failed, "rate": rate}
    return target, {"whole": whole, "groups": parted, "swap_cpu_ms": swapping.cpu_ms(), **told}


def _loaded(clients: Clients) -> list[str]:
    market = Market.generated(load_use_cases(), seed=7, now=datetime.now(UTC)).only((USE_CASE,))
    load_market(clients, market, np.random.default_rng(7), console)
    return market.panel(USE_CASE, 200, np.random.default_rng(7))


def _registered(stack: Stack, clients: Clients, use_case: UseCase, scratch: Path) -> list[tuple[str, str]]:
    """Train a release, and register three like it, with a ranker; return (release, version)."""
    trainer = Trainer(stack, clients)
    trainer.retrain(USE_CASE, trainer.snapshot())
    registry = MlflowRegistry(stack.registry_uri)
    trained = registry.resolve(USE_CASE, CHAMPION)
    assert trained is not None
    source = registry.fetch(trained, scratch / "fetched")
    manifest, found = Manifest.read(source), []
    for number in range(RELEASES):
        folder = scratch / f"release{number}"
        shutil.copytree(source, folder)
        rng = np.random.default_rng(number)
        write_ranker(folder / PART, use_case, rng)
        ranker = Ranker.load(folder / PART, use_case)
        write_golden(folder, {**read_golden(source), PART: ranker.golden_case(rng)})
        (folder / "manifest.json").unlink()
        Manifest.write(
            folder,
            release=f"reload{number}",
            use_case=use_case,
            created=manifest.created,
            snapshot=manifest.snapshot,
            parts=[*(part for part in manifest.parts if part != PART), PART],
            metrics=manifest.metrics,
        )
        known = registry.register(folder, USE_CASE, run_id=None, metrics={})
        found.append((known.release, known.version))
    return found


@dataclass(frozen=True, slots=True)
class Spent:
    """Milliseconds of requests while nothing was swapped, and while something was."""

    before: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)

    @classmethod
    def pooled(cls, groups: Sequence[Spent]) -> Spent:
        """Put together what several groups spent."""
        return cls([x for each in groups for x in each.before], [x for each in groups for x in each.during])

    def figures(self) -> dict[str, float]:
        """Return percentiles of both, and how one is to the other."""
        found: dict[str, float] = {}
        for q in (50, 99):
            quiet, swapping = (float(np.percentile(each, q)) for each in (self.before, self.during))
            found |= {f"p{q}_before": quiet, f"p{q}_during": swapping, f"p{q}_ratio": swapping / quiet}
        return {**found, "requests_before": len(self.before), "requests_during": len(self.during)}


@dataclass
class Swapping:
    """Promotes one release after the other under load, each followed by as much time without a swap."""

    stack: Stack
    clients: Clients
    load: Load
    promoter: ProcessPoolExecutor
    versions: Sequence[tuple[str, str]]
    cost: list[dict[str, float]] = field(default_factory=list)

    def warm_up(self) -> None:
        """Swap to the last release, uncounted: who promotes has imported by then what that takes."""
        self.group(first=RELEASES - 1, swaps=1)
        self.cost.clear()

    def group(self, *, first: int, swaps: int) -> Spent:
        """Swap so many times, beginning with the release of that place."""
        found = Spent()
        for number in range(first, first + swaps):
            release, version = self.versions[number % RELEASES]
            begin, worked = time.perf_counter(), self._worked()
            self.promoter.submit(_promote, self.stack.registry_uri, version).result()
            end = _picked_up(self.clients, release)
            swapped = self._worked()
            found.during.extend(self.load.between(begin, end))
            time.sleep(0.5)  # what the swap left behind is over
            quiet_begin, idle = time.perf_counter(), self._worked()
            _quiet(self.clients, seconds=end - begin)
            rested = self._worked()
            found.before.extend(self.load.between(quiet_begin, time.perf_counter()))
            self.cost.append(
                {name: swapped[name] - worked[name] - rested[name] + idle[name] for name in worked}
            )
        return found

    def cpu_ms(self) -> dict[str, float]:
        """Return what a swap costs by process, in milliseconds of a processor, beyond what requests cost."""
        return {name: 1000.0 * float(np.mean([each[name] for each in self.cost])) for name in self.cost[0]}

    def _worked(self) -> dict[str, float]:
        """Return seconds of a processor so far, by service, and by what each started."""
        found: dict[str, float] = {}
        for service in (self.stack.candidate, self.stack.ranking):
            assert service is not None
            process = psutil.Process(service.pid)
            found[service.name] = sum(process.cpu_times()[:2])
            children = [sum(child.cpu_times()[:2]) for child in process.children()]
            found[f"{service.name}'s children"] = sum(children, start=0.0)
        return found


def _promoter() -> ProcessPoolExecutor:
    """Return a process that promotes: it must not take the interpreter from the threads that are timed.

    Nor their cores: who promotes does so from another machine.
    """
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=_stand_aside)


def _stand_aside() -> None:
    os.setsid()  # out of the client's group, within which alone niceness may count
    give_way(19)


@cache
def _registry(uri: str) -> MlflowRegistry:
    return MlflowRegistry(uri)


def _promote(uri: str, version: str) -> None:
    _registry(uri).set_alias(USE_CASE, CHAMPION, version)


def _picked_up(clients: Clients, release: str) -> float:
    """Ask both services what they serve, a little at a time, until both serve `release`; return when."""
    for served in _asked(clients, seconds=_PICK_UP_SECONDS):
        if served == {release}:
            return time.perf_counter()
    raise Unavailable(f"{release} was not picked up in {_PICK_UP_SECONDS:g} s")


def _quiet(clients: Clients, *, seconds: float) -> None:
    """Ask the same for as long as a swap takes, while nothing is swapped."""
    for _ in _asked(clients, seconds=seconds):
        pass


def _asked(clients: Clients, *, seconds: float) -> Iterator[set[str]]:
    give_up = time.perf_counter() + seconds
    while time.perf_counter() < give_up:
        recommend = RecommendRequest(use_case=USE_CASE, subject_id="nobody", count=1, preview=True)
        candidates = GetCandidatesRequest(use_case=USE_CASE, subject_id="nobody", count=1)
        yield {
            clients.ranking.Recommend(recommend, timeout=_TIMEOUT).release,
            clients.candidate.GetCandidates(candidates, timeout=_TIMEOUT).release,
        }
        time.sleep(0.05)


def main(
    out: Out = None,
    groups: int = 5,
    swaps: int = 8,
    rate: float = 40.0,
) -> None:
    """Measure, print, write."""
    told = about()
    target, figures = reload_figures(groups=groups, swaps=swaps, rate=rate)
    console.print(targets_table("reload", [target]), figures)
    write_report(out, told, {"reload": figures}, [target])


if __name__ == "__main__":
    typer.run(main)
